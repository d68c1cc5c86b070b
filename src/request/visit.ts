import { AsyncLocalStorage } from 'node:async_hooks'
import type { IncomingMessage } from 'node:http'
import type { Request } from 'express'
import createDebug = require('debug')
import { destroyedHere, SessionError, shortened, warnOnce } from '../base/errors'
import { afterwards, isPromise, oneByOne, rescue, type MaybePromise } from '../base/maybe-promise'
import { callStore, within } from '../base/store-call'
import { Turns } from '../base/turns'
import type { NoteChange } from '../features/feature'
import { Cookie, restoreCookie } from '../session/cookie'
import type { CookieOptions } from '../session/cookie-options'
import { cookieOf, notedOf, unnoted } from '../session/noted'
import { notesOf, type SessionNotes } from '../session/notes'
import {
  missing,
  notingSession,
  SESSION_OWNER,
  Session,
  standsFor,
  type LiveSession,
  type SessionOwner,
  type SessionRequest,
} from '../session/session'
import { maxAgeIn, serializeData } from '../session/text'
import type { Settings } from '../settings'
import { isReplaced, type GeneratingStore } from '../store/store'
import type { Known } from '../store/store-access'
import { admit, destroy, find } from './admit'
import { Comparison } from './comparison'
import { isSecure } from './connection'
import type { Situation } from './decide'
import type { Presented } from './signer'
import { save, update, type Stored } from './save'
import { hashOf, isRenewalDue, mayWrite, newToken, noteToken, type Worth } from './tokens'

const debug = createDebug('express-session')

/** The request as the middleware leaves it: the session, its ID and its store under the names of the options. */
export type VisitedRequest = IncomingMessage & SessionRequest & { [key: PropertyKey]: unknown }

/** What `peek` returns in place of a session that nobody has looked at yet. */
export const UNSEEN = Symbol('unseen')

/** The `generate` methods that middlewares have given to stores. */
export const ownGenerates = new WeakSet<object>()

/** The saves, reloads, renewals, updates and destructions of each request. */
const turns = new Turns<Visit>(new WeakMap())

/** A function given to `update` that is running, and the one that it was begun in. */
interface Updating {
  readonly key: string
  readonly within: Updating | undefined
  isOver: boolean
}

const updating = new AsyncLocalStorage<Updating>()

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

/** One request's dealings with its session: where it comes from, and what is done with it. */
export class Visit implements SessionOwner {
  state: State = 'unknown'
  readonly comparison: Comparison
  readonly #presented: readonly Presented[]
  /** What the client holds of its session: the first that leads to one, if it presents several. */
  held: Presented | undefined
  /** What is known of the session with this key in the store; `null` if that never had it. */
  #key: string | undefined
  #known: Known | null | undefined
  /** What the client's token was worth when it came. */
  #worth: Worth = 'present'
  /** What is to be noted at the next write. */
  #changes: NoteChange[] = []
  /** Whether the application has changed the notes, as by a flash message. */
  #isNoted = false
  /** The token that the client is to be told, once the store has it. */
  token: string | undefined
  /** The token that the write under way notes. */
  #renewal: string | undefined
  /** Whether the store has confirmed, by a conditional write, that the session is still the client's. */
  isConfirmed = false
  /** Whether the session has kept what it looked at, although others had changed it before an `update` of this request. */
  isOutOfOrder = false

  /** What `req.session` and `req.sessionID` are, once they were looked at, generated or assigned. */
  #session: unknown
  #id: unknown
  /** What the session is still to be made of, when somebody looks at it. */
  #pending: 'nothing' | 'stored' | 'new' = 'nothing'
  #isPeeking = false
  #gone: WeakSet<object> | undefined
  #last: LiveSession | undefined

  constructor(
    readonly settings: Settings,
    readonly req: VisitedRequest,
    presented: readonly Presented[],
    readonly cookieOptions: CookieOptions,
    readonly hasResponse: boolean,
  ) {
    this.comparison = new Comparison(settings.serializer)
    this.#presented = presented
    this.held = presented[0]
  }

  // Beginning: the session is loaded, or a new one is made, and put on the request.

