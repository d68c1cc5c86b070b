import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Request } from 'express'
import createDebug = require('debug')
import type session from './index'
import { dataOf, isSameData, maxAgeIn, serializeData, wholeText, type DataText } from './changes'
import { Cookie, isSameSettings, restoreCookie, settingsOf, type CookieSettings } from './cookie'
import { writeSessionCookie, type PresentedId, type Signer } from './cookie-header'
import { decide, type Decision, type Situation } from './decide'
import { SessionError, warnOnce } from './errors'
import { afterwards, isPromise, type MaybePromise } from './maybe-promise'
import type { Settings } from './middleware'
import type { CookieOptions } from './options'
import { isSecure } from './request'
import type { EndOfResponse } from './response-end'
import { missing, savesItself, Session, type SessionOwner, type SessionRequest } from './session'
import { RecordAccess, type Saved, type StoreAccess, type Stored } from './store-access'

const debug = createDebug('express-session')

type LiveSession = Session & session.SessionData

/** The request as the middleware leaves it: the session, its ID and its store under the names of the options. */
export type VisitedRequest = IncomingMessage & SessionRequest & { [key: PropertyKey]: unknown }

/** Stands for a session that nobody has looked at. */
const UNSEEN = Symbol('unseen')

/** What a session was at some time: by its ID, its data and its cookie's settings. */
interface Snapshot {
  readonly id: string
  readonly data: DataText
  readonly cookie: CookieSettings
}

/** One request's dealings with its session, from the session ID to the commit. */
export class Visit implements SessionOwner, EndOfResponse {
  /** What `req.session` is, once it was looked at, generated or assigned. */
  #session: unknown
  /** What looking at `req.session` makes the session of. */
  #pending: 'nothing' | 'stored' | 'new' = 'nothing'
  #peeking = false

  /** What is known of the session in the store: `null` when the store never had it, `undefined` when nothing is. */
  #stored: Stored | null | undefined
  /** The session as it came: loaded, or just generated. */
  #original: Snapshot | undefined
  /** The session as the store has it. */
  #saved: Snapshot | undefined
  #saving: PromiseLike<unknown> | undefined

  #decision: Decision | undefined
  #cookieDue = false
  #touched = false
  #begun = false
  #over = false
  #failed = false

  constructor(
    readonly settings: Settings,
    readonly req: VisitedRequest,
    readonly res: ServerResponse,
    readonly next: (error?: unknown) => void,
    readonly signer: Signer | undefined,
    readonly presented: PresentedId | undefined,
    readonly cookieOptions: CookieOptions,
  ) {}

