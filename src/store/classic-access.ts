import { destroyed } from '../base/errors'
import { afterwards, isPromise, type MaybePromise } from '../base/maybe-promise'
import { callStore } from '../base/store-call'
import { Turns } from '../base/turns'
import type { SessionData } from '../session/augmented'
import { handToStore, restoreCookie } from '../session/cookie'
import { notesOf, setNotes, storedNotes, type SessionNotes } from '../session/notes'
import type { Session } from '../session/session'
import { Lives, type Life } from './lives'
import { checkedData, type Store } from './store'
import type { AccessSettings, Known, Parts, StoreAccess } from './access'

/** What this process knows of a classic store's sessions: shared by all middlewares of the store. */
class InThisProcess {
  static readonly #stores = new WeakMap<object, InThisProcess>()

  readonly lives = new Lives()
  /** Writers of one session take turns: many stores make a touch of a read and a write, which would undo a save. */
  readonly turns = new Turns<string>(new Map())

  static of(store: object): InThisProcess {
    let known = this.#stores.get(store)
    if (!known) this.#stores.set(store, (known = new InThisProcess()))
    return known
  }
}

/** Access by the classic contract: the last writer wins. What other requests of this process do is taken into account. */
export class ClassicAccess implements StoreAccess {
  readonly isExact = false
  readonly #store: Store
  readonly #process: InThisProcess
  readonly #handed: AccessSettings['handed']

  constructor(store: Store, handed: AccessSettings['handed']) {
    this.#store = store
    this.#handed = handed
    this.#process = InThisProcess.of(store)
  }

  load(key: string): MaybePromise<Known | null> {
    const life = this.#process.lives.of(key)
    const found = this.#call<SessionData | null | undefined>('get', [key])
    if (!isPromise(found)) return found ? knownAs(key, found, life) : null
    return found.then(
      (data) => (data ? knownAs(key, data, life) : null),
      (error: unknown) => {
        if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') return null
        throw error
      },
    )
  }

  dataOf(_key: string, known: Known): SessionData {
    return known.data as SessionData
  }

  partsOf(_key: string, known: Known): Parts {
    const { cookie, ...values } = known.data as SessionData
    const { expires } = cookie as { expires?: unknown }
    const end = typeof expires === 'string' ? new Date(expires) : (expires as Date)
    return { values, cookie: restoreCookie(cookie, end, known.notes) }
  }

  freshDataOf(known: Known): SessionData {
    return known.data as SessionData
  }

  write(session: Session, _dataText: string, known: Known | null | undefined): MaybePromise<Known> {
    const { id } = session
    return this.#process.turns.take(id, () => {
      if (known?.life?.isDestroyed) throw destroyed(id)
      const life = known?.life ?? this.#process.lives.of(id)
      keepToken(session, life)
      handToStore(session.cookie)
      const setting = this.#call('set', [id, session])
      this.#handed?.(session)
      return afterwards(setting, () => ({ notes: notesOf(session.cookie), life }))
    })
  }

  writeOver(session: Session, dataText: string): MaybePromise<Known> {
    return this.write(session, dataText, undefined)
  }

  touch(session: Session, known: Known | null | undefined): MaybePromise<boolean> {
    if (typeof this.#store.touch !== 'function') return false
    const { id } = session
    return this.#process.turns.take(id, () => {
      if (known?.life?.isDestroyed) return false
      if (known?.life) keepToken(session, known.life)
      handToStore(session.cookie)
      const touching = this.#call('touch', [id, session])
      this.#handed?.(session)
      return afterwards(touching, () => true)
    })
  }

  touchUnseen(): never {
    throw new Error('a classic store touches sessions, not records')
  }

  destroyKnown(key: string, known: Known | null | undefined): MaybePromise<SessionNotes | undefined> {
    return afterwards(this.destroy(key), () => known?.notes)
  }

  destroy(key: string): MaybePromise<void> {
    this.#process.lives.end(key)
    // Once more when it is done, for requests that have loaded the session in the meantime.
    const done = this.#process.turns.take(key, () => this.#call('destroy', [key]))
    return afterwards(done, () => this.#process.lives.end(key))
  }

  #call<T = void>(method: 'get' | 'set' | 'touch' | 'destroy', args: unknown[]): MaybePromise<T> {
    return callStore<T>(this.#store, method, args)
  }
}

function knownAs(key: string, found: SessionData, life: Life): Known {
  const data = checkedData(key, found)
  return { data, notes: storedNotes(data.cookie), life }
}

/** A request that has loaded the session before it got a new token would store the former one again. */
function keepToken(session: Session, life: Life): void {
  const notes = notesOf(session.cookie)
  const { renewed } = life
  if (notes?.token !== undefined && (notes.renewed ?? 0) >= (renewed?.renewed ?? 0)) life.renewed = notes
  else if (renewed) {
    const { token, former, shown, renewed: at } = renewed
    setNotes(session.cookie, JSON.parse(JSON.stringify({ ...notes, token, former, shown, renewed: at })) as object)
  }
}
