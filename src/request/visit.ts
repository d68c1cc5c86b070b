import type { Request } from 'express'
import createDebug = require('debug')
import { destroyedHere, SessionError, shortened, warnOnce } from '../base/errors'
import { afterwards, isPromise, rescue, type MaybePromise } from '../base/maybe-promise'
import { callStore } from '../base/store-call'
import type { NoteChange } from '../features/feature'
import type { CookieOptions } from '../session/cookie-options'
import { notedOf, unnoted } from '../session/noted'
import { missing, type LiveSession, type Session } from '../session/session'
import { serializeData } from '../session/text'
import { isReplaced, type GeneratingStore } from '../store/store'
import { admit, destroy, find } from './admit'
import { Claim } from './claim'
import { Comparison } from './comparison'
import { newSession, restoredSession, sessionOf, type Owner } from './making'
import { Place, type Pending } from './place'
import { save, type Stored } from './save'
import type { Settings, VisitedRequest } from './settings'
import type { Presented } from './signer'
import { bounded, duringUpdate, inTurn } from './turns'
import { update } from './update'

const debug = createDebug('express-session')

/** The `generate` methods that middlewares have given to stores. */
export const ownGenerates = new WeakSet<object>()

/**
 * What has become of a request's session:
 * - `unknown`: it is being loaded, or that failed
 * - `none`: there is none, and none is made, as there is no response
 * - `new`: the store does not have it, as far as is known
 * - `stored`: the store has it
 * - `shut out`: the client's token was replaced a moment ago; the session is an empty one that leaves no trace
 * - `destroyed`: by this request
 */
type State = 'unknown' | 'none' | 'new' | 'stored' | 'shut out' | 'destroyed'

/** One request's dealings with its session: how it begins, and what the methods of `req.session` and of the middleware do. */
export class Visit implements Owner {
  state: State = 'unknown'
  readonly comparison: Comparison
  readonly claim: Claim
  readonly place: Place
  readonly #presented: readonly Presented[]
  /** Whether the application has changed the notes, as by a flash message. */
  isNoted = false
  isOutOfOrder = false
  /** Sessions that were destroyed, and cannot be saved any more. */
  #gone: WeakSet<object> | undefined

  constructor(
    readonly settings: Settings,
    readonly req: VisitedRequest,
    presented: readonly Presented[],
    readonly cookieOptions: CookieOptions,
    readonly hasResponse: boolean,
  ) {
    this.comparison = new Comparison(settings.serializer)
    this.claim = new Claim(settings, presented[0])
    this.place = new Place(settings, req, (pending) => this.#make(pending))
    this.#presented = presented
  }

  // Beginning: the session is loaded, or a new one is made, and put on the request.

  begin(candidate = 0): MaybePromise<void> {
    const { claim, req, settings } = this
    const held = this.#presented[candidate]
    if (!held) {
      if (candidate === 0) debug('no session ID, a new session')
      return this.#beginNew('new')
    }
    // Who handles a failed load, or makes a new ID, can see which one was asked for.
    req[settings.idProperty] = held.key
    const renewTo = settings.renewsOnRead ? Date.now() + (this.cookieOptions.maxAge ?? settings.ttl) : undefined
    const loading = bounded(settings, 'load', held.key, () => admit(settings, held, renewTo))
    return afterwards(loading, (admitted) => {
      if (admitted === null) return this.begin(candidate + 1)
      if (admitted === 'replaced') {
        claim.held = held
        return this.#beginNew('shut out')
      }
      claim.admitted(held, admitted.known, admitted.worth, admitted.changes)
      this.state = 'stored'
      this.#offer('stored')
      if (this.hasResponse) settings.underWay.enter(held.key, this)
    })
  }

  /** Our own IDs are made when somebody asks for them; the option `genid` is called now, as it may look at the request. */
  #beginNew(state: 'new' | 'shut out'): MaybePromise<void> {
    const { req, settings } = this
    if (!this.hasResponse) {
      this.state = 'none'
      delete req[settings.idProperty]
      return
    }
    this.state = state
    if (!settings.genid && !this.#hasOtherGenerate) return this.#offer('new')
    return afterwards(this.#generateByStore(), () => {
      this.state = state
      this.comparison.generated(req[settings.property] as LiveSession)
    })
  }

