import type session = require('../index')
import { destroyed } from '../base/errors'
import { InThisProcess } from './in-this-process'
import { afterwards, isPromise, type MaybePromise } from '../base/maybe-promise'
import type { Session } from '../session/session'
import { checkedData } from './store'
import type { AccessSettings, Found, Saved, StoreAccess, Stored } from './store-access'
import { callStore } from './store-call'

type SessionData = session.SessionData

/** Access by the classic contract: the last writer wins. What other requests of this process do is taken into account. */
export class ClassicAccess implements StoreAccess {
  readonly #store: session.Store
  readonly #settings: AccessSettings
  readonly #process: InThisProcess

  constructor(store: session.Store, settings: AccessSettings) {
    this.#store = store
    this.#settings = settings
    this.#process = InThisProcess.of(store)
  }

  load(id: string): MaybePromise<Stored | null> {
    const since = this.#process.count
    const found = this.#call<SessionData | null | undefined>('get', [id])
    if (!isPromise(found)) return found ? { data: checkedData(id, found), since, process: this.#process } : null
    return found.then(
      (data) => (data ? { data: checkedData(id, data), since, process: this.#process } : null),
      (error: unknown) => {
        if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') return null
        throw error
      },
    )
  }

  find(id: string): MaybePromise<Found | null> {
    return afterwards(this.load(id), (stored) => stored && { id, stored })
  }

  dataOf(_id: string, stored: Stored): SessionData {
    return stored.data as SessionData
  }

  save(session: Session, dataText: string, from: Stored | null | undefined): MaybePromise<Saved> {
    const { id } = session
    return this.#process.turns.take(id, () => {
      if (from && this.#process.wasDestroyed(id, from.since)) throw destroyed(id)
      const since = this.#process.count
      return afterwards(this.#call('set', [id, session]), () => ({
        stored: { since, process: this.#process },
        dataText,
      }))
    })
  }

  touch(session: Session, stored: Stored | undefined): MaybePromise<void> {
    if (typeof this.#store.touch !== 'function') return
    const { id } = session
    return this.#process.turns.take(id, () => {
      if (!stored || !this.#process.wasDestroyed(id, stored.since)) return this.#call('touch', [id, session])
    })
  }

  destroy(id: string): MaybePromise<void> {
    this.#process.destroyed(id)
    // Noted once more when it is done, for requests that have loaded the session in the meantime.
    const done = this.#process.turns.take(id, () => this.#call('destroy', [id]))
    return afterwards(done, () => this.#process.destroyed(id))
  }

  #call<T = void>(method: 'get' | 'set' | 'touch' | 'destroy', args: unknown[]): MaybePromise<T> {
    return callStore<T>(this.#store, method, args, this.#settings.timeout)
  }
}
