import type { IncomingMessage } from 'node:http'
import type { Request } from 'express'
import createDebug = require('debug')
import type session = require('../index')
import { admit, find, follow, type Admitted, type LoadOptions } from './admission'
import { ChangeTracker } from './change-tracker'
import { dataOf, maxAgeIn, serializeData } from '../session/changes'
import { Cookie, notesOf, restoreCookie, setNotes, settingsOf, type SessionNotes } from '../session/cookie'
import type { PresentedId } from './cookie-header'
import type { Situation } from './decide'
import { destroyed, SessionError, warnOnce } from '../base/errors'
import { FormerSessions } from './former-sessions'
import { isRenewalDue, noteVisit } from '../features/timeouts/lifetimes'
import { afterwards, isPromise, type MaybePromise } from '../base/maybe-promise'
import type { Settings } from '../middleware'
import type { CookieOptions } from '../options/options'
import { RecordAccess, type ForwardingNote, type Overtaken } from '../store/record-access'
import { isSecure } from './connection'
import {
  changeId,
  missing,
  SESSION_OWNER,
  Session,
  standsFor,
  type LiveSession,
  type SessionOwner,
  type SessionRequest,
} from '../session/session'
import { isReplaced, type GeneratingStore } from '../store/store'
import type { Found, Saved, StoreAccess, Stored } from '../store/store-access'
import { callStore } from '../store/store-call'
import { Turns } from '../base/turns'
import type { Entry } from '../features/users/user-sessions'

const debug = createDebug('express-session')

/** The request as the middleware leaves it: the session, its ID and its store under the names of the options. */
export type VisitedRequest = IncomingMessage & SessionRequest & { [key: PropertyKey]: unknown }

/** What `peek` returns in place of a session that nobody has looked at yet. */
export const UNSEEN = Symbol('unseen')

/** The `generate` methods that middlewares have given to stores. */
export const ownGenerates = new WeakSet<object>()

/** The saves, reloads, renewals, updates and destructions of each request. */
const turns = new Turns<Visit>(new WeakMap())

/** One request's dealings with its session: where it comes from, and what is done with it. */
export class Visit implements SessionOwner {
  readonly tracker: ChangeTracker
  /** What `req.session` and `req.sessionID` are, once they were looked at, generated or assigned. */
  #session: unknown
  #id: unknown
  /** What the session is still to be made of, when somebody looks at it. */
  #pending: 'nothing' | 'stored' | 'new' = 'nothing'
  #peeking = false

  /** How many renewals that the application asked for are under way. */
  #renewals = 0
  /** Whether the function that the application gave to `update` is being called right now. */
  #changing = false

  /** Whether the session has an ID that the client has to be told. */
  #moved = false
  #notes: SessionNotes | undefined
  /** Whether the visit itself has changed the notes, and they are not stored yet. */
  #notesDue = false
  /** Whether the application has changed the notes, as by a flash message. */
  #notesChanged = false
  /** Whether a save of this request gives the session to another user than before. */
  #userChanged = false
  #destroyed = false
  #former: FormerSessions | undefined
  #destroyedCookie: Cookie | undefined
  /** Without a response no cookie can be set: the visit then makes no new session and gives no new ID. */
  #hasResponse = true
  #begun = false

  constructor(
    readonly settings: Settings,
    readonly req: VisitedRequest,
    readonly presented: PresentedId | undefined,
    readonly cookieOptions: CookieOptions,
  ) {
    this.tracker = new ChangeTracker(settings.serializer)
  }