  begin(candidate = 0): MaybePromise<void> {
    const { req, settings } = this
    const held = this.#presented[candidate]
    if (!held) {
      if (candidate === 0) debug('no session ID, a new session')
      return this.#beginNew('new')
    }
    // Who handles a failed load, or makes a new ID, can see which one was asked for.
    req[settings.idProperty] = held.key
    const renewTo = settings.renewsOnRead ? Date.now() + (this.cookieOptions.maxAge ?? settings.ttl) : undefined
    const loading = this.#bounded('load', held.key, () => admit(settings, held, renewTo))
    return afterwards(loading, (admitted) => {
      if (admitted === null) return this.begin(candidate + 1)
      this.held = held
      if (admitted === 'replaced') return this.#beginNew('shut out')
      this.found(held.key, admitted.known)
      this.state = 'stored'
      this.#worth = admitted.worth
      this.#changes = [...admitted.changes]
      this.#pending = 'stored'
      this.#offerSession()
      if (this.hasResponse) settings.underWay.enter(held.key, this)
    })
  }

  /** Our own IDs are made when somebody asks for them; the option `genid` is called now, as it may look at the request. */
  #beginNew(state: 'new' | 'shut out'): MaybePromise<void> {
    if (!this.hasResponse) {
      this.state = 'none'
      delete this.req[this.settings.idProperty]
      return
    }
    this.#known = null
    this.state = state
    if (this.settings.genid || this.#hasOtherGenerate) {
      return afterwards(this.#makeNew(), () => {
        this.state = state
        this.comparison.generated(this.req[this.settings.property] as LiveSession)
      })
    }
    this.#pending = 'new'
    this.#offerSession()
    Object.defineProperty(this.req, this.settings.idProperty, this.settings.idAccessor)
  }

  /** `req.session` is made when it is first looked at: parsing is most of the work, and not every handler needs it. */
  #offerSession(): void {
    const { req, settings } = this
    req[settings.visitKey] = this
    Object.defineProperty(req, settings.property, settings.sessionAccessor)
  }

  get session(): unknown {
    if (this.#pending === 'nothing') return this.#session
    return this.#isPeeking ? UNSEEN : this.look()
  }

  /** A proxy of the session, or an object that inherits from it, may be assigned: it gets the session's methods. */
  set session(value: unknown) {
    if (this.#pending !== 'nothing') this.look()
    standsFor(value, this.#session)
    this.settings.hints?.replaced(value)
    this.#session = value
  }

  get id(): unknown {
    if (this.#pending === 'new') this.look()
    return this.#id
  }

  set id(value: unknown) {
    if (this.#pending !== 'nothing') this.look()
    this.#id = value
  }

  /** What `req.session` is, or `UNSEEN`: does not make the session. */
  peek(): unknown {
    this.#isPeeking = true
    const session = this.req[this.settings.property]
    this.#isPeeking = false
    return session
  }

  /** Makes the session, which nobody has looked at yet. */
  look(): LiveSession {
    const pending = this.#pending
    this.#pending = 'nothing'
    if (pending === 'stored') return this.#keep(this.#restore(this.#key as string, this.#known as Known))
    const key = this.settings.newId()
    this.found(key, null)
    this.#id = key
    const session = this.#newSession(key)
    this.comparison.generated(session)
    return this.#keep(session)
  }

  #keep(session: LiveSession): LiveSession {
    this.#session = session
    this.#last = session
    return session
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

  /** What `store.generate(req)` does: puts a new session with a new ID on the request. */
  generate(): MaybePromise<void> {
    const { req, settings } = this
    return afterwards(this.#newId(), (id) => {
      if (this.#pending !== 'nothing') this.look()
      this.#changes = []
      this.token = undefined
      this.isConfirmed = false
      this.state = 'new'
      this.found(id, null)
      this.#keep(this.#newSession(id))
      req[settings.idProperty] = id
      // Anew, as the application may have deleted the property.
      this.#offerSession()
    })
  }

  /** Whether the application has replaced the store's `generate`. */
  get #hasOtherGenerate(): boolean {
    return !ownGenerates.has((this.settings.store as GeneratingStore).generate)
  }

  #makeNew(): MaybePromise<void> {
    const store = this.settings.store as GeneratingStore
    return this.#hasOtherGenerate ? store.generate(this.req as unknown as Request) : this.generate()
  }

  #newSession(key: string): LiveSession {
    for (const feature of this.settings.features) {
      const change = feature.created?.(Date.now())
      if (change) this.#changes.push(change)
    }
    const cookie = this.newCookie()
    if (this.settings.access().isExact) return notingSession(this.req, { cookie }, this, key)
    const created = new Session(this.req, undefined, this, key)
    created.cookie = cookie
    return created
  }

  /** A cookie by the options, for the connection of this request. */
  newCookie(): Cookie {
    const { cookieOptions, req, settings } = this
    const cookie = new Cookie(cookieOptions)
    if (cookieOptions.secure === 'auto' || cookieOptions.sameSite === 'auto') {
      const secure = isSecure(req, settings.proxy)
      if (cookieOptions.secure === 'auto') cookie.secure = secure
      if (cookieOptions.sameSite === 'auto') cookie.sameSite = secure ? 'none' : 'lax'
    }
    return cookie
  }

  /** Makes the session of what the store has, and remembers that for the comparison at the end. */
  #restore(key: string, known: Known): LiveSession {
    const { access, store } = this.settings
    if (isReplaced(store, 'createSession')) {
      this.req[SESSION_OWNER] = this
      const created = store.createSession(this.req as never, access().dataOf(key, known))
      this.comparison.loaded(created)
      return created
    }
    const restored = this.#sessionOf(key, known)
    this.comparison.loaded(restored, known.text)
    return restored
  }

  #sessionOf(key: string, known: Known): LiveSession {
    const { access } = this.settings
    const data = access().dataOf(key, known)
    const { expires } = data.cookie as { expires?: unknown }
    const at = known.record?.expires ?? (typeof expires === 'string' ? Date.parse(expires) : undefined)
    data.cookie = restoreCookie(data.cookie, expires && at !== undefined ? new Date(at) : (expires as Date | undefined))
    return access().isExact ? notingSession(this.req, data, this, key) : new Session(this.req, data, this, key)
  }

  // What is known of the session in the store.

  found(key: string, known: Known | null): void {
    this.#key = key
    this.#known = known
  }

  /** What is known of this session: nothing of one that the application has made itself, for another ID. */
  knownOf(session: Session): Known | null | undefined {
    return session.id === this.#key ? this.#known : undefined
  }

  /** Whether the session differs from what the store was last seen to have. */
  isChangedSinceStored(session: Session, text: string): boolean {
    return !this.comparison.isStoredAs(session, text)
  }

  /** The notes of a session as they will be stored: those that are, with what is to be changed. */
  notesFor(session: Session, known: Known | null | undefined): SessionNotes {
    const notes: SessionNotes = { ...(known === undefined ? notesOf(cookieOf(session)) : known?.notes) }
    for (const change of this.#changes) change(notes)
    return notes
  }

  get notes(): SessionNotes | undefined {
    return this.#known?.notes
  }

  /** Whether something about the session is to be noted that is not stored yet. */
  get hasNotesDue(): boolean {
    return this.#changes.length > 0
  }

  /** Until when, in ms since the epoch, a request may wait for the store in one operation. */
  deadline(): number {
    const { timeout } = this.settings
    return timeout ? Date.now() + timeout : Infinity
  }

  // The session's methods.

  save(session: Session): MaybePromise<void> {
    return this.#inTurn('save', () => this.#trySave(session))
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
    debug('saving %s', shortened(id))
    if (hints) unnoted(() => hints.storing(session, serializer))
    const isNew = this.knownOf(session) === null
    return afterwards(save(this, session, text), (stored) => {
      this.#isStored(session, stored)
      hints?.stored(stored.text, id)
      if (isNew && events.wants('created')) events.emit('created', { id })
      if (events.wants('saved')) events.emit('saved', { id })
    })
  }

  #isStored(session: LiveSession, { known, text }: Stored): void {
    this.found(session.id, known)
    this.comparison.stored(session, text)
    notedOf(session)?.writes.clear()
    this.#changes = []
    this.isConfirmed = true
    if (this.req[this.settings.property] === session) this.state = 'stored'
    if (this.#renewal === undefined) return
    this.token = this.#renewal
    this.#renewal = undefined
    this.settings.events.emit('renewed', { id: session.id })
  }

  /** The token that the client has, or is about to have, of a session. */
  tokenOf(key: string): string | undefined {
    return this.token ?? (this.held?.key === key ? this.held.token : undefined)
  }

  /** Whether what the client holds, or is about to, is the latest: a former token would replace that in the browser. */
  holdsPresentToken(session: Session): boolean {
    const noted = this.knownOf(session)?.notes?.token
    return noted === undefined || hashOf(this.tokenOf(session.id)) === noted
  }

  /** Whether this request may still write a session that is stored with these notes. */
  mayWrite(key: string, notes: SessionNotes | undefined): boolean {
    return this.held?.byApplication === true || mayWrite(this.tokenOf(key), notes)
  }

  reload(session: Session): MaybePromise<void> {
    return this.#inTurn('reload', () => this.#reload(session))
  }

  #reload(session: Session): MaybePromise<void> {
    debug('reloading %s', shortened(session.id))
    return afterwards(find(this.settings, session.id), (known) => {
      if (!known || !this.mayWrite(session.id, known.notes)) throw missing()
      this.found(session.id, known)
      this.isOutOfOrder = false
      this.req[this.settings.property] = this.#restore(session.id, known)
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
    this.#pending = 'nothing'
    this.state = 'destroyed'
    this.#session = undefined
    Reflect.deleteProperty(this.req, this.settings.property)
  }

  /** Destroys the stored session that the application has unset. */
  destroyUnset(key: string): MaybePromise<void> {
    this.state = 'destroyed'
    return this.#bounded('destroy', key, () => this.#destroyStored(key))
  }

  regenerate(session: Session): MaybePromise<void> {
    const { store } = this.settings
    return isReplaced(store, 'regenerate') ? callStore(store, 'regenerate', [this.req]) : this.startAnew(session)
  }

  startAnew(session: Session): MaybePromise<void> {
    const destroyed = this.#destroyInTurn(session)
    if (!isPromise(destroyed)) return this.#makeNew()
    return destroyed.then(
      () => this.#makeNew(),
      async (error: unknown) => {
        await this.#makeNew()
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
    const { events } = this.settings
    return afterwards(destroy(this.settings, key, key === this.#key ? this.#known : undefined), () => {
      if (events.wants('destroyed')) events.emit('destroyed', { id: key })
    })
  }

  // The API beside `req.session`.

  /** Gives the client a new token, with which alone it is in the session from now on. */
  async renew(): Promise<void> {
    await this.#inTurn('renew', async () => {
      const session = this.requireSession()
      const write = (): MaybePromise<void> => this.write(session, serializeData(session, this.settings.serializer))
      // Nobody else knows the key of a new session.
      if (this.knownOf(session) === null) return write()
      const token = newToken()
      await this.#noting((notes) => {
        noteToken(notes, token, undefined, Date.now())
        this.#renewal = token
      }, write)
    })
  }

  /** Has a write note something; if it fails, the next one does not. */
  async #noting(change: NoteChange, write: () => MaybePromise<void>): Promise<void> {
    this.#changes.push(change)
    try {
      await write()
    } catch (error) {
      this.#changes = this.#changes.filter((one) => one !== change)
      this.#renewal = undefined
      throw error
    }
  }

  /**
   * Has the next write give the client a new token, if that is due. Where another request has just done so, this one does
   * not: its client, the same, would be told two, and hold the wrong one.
   */
  renewIfDue(): void {
    const { held } = this
    const known = this.#known
    if (!held || !known || !this.isRenewalDue) return
    const present = known.notes?.token
    const token = newToken()
    this.#changes.push((notes) => {
      const isPresent = (known.life?.renewed ?? notes).token === present
      if (isPresent) noteToken(notes, token, hashOf(held.token), Date.now())
      this.#renewal = isPresent ? token : undefined
    })
  }

  /**
   * Loads the newest state of the session, lets the application change it, and stores it if nobody was faster; else begins
   * again. The request's own session takes part in it; its unsaved changes stay.
   */
  update(change: (session: LiveSession) => unknown): Promise<void> {
    return this.#inTurn('update', () => this.#update(change)) as Promise<void>
  }

  async #update(change: (session: LiveSession) => unknown): Promise<void> {
    const { access, property, serializer } = this.settings
    const session = this.requireSession()
    const known = this.knownOf(session)
    const apply = async (one: LiveSession): Promise<void> => {
      const current: Updating = { key: session.id, within: updating.getStore(), isOver: false }
      try {
        await updating.run(current, () => change(one))
      } finally {
        current.isOver = true
      }
    }
    if (known && access().isExact) {
      const stored = await update(this, session, (newest) => this.#sessionOf(session.id, newest), apply)
      return this.#isStored(session, stored)
    }
    // Without merging, a reload would lose the changes of this request, so it is done only if there are none.
    if (known && this.comparison.isStoredAs(session, serializeData(session, serializer))) await this.#reload(session)
    const current = this.req[property] as LiveSession
    await apply(current)
    await this.write(current, serializeData(current, serializer))
  }

  /** `update` for the notes. Like data, they make a new session worth storing. */
  async updateNotes(change: NoteChange): Promise<void> {
    this.#isNoted = true
    await this.#inTurn('update', () => this.#noting(change, () => this.#update(() => undefined)))
  }

  /** Destroys a session by its ID; it need not have been loaded. */
  destroyById(key: string): MaybePromise<void> {
    return this.#bounded('destroy', key, () => this.#destroyStored(key))
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

  // The end of the response.

  /** The end of what the handler has begun and not waited for. */
  get underWay(): PromiseLike<void> | undefined {
    return turns.underWay(this)
  }

  get isRenewalDue(): boolean {
    const { renewalGrace, renewalTimeout } = this.settings
    const notes = this.#known?.notes
    if (!renewalTimeout || this.state !== 'stored' || !notes || this.token !== undefined) return false
    return isRenewalDue(this.#worth, notes, renewalTimeout, renewalGrace, Date.now())
  }

  /** Whether the session has to be made at the end of the response, although nobody has looked at it. */
  get isUnseenDue(): boolean {
    const { features, idProperty, resave, rolling, saveUninitialized } = this.settings
    if (this.#pending === 'new') return saveUninitialized && this.state === 'new'
    if (features.some((feature) => feature.isDue) || this.req[idProperty] !== this.#key) return true
    return (
      resave ||
      rolling ||
      this.hasNotesDue ||
      this.isRenewalDue ||
      this.token !== undefined ||
      this.held?.oldSecret === true
    )
  }

  /** What is known of the session at the end of a response; `data` is the text of its data. */
  situation(session: LiveSession | null | undefined, data: string): Situation {
    const { comparison, held, req, settings, state } = this
    const id = req[settings.idProperty]
    const unset = session === null || session === undefined
    // `resave` has a session stored that was only loaded: it does not count as saved.
    const isSaved = comparison.isEverStored && !(settings.resave && comparison.isOnlyLoaded)
    // What the application could not save, it knows of: it is not tried again.
    const hasFailed = !unset && comparison.hasFailedAs(session, data)
    const presented = held !== undefined && held.key === id
    return {
      gone: state === 'destroyed' || state === 'shut out' || state === 'none',
      unset,
      hasId: typeof id === 'string',
      presented,
      changed: !unset && (!comparison.cameAs(session, data) || (this.#isNoted && !presented)),
      settingsChanged: !unset && presented && comparison.hasOtherSettings(session),
      saved:
        hasFailed ||
        (!unset &&
          isSaved &&
          !this.hasNotesDue &&
          !settings.features.some((feature) => feature.isDue?.(session, this.knownOf(session)?.notes)) &&
          comparison.isStoredAs(session, data) &&
          comparison.hasStoredSettings(session)),
      everSaved: comparison.isEverStored || hasFailed,
      oldSecret: held?.oldSecret === true,
      renewed: this.token !== undefined,
      expires: !unset && cookieOf(session).expires != null,
    }
  }

  /** Stores the session at the end of a response. */
  store(session: LiveSession, text: string): MaybePromise<void> {
    return this.#bounded('save', session.id, () => this.write(session, text))
  }

  /** Moves the end of a session that nobody has looked at, if possible without parsing it: its text may tell its lifetime. */
  touchUnseen(): MaybePromise<void> {
    if (this.#pending !== 'stored') return
    const known = this.#known as Known
    const maxAge = known.record && this.settings.serializer === JSON ? maxAgeIn(known.record.text) : undefined
    if (maxAge === undefined) return this.touch(this.look().touch())
    const key = this.#key as string
    return this.#touched(
      key,
      () => this.settings.access().touchUnseen(key, known, maxAge),
      () => Date.now() + (maxAge ?? this.settings.ttl),
    )
  }

  /** Moves the end of a session in the store, after `session.touch()`. */
  touch(session: LiveSession): MaybePromise<void> {
    const touch = (): MaybePromise<boolean> => this.settings.access().touch(session, this.knownOf(session))
    return this.#touched(session.id, touch, () => this.settings.expiresOf(session))
  }

  #touched(key: string, touch: () => MaybePromise<boolean>, expires: () => number): MaybePromise<void> {
    const features = this.settings.features.filter((feature) => feature.touched)
    return this.#bounded('touch', key, () =>
      afterwards(touch(), (isMoved) =>
        isMoved ? oneByOne(features, (feature) => feature.touched?.(key, this.#known?.notes, expires())) : undefined,
      ),
    )
  }

  /**
   * Whether the session is still the client's, so that its cookie may be sent again: that of another one may have been set
   * meanwhile. A classic store cannot tell, this process only.
   */
  confirm(session: LiveSession): MaybePromise<boolean> {
    const { access, expiresOf } = this.settings
    const known = this.knownOf(session)
    if (this.isConfirmed || known === undefined) return true
    if (!access().isExact) return known?.life?.isDestroyed !== true && this.mayWrite(session.id, known?.life?.renewed)
    return this.#bounded('load', session.id, () =>
      afterwards(access().load(session.id, expiresOf(session)), (now) => {
        if (!now || !this.mayWrite(session.id, now.notes)) return false
        this.found(session.id, now)
        return true
      }),
    )
  }

  /** The cookie of the destroyed session, if the client has presented one. */
  get removedCookie(): Cookie | undefined {
    if (this.state !== 'destroyed' || !this.held) return undefined
    return (this.#last && cookieOf(this.#last)) ?? this.newCookie()
  }

  // All of them.

  /** Runs one after the other what loads and stores the session: at the same time, one would undo what another has stored. */
  #inTurn<T>(operation: string, work: () => MaybePromise<T>): MaybePromise<T> {
    for (let one = updating.getStore(); one; one = one.within) {
      if (one.isOver || one.key !== this.#key) continue
      throw new TypeError(
        'the function that sessions.update calls must change the session it is given, and nothing else: what it began ' +
          'here would wait for itself. Call save, update, renew or flash before sessions.update, or after it',
      )
    }
    return turns.take(this, () => this.#bounded(operation, this.#key, work))
  }

  /** Waits for the store no longer than the option `timeout` says, and tells of its failure those who want to know of each. */
  #bounded<T>(operation: string, key: string | undefined, work: () => MaybePromise<T>): MaybePromise<T> {
    const { events, timeout } = this.settings
    const began = Date.now()
    return rescue(
      () => within(work(), operation, timeout),
      (error) => {
        if (isFailure(error) && events.wants('failure')) {
          events.emit('failure', { operation, id: key, error, duration: Date.now() - began })
        }
        throw error
      },
    )
  }
}

/** Whether an error is the store's, and not about the session. */
function isFailure(error: unknown): boolean {
  return !(error instanceof SessionError) || error.code === 'ERR_SESSION_STORE_TIMEOUT'
}