  get #access(): StoreAccess {
    return this.settings.access()
  }

  // Beginning: the session is loaded, or a new one is generated, and put on the request.

  /** Loads the session of the ID presented, or generates one. */
  begin(): MaybePromise<void> {
    const { presented, settings } = this
    if (!presented) {
      debug('no session ID, a new session')
      return this.#beginNew()
    }
    debug('loading %s', presented.id)
    this.req[settings.idProperty] = presented.id
    return afterwards(this.#load(presented.id), (stored) => {
      if (!stored) {
        debug('no session %s in the store, a new one', presented.id)
        return this.#beginNew()
      }
      this.#stored = stored
      this.#pending = 'stored'
      this.#begun = true
      this.#offerSession()
    })
  }

  #load(id: string): MaybePromise<Stored | null> {
    const { settings } = this
    const renewTo = settings.renewsOnRead ? Date.now() + (this.cookieOptions.maxAge ?? settings.ttl) : undefined
    if (settings.onInvalidRecord === 'error') return this.#access.load(id, renewTo)
    const replace = (error: unknown): null => {
      if ((error as SessionError).code !== 'ERR_SESSION_INVALID_RECORD') throw error
      settings.events.emit('invalid', { id, error })
      return null
    }
    try {
      const loaded = this.#access.load(id, renewTo)
      return isPromise(loaded) ? loaded.then(undefined, replace) : loaded
    } catch (error) {
      return replace(error)
    }
  }

  /** An ID is made when somebody asks for it; one from the application's `genid` at once, as that may look at the request. */
  #beginNew(): MaybePromise<void> {
    this.#stored = null
    this.#begun = true
    if (this.settings.genid) {
      return afterwards(this.generate(), (created) => {
        this.#original = this.#snapshot(created)
      })
    }
    this.#pending = 'new'
    this.#offerSession()
    Object.defineProperty(this.req, this.settings.idProperty, this.settings.idAccessor)
  }

  /** `req.session` becomes the session when it is looked at: to parse a session that nobody wants is most of the work. */
  #offerSession(): void {
    const { req, settings } = this
    req[settings.visitKey] = this
    Object.defineProperty(req, settings.property, settings.sessionAccessor)
  }

  get session(): unknown {
    if (this.#pending === 'nothing') return this.#session
    return this.#peeking ? UNSEEN : this.#makePending()
  }

  set session(value: unknown) {
    if (this.#pending !== 'nothing') this.#makePending()
    this.#session = value
  }

  get id(): unknown {
    if (this.#pending === 'new') this.#makePending()
    return this.#id
  }

  set id(value: unknown) {
    if (this.#pending !== 'nothing') this.#makePending()
    this.#id = value
  }

  #id: unknown

  #makePending(): LiveSession {
    const pending = this.#pending
    this.#pending = 'nothing'
    if (pending === 'new') {
      this.#id = this.settings.newId()
      this.#session = this.#newSession(this.#id as string)
      this.#original = this.#snapshot(this.#session as LiveSession)
    } else {
      this.#session = this.#restore(this.presented?.id as string, this.#stored as Stored)
    }
    return this.#session as LiveSession
  }

  /** Puts a new session with a new ID on the request. */
  generate(): MaybePromise<LiveSession> {
    const { req, settings } = this
    return afterwards(settings.genid ? settings.genid(req as unknown as Request) : settings.newId(), (id) => {
      if (this.#pending !== 'nothing') this.#makePending()
      this.#stored = null
      const created = this.#newSession(id)
      req[settings.idProperty] = id
      req[settings.property] = created
      return created
    })
  }

  /** What `store.generate(req)` does: a new session in place of the one there is. */
  replace(): MaybePromise<void> {
    return afterwards(this.generate(), () => undefined)
  }

  #newSession(id: string): LiveSession {
    const { cookieOptions, req, settings } = this
    const created = new Session(req, undefined, this, id)
    const cookie = new Cookie(cookieOptions)
    created.cookie = cookie
    if (cookieOptions.secure === 'auto' || cookieOptions.sameSite === 'auto') {
      const secure = isSecure(req, settings.proxy)
      if (cookieOptions.secure === 'auto') cookie.secure = secure
      if (cookieOptions.sameSite === 'auto') cookie.sameSite = secure ? 'none' : 'lax'
    }
    return created
  }

  /** Makes the session of what the store holds, and keeps in mind what it was. */
  #restore(id: string, stored: Stored): LiveSession {
    const { serializer } = this.settings
    const { record } = stored
    const data = stored.data ?? (JSON.parse(record?.text as string) as session.SessionData)
    const { expires } = data.cookie
    const ends = record ? record.expires : typeof expires === 'string' ? Date.parse(expires) : undefined
    data.cookie = restoreCookie(data.cookie, expires && ends !== undefined ? new Date(ends) : expires)
    const restored = new Session(this.req, data, this, id)
    const text = record && serializer === JSON ? dataOf(record.text) : undefined
    this.#original = this.#snapshot(restored, text)
    this.#saved = this.#original
    return restored
  }

  #snapshot(session: LiveSession, data = wholeText(serializeData(session, this.settings.serializer))): Snapshot {
    return { id: session.id, data, cookie: settingsOf(session.cookie) }
  }

  // The session's methods.

  save(session: Session): MaybePromise<void> {
    const text = serializeData(session, this.settings.serializer)
    return this.#write(session as LiveSession, text)
  }

  #write(session: LiveSession, text: string): MaybePromise<void> {
    debug('saving %s', session.id)
    const cookie = settingsOf(session.cookie)
    const saved = afterwards(this.#access.save(session, text, this.#stored), ({ stored, dataText }: Saved) => {
      this.#stored = stored
      this.#saved = { id: session.id, data: wholeText(dataText), cookie }
    })
    if (isPromise(saved)) this.#saving = saved
    return saved
  }

  reload(session: Session): MaybePromise<void> {
    const { req, settings } = this
    debug('reloading %s', session.id)
    return afterwards(this.#access.load(session.id), (stored) => {
      if (!stored) throw missing()
      this.#stored = stored
      req[settings.property] = this.#restore(session.id, stored)
    })
  }

  destroy(session: Session): MaybePromise<void> {
    delete this.req[this.settings.property]
    return this.#access.destroy(session.id)
  }

  regenerate(session: Session): MaybePromise<void> {
    const destroyed = this.#access.destroy(session.id)
    if (!isPromise(destroyed)) return this.replace()
    return destroyed.then(
      () => this.replace(),
      async (error: unknown) => {
        await this.replace()
        throw error
      },
    )
  }

  // The end: what to do is decided, the cookie written, the session committed.

  #peek(): unknown {
    this.#peeking = true
    const session = this.req[this.settings.property]
    this.#peeking = false
    return session
  }

  /** Whether a session that nobody has looked at has to be looked at now. */
  get #unseenMatters(): boolean {
    const { resave, rolling, saveUninitialized } = this.settings
    return this.#pending === 'new' ? saveUninitialized : resave || rolling || (this.presented?.oldSecret as boolean)
  }

  /** The listener of on-headers: sets the cookie when it is due. */
  writeCookie(): void {
    if (!this.#begun || this.#failed) return
    let session = this.#peek()
    if (session === UNSEEN) {
      if (!this.#unseenMatters) return
      session = this.#makePending()
    }
    const decision = this.#decision ?? this.#decide(session)
    if (!decision.setCookie) return
    this.#cookieDue = true
    debug('cookie: %s', decision.reason)
    try {
      this.#sendId(session as LiveSession)
    } catch (error) {
      setImmediate(this.next, error)
    }
  }

  #sendId(session: LiveSession): void {
    const { req, res, settings } = this
    const id = req[settings.idProperty] as string
    if (settings.transport) return settings.transport.write(req as unknown as Request, res, id)
    if (session.cookie.secure && !isSecure(req, settings.proxy)) {
      debug('no cookie: it is for secure connections only, and this is none')
      return
    }
    this.#touch(session)
    writeSessionCookie(res, settings.name, (this.signer as Signer).sign(id), session.cookie.data)
  }

  #touch(session: LiveSession): void {
    if (this.#touched) return
    this.#touched = true
    session.touch()
  }

  #decide(session: unknown, text?: string): Decision {
    return decide(this.#situation(session as LiveSession | null | undefined, text), this.settings)
  }

  #situation(session: LiveSession | null | undefined, text: string | undefined): Situation {
    const { presented, req, settings } = this
    const id = req[settings.idProperty]
    const unset = session === null || session === undefined
    const data = unset ? '' : (text ?? serializeData(session, settings.serializer))
    const original = this.#original
    const saved = this.#saved
    return {
      unset,
      hasId: typeof id === 'string',
      presented: presented !== undefined && presented.id === id,
      changed: !unset && !(original?.id === session.id && isSameData(original.data, data)),
      settingsChanged:
        !unset && original?.id === session.id && presented?.id === id && !isSameSettings(original.cookie, session.cookie),
      saved:
        !unset &&
        saved?.id === session.id &&
        !(settings.resave && saved === original) &&
        isSameData(saved.data, data) &&
        isSameSettings(saved.cookie, session.cookie),
      everSaved: saved !== undefined && !(settings.resave && saved === original),
      oldSecret: presented?.oldSecret === true,
      expires: !unset && session.cookie.expires != null,
    }
  }

  /** Does with the session what the end of a response does, once. */
  commit(): MaybePromise<void> {
    if (!this.#begun || this.#over) return
    this.#over = true
    const { headersSent } = this.res
    if (!this.#saving) return this.#commitNow(headersSent)
    const now = (): MaybePromise<void> => this.#commitNow(headersSent)
    return this.#saving.then(now, now)
  }

  #commitNow(headersGone: boolean): MaybePromise<void> {
    let session = this.#peek()
    if (session === UNSEEN) {
      if (!this.#unseenMatters) return this.#renewUnseen()
      session = this.#makePending()
    }
    const live = session as LiveSession
    const text = session ? serializeData(live, this.settings.serializer) : ''
    const decision = this.#decide(session, text)
    this.#decision = decision
    debug('%s: %s', decision.action, decision.reason)
    switch (decision.action) {
      case 'destroy':
        return this.#access.destroy(this.req[this.settings.idProperty] as string)
      case 'save':
        if (headersGone && this.#isUnreachable(live)) return
        this.#touch(live)
        return this.#saveAtEnd(live, text)
      case 'touch':
        this.#touch(live)
        return this.#inBackground(() => this.#access.touch(live, this.#stored ?? undefined))
      case 'nothing':
        if (session) this.#touch(live)
    }
  }

  /** Renews a session that nobody has looked at; without parsing it, where its text tells how long it lives. */
  #renewUnseen(): MaybePromise<void> {
    if (this.#pending !== 'stored') return
    const access = this.#access
    const record = this.#stored?.record
    const maxAge = record && access instanceof RecordAccess ? maxAgeIn(record.text) : undefined
    return this.#inBackground(() => {
      if (access instanceof RecordAccess && maxAge !== undefined) {
        const expires = Date.now() + (maxAge ?? this.settings.ttl)
        return access.renew(this.presented?.id as string, expires, record)
      }
      const session = this.#makePending()
      this.#touch(session)
      return access.touch(session, this.#stored ?? undefined)
    })
  }

  /** No answer waits for this; what fails is reported. */
  #inBackground(work: () => MaybePromise<void>): void {
    try {
      const done = work()
      if (isPromise(done)) done.then(undefined, (error: unknown) => this.report(error))
    } catch (error) {
      this.report(error)
    }
  }

  #saveAtEnd(session: LiveSession, text: string): MaybePromise<void> {
    const ignoreDestroyed = (error: unknown): void => {
      if ((error as SessionError).code !== 'ERR_SESSION_DESTROYED') throw error
      debug('not saved: another request has destroyed the session')
    }
    try {
      const saved = savesItself(session)
        ? this.#write(session, text)
        : new Promise<void>((resolve, reject) => {
            session.save((error?: unknown) => (error ? reject(error as Error) : resolve()))
          })
      return isPromise(saved) ? saved.then(undefined, ignoreDestroyed) : saved
    } catch (error) {
      return ignoreDestroyed(error)
    }
  }

  /** A new session whose cookie did not go out with the headers would be stored for nobody. */
  #isUnreachable(session: LiveSession): boolean {
    if (this.#cookieDue || this.presented?.id === session.id) return false
    warnOnce(
      'SESSION_CHANGED_TOO_LATE',
      `A new session was first changed after the response had begun, when no cookie could be sent any more; it is not ` +
        `stored. Change req.session before the first res.write() (${this.req.method} ${this.req.url})`,
    )
    return true
  }

  get holdsHeaders(): boolean {
    return this.settings.onSaveError === 'error' || (this.settings.genid !== undefined && this.#stored === null)
  }

  onFailure(error: unknown): 'respond' | 'error' | 'disconnect' {
    const taken = (error as SessionError).code === 'ERR_SESSION_ID_TAKEN'
    return taken ? 'error' : this.settings.onSaveError
  }

  /** The response begins anew with the application's error handler, and without a session. */
  fail(error: unknown): void {
    this.#failed = true
    this.next(error)
  }

  report(error: unknown): void {
    const { events, idProperty } = this.settings
    if (this.res.writableFinished) events.emit('storeError', { error, id: String(this.req[idProperty]) })
    else setImmediate(this.next, error)
  }
}