  get #access(): StoreAccess {
    return this.settings.access()
  }

  get #formerSessions(): FormerSessions {
    return (this.#former ??= new FormerSessions(this.settings.serializer))
  }

  // Beginning: the session is loaded, or a new one is generated, and put on the request.

  /** Loads the session of the ID presented, or generates one. */
  begin(): MaybePromise<void> {
    const { presented, req, settings } = this
    if (!presented) {
      debug('no session ID, a new session')
      return this.#beginNew()
    }
    // Who handles a failed load, or makes a new ID, can see which one was asked for.
    req[settings.idProperty] = presented.id
    return this.#putOnRequest(admit(settings, presented.id, this.#loadOptions))
  }

  get #loadOptions(): LoadOptions {
    const { cookieOptions, presented, settings } = this
    return {
      renewTo: settings.renewsOnRead ? Date.now() + (cookieOptions.maxAge ?? settings.ttl) : undefined,
      byApplication: presented?.byApplication === true,
    }
  }

  /** Puts the admitted session on the request, and gives it a new ID if one is due; without one, a new session. */
  #putOnRequest(admitted: MaybePromise<Admitted | null>): MaybePromise<void> {
    return afterwards(admitted, (session) => {
      if (!session) return this.#beginNew()
      const { id, moved, notes, notesDue, stored } = session
      const { idProperty, lifetimes } = this.settings
      this.req[idProperty] = id
      this.tracker.found(id, stored)
      this.#moved ||= moved
      this.#notes = notes
      this.#notesDue = notesDue
      this.#pending = 'stored'
      this.#begun = true
      this.#offerSession()
      if (!this.#hasResponse || !lifetimes || !notes || !isRenewalDue(notes, lifetimes, Date.now())) return
      return this.#rename().then(
        (note) => note && this.#putOnRequest(follow(this.settings, id, note, this.#loadOptions)),
      )
    })
  }

  /** Our own IDs are made when somebody asks for them; the option `genid` is called now, as it may look at the request. */
  #beginNew(): MaybePromise<void> {
    this.tracker.stored = null
    if (!this.#hasResponse) return
    this.#begun = true
    const { genid, property } = this.settings
    if (genid || this.#hasOtherGenerate) {
      return afterwards(this.#makeNew(), () => this.tracker.generated(this.req[property] as LiveSession))
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
    return this.#peeking ? UNSEEN : this.look()
  }

  /** A proxy of the session, or an object that inherits from it, may be assigned: it gets the session's methods. */
  set session(value: unknown) {
    if (this.#pending !== 'nothing') this.look()
    standsFor(value, this.#session)
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

  /** Makes the session, which nobody has looked at yet. */
  look(): LiveSession {
    const pending = this.#pending
    const tracker = this.tracker
    this.#pending = 'nothing'
    if (pending === 'stored') return (this.#session = this.#restore(tracker.id as string, tracker.stored as Stored))
    const id = this.settings.newId()
    const session = this.#newSession(id)
    tracker.found(id, null)
    tracker.generated(session)
    this.#id = id
    return (this.#session = session)
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
      this.#notes = undefined
      this.tracker.found(id, null)
      this.#session = this.#newSession(id)
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

  #newSession(id: string): LiveSession {
    const { cookieOptions, req, settings } = this
    const created = new Session(req, undefined, this, id)
    const cookie = new Cookie(cookieOptions)
    created.cookie = cookie
    if (settings.lifetimes) noteVisit((this.#notes = {}), settings.lifetimes, Date.now())
    if (cookieOptions.secure === 'auto' || cookieOptions.sameSite === 'auto') {
      const secure = isSecure(req, settings.proxy)
      if (cookieOptions.secure === 'auto') cookie.secure = secure
      if (cookieOptions.sameSite === 'auto') cookie.sameSite = secure ? 'none' : 'lax'
    }
    return created
  }

  /** Makes the session of what the store has, and remembers that for the comparison at the end. */
  #restore(id: string, stored: Stored): LiveSession {
    const { serializer, store } = this.settings
    const { record } = stored
    if (isReplaced(store, 'createSession')) {
      this.req[SESSION_OWNER] = this
      const created = store.createSession(this.req as never, this.#access.dataOf(id, stored))
      this.tracker.loaded(created)
      return created
    }
    const data = stored.data ?? (serializer.parse(record?.text as string) as session.SessionData)
    const restored = restoreSession(this.req, this, id, data, record?.expires)
    const text = record && serializer === JSON ? dataOf(record.text) : undefined
    this.tracker.loaded(restored, text)
    return restored
  }

  /** Loads the session presented, for a request without a response. False when there is none; no new one is made. */
  async loadExisting(): Promise<boolean> {
    if (!this.presented) return false
    this.#hasResponse = false
    await this.begin()
    return this.tracker.stored !== null
  }

  // The session's methods.

  save(session: Session): MaybePromise<void> {
    return this.#inTurn(() => this.#trySave(this.#former?.latest(session) ?? session))
  }

  /** Stores a session for the application, and remembers that it was told of a failure. */
  #trySave(session: LiveSession): MaybePromise<void> {
    const text = serializeData(session, this.settings.serializer)
    const failed = (error: unknown): never => {
      this.tracker.failed(session, text)
      throw error
    }
    try {
      const written = this.write(session, text)
      return isPromise(written) ? written.then(undefined, failed) : written
    } catch (error) {
      return failed(error)
    }
  }

  /** Stores a session; `text` is that of its data. */
  write(session: LiveSession, text = serializeData(session, this.settings.serializer)): MaybePromise<void> {
    const { events, users } = this.settings
    const { id } = session
    if (this.#former?.isDestroyed(session)) throw destroyed(id)
    debug('saving %s', id)
    this.#attachNotes(session)
    const cookieSettings = settingsOf(session.cookie)
    const from = this.tracker.storedOf(session)
    const merged = (found: Found): void => {
      this.tracker.found(found.id, found.stored)
      if (found.id !== this.req[this.settings.idProperty]) this.#followNewId(session)
    }
    const save = (): MaybePromise<Saved> => this.#access.save(session, text, from, merged)
    if (users?.isChanging(session)) this.#userChanged = true
    const isLogin = !this.tracker.isStoredAs(session, text)
    const saving = users ? users.storing(session, this.req, isLogin, save) : save()
    return afterwards(saving, (saved: Saved) => {
      this.#notes = notesOf(session.cookie)
      this.#notesDue = false
      this.tracker.saved(session, saved, cookieSettings)
      this.settings.hints?.stored(saved.dataText, session.id)
      if (from === null && events.wants('created')) events.emit('created', { id })
      if (events.wants('saved')) events.emit('saved', { id: session.id })
    })
  }

  /** Another request has given the session a new ID: this request's client has to be told as well. */
  #followNewId(session: LiveSession): void {
    const { idProperty, property } = this.settings
    debug('the session goes on as %s', session.id)
    if (this.req[property] !== session) return
    this.#moved = true
    this.req[idProperty] = session.id
  }

  /** Attaches the notes to the session's cookie, which the application may have replaced. */
  #attachNotes(session: LiveSession): void {
    if (this.#notes) setNotes(session.cookie, this.#notes)
    else this.#notes = notesOf(session.cookie)
  }

  reload(session: Session): MaybePromise<void> {
    return this.#inTurn(() => this.#reload(session))
  }

  #reload(held: Session): MaybePromise<void> {
    const { req, settings } = this
    const session = this.#former?.latest(held) ?? held
    debug('reloading %s', session.id)
    return afterwards(find(settings, session.id), (found) => {
      if (!found) throw missing()
      this.tracker.found(found.id, found.stored)
      const restored = this.#restore(found.id, found.stored)
      this.#notes = notesOf(restored.cookie)
      req[settings.property] = restored
      if (found.id === session.id) return
      this.#followNewId(restored)
      this.#formerSessions.addReplaced(session, restored)
    })
  }

  destroy(session: Session): MaybePromise<void> {
    this.#destroyed = true
    this.#destroyedCookie = session.cookie
    delete this.req[this.settings.property]
    return this.#destroyInTurn(session)
  }

  /** Destroys a session that may not have been loaded. */
  destroyById(id: string): MaybePromise<void> {
    this.#destroyed = true
    return this.#destroyStored(id, this.#notes?.user)
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
    this.#formerSessions.addDestroyed(session)
    return this.#inTurn(() => {
      const latest = this.#formerSessions.latest(session)
      this.#formerSessions.addDestroyed(latest)
      return this.#destroyStored(latest.id, notesOf(latest.cookie)?.user)
    })
  }

  #destroyStored(id: string, user: string | undefined): MaybePromise<void> {
    const { events, users } = this.settings
    return afterwards(this.#access.destroy(id, id === this.tracker.id ? this.tracker.stored : undefined), () => {
      if (events.wants('destroyed')) events.emit('destroyed', { id })
      return users && user !== undefined ? users.unlink(user, id) : undefined
    })
  }

  /**
   * Gives the session a new ID. The old one leads to it for a while, so that requests under way still find it. Of several
   * requests that do this at the same time one wins, and the others follow it.
   */
  async renew(): Promise<void> {
    this.#refuseWhileChanging()
    this.#renewals++
    try {
      await this.#inTurn(async () => {
        this.#requireSession()
        if (!(await this.#rename())) return
        await this.write(this.#requireSession())
      })
    } finally {
      this.#renewals--
    }
  }

  /** @throws TypeError when it is called by the function given to `update` */
  #refuseWhileChanging(): void {
    if (!this.#changing) return
    throw new TypeError(
      'the function that sessions.update calls must change the session it is given, and nothing else: what it began ' +
        'here would wait for itself. Call update, renew or flash before sessions.update, or after it',
    )
  }

  /** Runs one after the other what loads and stores the session: at the same time, one would undo what another has stored. */
  #inTurn<T>(work: () => MaybePromise<T>): MaybePromise<T> {
    return this.#changing ? work() : turns.take(this, work)
  }

  /** Returns the forwarding note of another request that was faster; this one's changes are then still to be saved. */
  async #rename(): Promise<ForwardingNote | undefined> {
    const { events, idProperty, property, users } = this.settings
    const access = this.#access
    const session = this.req[property] as LiveSession
    const oldId = session.id
    const id = await this.#newId()
    const renewed = new Session(this.req, session, this, id)
    if (this.#notes) this.#notes.renewed = Date.now()
    const from = this.tracker.storedOf(session)
    if (from && access instanceof RecordAccess) {
      this.#attachNotes(renewed)
      renewed.touch()
      const isLogin = !this.tracker.isStoredAs(session, serializeData(session, this.settings.serializer))
      const rename = (): Promise<Saved | Overtaken | null> => access.rename(oldId, renewed, from)
      const saved = await (users ? users.storing(renewed, this.req, isLogin, rename, oldId) : rename())
      if (!saved) {
        this.#formerSessions.addDestroyed(session)
        return void (await this.#beginNew())
      }
      if ('known' in saved) {
        changeId(renewed, oldId)
        this.req[property] = renewed
        this.#formerSessions.addReplaced(session, renewed)
        this.tracker.found(oldId, saved.known)
        return saved
      }
      this.#notes = notesOf(renewed.cookie)
      this.#notesDue = false
      this.tracker.saved(renewed, saved)
      events.emit('renewed', { id, oldId })
    }
    this.#moved = true
    this.req[idProperty] = id
    this.req[property] = renewed
    this.#formerSessions.addReplaced(session, renewed)
    if (from && !(access instanceof RecordAccess)) {
      // In the classic contract there are no conditional writes, and so no forwarding note.
      await this.write(renewed)
      if (from.process.wasDestroyed(oldId, from.since)) {
        await access.destroy(id)
        throw destroyed(oldId)
      }
      await access.destroy(oldId)
      events.emit('renewed', { id, oldId })
    }
    return undefined
  }

  /**
   * Loads the newest state of the session, lets the application change it, and stores it if nobody was faster; else begins
   * again. The result is merged into the request's own session, whose unsaved changes stay.
   */
  async update(change: (session: LiveSession) => unknown): Promise<void> {
    this.#refuseWhileChanging()
    return this.#inTurn(() => this.#update(change))
  }

  async #update(change: (session: LiveSession) => unknown): Promise<void> {
    const { property } = this.settings
    const access = this.#access
    const session = this.#requireSession()
    const { id } = session
    const from = this.tracker.storedOf(session)
    if (!from || !(access instanceof RecordAccess)) {
      // Without merging, a reload would lose the changes of this request, so it is done only if there are none.
      if (from && this.tracker.isStoredAs(session, serializeData(session, this.settings.serializer)))
        await this.#reload(session)
      await this.#apply(change, this.req[property] as LiveSession)
      return this.write(this.req[property] as LiveSession)
    }
    const { saved, session: changed } = await this.#changeStored(access, id, change)
    this.#attachNotes(session)
    access.merge(session, from, saved.stored)
    this.#notes = notesOf(session.cookie)
    if (changed.id !== id) {
      changeId(session, changed.id)
      this.#followNewId(session)
    }
    this.tracker.saved(session, saved)
  }

  /** The part of `update` that concerns the store and the index of users' sessions. */
  async #changeStored(
    access: RecordAccess,
    id: string,
    change: (session: LiveSession) => unknown,
  ): Promise<{ saved: Saved; session: LiveSession }> {
    const { serializer, users } = this.settings
    let entry: Entry | undefined
    let changed
    try {
      changed = await access.update(id, async (nowId, data) => {
        if (entry) await users?.leave(entry)
        entry = undefined
        const newest = restoreSession(this.req, this, nowId, data)
        const before = users && serializeData(newest, serializer)
        await this.#apply(change, newest)
        newest.touch()
        entry = await users?.enter(newest, this.req, serializeData(newest, serializer) !== before)
        return newest
      })
    } catch (error) {
      if (entry) await users?.leave(entry, error)
      throw error
    }
    if (entry) await users?.settle(entry)
    return changed
  }

  #apply(change: (session: LiveSession) => unknown, session: LiveSession): unknown {
    this.#changing = true
    try {
      return change(session)
    } finally {
      this.#changing = false
    }
  }

  /** The session's notes, as this request knows them. */
  get notes(): SessionNotes | undefined {
    const session = this.req[this.settings.property] as LiveSession | undefined
    return session && notesOf(session.cookie)
  }

  /** `update` for the notes. Like data, they make a new session worth storing. */
  updateNotes(change: (notes: SessionNotes) => void): Promise<void> {
    this.#notesChanged = true
    return this.update((session) => {
      const notes = notesOf(session.cookie) ?? {}
      change(notes)
      setNotes(session.cookie, notes)
      if (this.req[this.settings.property] === session) this.#notes = notes
    })
  }

  /** @throws SessionError when the application has destroyed or unset the session */
  #requireSession(): LiveSession {
    const session = this.req[this.settings.property]
    if (session) return session as LiveSession
    throw new SessionError(
      'ERR_SESSION_MISSING',
      'this request has no session any more: it was destroyed or unset. Where it is to go on with a new one, call ' +
        'req.session.regenerate() in place of that',
    )
  }

  // The end of the response: what commit.ts asks.

  /** False if loading failed: the request has no session, and nothing is to be done at its end. */
  get hasBegun(): boolean {
    return this.#begun
  }

  /** What `req.session` is, or `UNSEEN`: does not make the session. */
  peek(): unknown {
    this.#peeking = true
    const session = this.req[this.settings.property]
    this.#peeking = false
    return session
  }

  /** Whether the session has to be made at the end of the response, although nobody has looked at it. */
  get unseenMatters(): boolean {
    const { resave, rolling, saveUninitialized } = this.settings
    if (this.#pending === 'new') return saveUninitialized
    if (this.settings.users || this.req[this.settings.idProperty] !== this.tracker.id) return true
    return resave || rolling || this.#notesDue || this.#moved || this.presented?.oldSecret === true
  }

  /** The end of what the handler has begun and not waited for. */
  get underWay(): PromiseLike<void> | undefined {
    return turns.underWay(this)
  }

  /** Whether the handler has begun to give the session a new ID, and not waited for it. */
  get isRenewing(): boolean {
    return this.#renewals > 0
  }

  /** Whether a save may fail because the ID is taken or the user has too many sessions. */
  get mayBeRefused(): boolean {
    const { genid, users } = this.settings
    return (this.#userChanged && users?.isBounded === true) || (genid !== undefined && this.tracker.stored === null)
  }

  /** The cookie of the destroyed session, if the client has presented one. */
  get removedCookie(): Cookie | undefined {
    return this.#destroyed && this.presented ? (this.#destroyedCookie ?? new Cookie(this.cookieOptions)) : undefined
  }

  /** Whether the session has an ID that the client has to be told. */
  get hasMoved(): boolean {
    return this.#moved
  }

  /** Whether another request may have given the session a new ID: one of this process has, or it was due. */
  get mayHaveNewId(): boolean {
    const { lifetimes } = this.settings
    if (!this.tracker.stored) return false
    if (this.tracker.isReplaced) return true
    return lifetimes !== undefined && this.#notes !== undefined && isRenewalDue(this.#notes, lifetimes, Date.now())
  }

  /** If another request has given the session a new ID, follows it there, keeping what was changed here. */
  catchUp(session: LiveSession): MaybePromise<void> {
    const access = this.#access
    const from = this.tracker.storedOf(session)
    if (!from || !(access instanceof RecordAccess)) return
    const text = serializeData(session, this.settings.serializer)
    const isChanged = !this.tracker.isStoredAs(session, text) || !this.tracker.hasStoredSettings(session)
    return afterwards(access.find(session.id), (found) => {
      if (!found || found.id === session.id) return
      access.merge(session, from, found.stored)
      changeId(session, found.id)
      this.#followNewId(session)
      this.tracker.movedTo(session, found.stored, isChanged)
    })
  }

  situation(session: LiveSession | null | undefined, text: string | undefined): Situation {
    const { presented, req, settings } = this
    const id = req[settings.idProperty]
    const unset = session === null || session === undefined
    const data = unset ? '' : (text ?? serializeData(session, settings.serializer))
    const tracker = this.tracker
    // `resave` has a session stored that was only loaded: it does not count as saved.
    const isSaved = tracker.isEverSaved && !(settings.resave && tracker.isOnlyLoaded)
    // What the application could not save, it knows of: it is not tried again.
    const hasFailed = !unset && tracker.hasFailedAs(session, data)
    const isPresented = presented !== undefined && presented.id === id
    return {
      unset,
      hasId: typeof id === 'string',
      presented: isPresented,
      changed: !unset && (!tracker.cameAs(session, data) || (this.#notesChanged && !isPresented)),
      settingsChanged: !unset && isPresented && tracker.hasOtherSettings(session),
      saved:
        hasFailed ||
        (!unset &&
          isSaved &&
          !this.#notesDue &&
          !settings.users?.isChanging(session) &&
          tracker.isStoredAs(session, data) &&
          tracker.hasStoredSettings(session)),
      everSaved: tracker.isEverSaved || hasFailed,
      oldSecret: presented?.oldSecret === true,
      moved: this.#moved,
      expires: !unset && session.cookie.expires != null,
    }
  }

  /** Whether the store renews a session in one atomic step. */
  get renewsInOneStep(): boolean {
    return this.#access instanceof RecordAccess
  }

  /** Renews a session that nobody has looked at, if possible without parsing it: its text may tell its lifetime. */
  renewUnseen(): MaybePromise<void> {
    if (this.#pending !== 'stored' || this.mayHaveNewId) return
    const access = this.#access
    const { id, stored } = this.tracker
    const record = stored?.record
    const maxAge = record && access instanceof RecordAccess ? maxAgeIn(record.text) : undefined
    if (access instanceof RecordAccess && maxAge !== undefined) {
      return access.renew(id as string, Date.now() + (maxAge ?? this.settings.ttl), record)
    }
    return this.renewStored(this.look().touch())
  }

  /** Renews a session in the store, after `session.touch()`. */
  renewStored(session: LiveSession): MaybePromise<void> {
    const { expiresOf, users } = this.settings
    const renewed = this.#access.touch(session, this.tracker.storedOf(session) ?? undefined)
    const user = users && notesOf(session.cookie)?.user
    if (user === undefined) return renewed
    return afterwards(renewed, () => users?.renew(user, session.id, expiresOf(session)))
  }
}

/** Makes a session of stored data. Its cookie ends at `ends` (ms since the epoch), else when the data say. */
function restoreSession(
  req: VisitedRequest,
  owner: SessionOwner,
  id: string,
  data: session.SessionData,
  ends?: number,
): LiveSession {
  const { expires } = data.cookie as { expires?: unknown }
  const at = ends ?? (typeof expires === 'string' ? Date.parse(expires) : undefined)
  data.cookie = restoreCookie(data.cookie, expires && at !== undefined ? new Date(at) : (expires as Date | undefined))
  return new Session(req, data, owner, id)
}