  #offer(pending: Pending): void {
    this.req[this.settings.visitKey] = this
    this.place.offer(pending)
  }

  #make(pending: Pending): LiveSession {
    const { claim, comparison, settings } = this
    if (pending === 'stored' && claim.known) return restoredSession(this, claim.key as string, claim.known)
    const key = settings.newId()
    claim.found(key, null)
    const session = newSession(this, key)
    comparison.generated(session, settings.serializer === JSON ? '{}' : undefined)
    return session
  }

  /** What `store.generate(req)` does: puts a new session with a new ID on the request. */
  generate(): MaybePromise<void> {
    return afterwards(this.#newId(), (id) => {
      this.place.settle()
      this.claim.beginAnew(id)
      this.state = 'new'
      this.req[this.settings.visitKey] = this
      this.place.put(newSession(this, id))
    })
  }

  #newId(): MaybePromise<string> {
    const { genid, newId } = this.settings
    if (!genid) return newId()
    return afterwards(genid(this.req as unknown as Request), (id: unknown) => {
      if (typeof id !== 'string' || id === '') {
        const what = id === '' ? 'an empty string' : `a ${typeof id}`
        warnOnce('SESSION_GENID', `genid option returned ${what}; without a string for an ID the session is not kept`)
      }
      return id as string
    })
  }

  /** Whether the application has replaced the store's `generate`. */
  get #hasOtherGenerate(): boolean {
    return !ownGenerates.has((this.settings.store as GeneratingStore).generate)
  }

  #generateByStore(): MaybePromise<void> {
    const store = this.settings.store as GeneratingStore
    return this.#hasOtherGenerate ? store.generate(this.req as unknown as Request) : this.generate()
  }

  // The session's methods.

  async save(session: Session): Promise<void> {
    await this.#storing('save', () => this.#trySave(session))
    // Who goes on with the session of this request after a save, as Passport does, must hear that there is none.
    if (this.#gone?.has(session)) throw destroyedHere(session.id, false)
  }

  /** Stores a session for the application, and remembers that it was told of a failure. */
  #trySave(session: LiveSession): MaybePromise<void> {
    const text = serializeData(session, this.settings.serializer)
    return rescue(
      () => this.write(session, text),
      (error) => {
        this.comparison.failed(session, text)
        throw error
      },
    )
  }

  /** Stores a session; `text` is that of its data. */
  write(session: LiveSession, text: string): MaybePromise<void> {
    const { events, hints, serializer } = this.settings
    const { id } = session
    if (this.state === 'shut out' || this.#gone?.has(session)) throw destroyedHere(id, this.state === 'shut out')
    if (typeof id !== 'string')
      throw new TypeError(`a session whose ID is a ${typeof id} cannot be stored: see option genid`)
    if (debug.enabled) debug('saving %s', shortened(id))
    if (hints) unnoted(() => hints.storing(session, serializer))
    const before = this.claim.knownOf(session)
    return afterwards(save(this, session, text), (stored) => {
      this.#isStored(session, stored)
      hints?.stored(stored.text, id)
      if (before) hints?.storedAgain(before.notes, stored.known.notes)
      if (before === null && events.wants('created')) events.emit('created', { id })
      if (events.wants('saved')) events.emit('saved', { id })
      if (stored.failure) throw stored.failure.error
    })
  }

  #isStored(session: LiveSession, { known, text }: Stored): void {
    const { events, property } = this.settings
    this.comparison.stored(session, text)
    notedOf(session)?.forgetWrites()
    if (this.req[property] === session) this.state = 'stored'
    if (this.claim.stored(session.id, known)) events.emit('renewed', { id: session.id })
  }

  reload(session: Session): MaybePromise<void> {
    return this.#inTurn('reload', () => this.#reload(session))
  }

  #reload({ id }: Session): MaybePromise<void> {
    debug('reloading %s', shortened(id))
    return afterwards(find(this.settings, id), (known) => {
      if (!known || !this.claim.mayWrite(id, known.notes)) throw missing()
      this.claim.found(id, known)
      this.isOutOfOrder = false
      this.req[this.settings.property] = restoredSession(this, id, known)
    })
  }

  destroy(session: Session): MaybePromise<void> {
    this.leave()
    return rescue(
      () => this.#destroyInTurn(session),
      (error) => {
        // The client's session is still there, and the end of the response may have to destroy it.
        this.state = 'stored'
        throw error
      },
    )
  }

  /** The session of this request is destroyed: by the request, or by what it has called. */
  leave(): void {
    this.state = 'destroyed'
    this.place.clear()
  }

  regenerate(session: Session): MaybePromise<void> {
    const { store } = this.settings
    return isReplaced(store, 'regenerate') ? callStore(store, 'regenerate', [this.req]) : this.startAnew(session)
  }

  startAnew(session: Session): MaybePromise<void> {
    const destroyed = this.#destroyInTurn(session)
    if (!isPromise(destroyed)) return this.#generateByStore()
    return destroyed.then(
      () => this.#generateByStore(),
      async (error: unknown) => {
        await this.#generateByStore()
        throw error
      },
    )
  }

  /** Destroys a session after what is under way. Its object cannot be saved any more. */
  #destroyInTurn(session: Session): MaybePromise<void> {
    ;(this.#gone ??= new WeakSet()).add(session)
    // An empty session that leaves no trace is not the client's.
    if (this.state === 'shut out') return
    return this.#inTurn('destroy', () => this.#destroyStored(session.id))
  }

  #destroyStored(key: string): MaybePromise<void> {
    const { claim, settings } = this
    return afterwards(destroy(settings, key, key === claim.key ? claim.known : undefined), () => {
      if (settings.events.wants('destroyed')) settings.events.emit('destroyed', { id: key })
    })
  }

  /** Destroys a session by its key; it need not have been loaded. */
  destroyByKey(key: string): MaybePromise<void> {
    return bounded(this.settings, 'destroy', key, () => this.#destroyStored(key))
  }

  // What the middleware offers beside `req.session`.

  /** Gives the client a new token, with which alone it is in the session from now on. */
  async renew(): Promise<void> {
    await this.#storing('renew', async () => {
      const { claim, settings } = this
      const session = this.requireSession()
      const write = (): MaybePromise<void> => this.write(session, serializeData(session, settings.serializer))
      // Nobody else knows the key of a new session.
      await (claim.knownOf(session) === null ? write() : claim.noting(claim.renewal(), write))
    })
  }

  /**
   * Loads the newest state of the session, lets the application change it, and stores it if nobody was faster; else begins
   * again. The request's own session takes part in it; its unsaved changes stay.
   */
  async update(change: (session: LiveSession) => unknown): Promise<void> {
    await this.#storing('update', () => this.#update(change))
  }

  async #update(change: (session: LiveSession) => unknown): Promise<void> {
    const { claim, comparison } = this
    const { access, hints, property, serializer } = this.settings
    const session = this.requireSession()
    const known = claim.knownOf(session)
    const apply = async (one: LiveSession): Promise<void> => {
      const returned = await duringUpdate(session.id, () => change(one))
      hints?.updated(one, returned)
    }
    if (known && access().isExact) {
      const stored = await update(this, session, (newest) => sessionOf(this, session.id, newest), apply)
      this.#isStored(session, stored)
      if (stored.failure) throw stored.failure.error
      return
    }
    // Without merging, a reload would lose the changes of this request, so it is done only if there are none.
    if (known && comparison.isStoredAs(session, serializeData(session, serializer))) await this.#reload(session)
    const current = this.req[property] as LiveSession
    await apply(current)
    await this.write(current, serializeData(current, serializer))
  }

  /** `update` for the notes. Like data, they make a new session worth storing. */
  async updateNotes(change: NoteChange): Promise<void> {
    this.isNoted = true
    await this.#storing('update', () => this.claim.noting(change, () => this.#update(() => undefined)))
  }

  /** @throws SessionError when the application has destroyed or unset the session */
  requireSession(): LiveSession {
    const session = this.req[this.settings.property]
    if (session) return session as LiveSession
    throw new SessionError(
      'ERR_SESSION_MISSING',
      'this request has no session any more: it was destroyed or unset. Where it is to go on with a new one, call ' +
        'req.session.regenerate() in place of that',
    )
  }

  /** What the application has stored before the end of the response, at which it need not be confirmed again. */
  async #storing(operation: string, work: () => MaybePromise<void>): Promise<void> {
    await this.#inTurn(operation, work)
    this.claim.confirmed()
  }

  #inTurn<T>(operation: string, work: () => MaybePromise<T>): MaybePromise<T> {
    const { key } = this.claim
    return inTurn(this, key, () => bounded(this.settings, operation, key, work))
  }
}
