import { SessionError } from '../base/errors'
import { hiddenSlot } from '../base/hidden-slot'
import { answer, type Callback, type MaybePromise } from '../base/maybe-promise'
import { callStore } from '../base/store-call'
import { LAST_DATE } from '../base/moments'
import type { SessionData } from './augmented'
import type { Cookie } from './cookie'
import { cookieOf, noteFor, notingPrototype, startNoting, unnoted } from './noted'

/** What a session needs of its request; a store makes do with less than a real one. */
export interface SessionRequest {
  sessionID: string
  sessionStore: { createSession(req: never, data: SessionData): unknown }
  session?: unknown
  [SESSION_OWNER]?: SessionOwner
}

/** Carries out the methods of a session: the middleware's visit, or the store alone outside of a request. */
export interface SessionOwner {
  save(session: Session): MaybePromise<void>
  reload(session: Session): MaybePromise<void>
  destroy(session: Session): MaybePromise<void>
  regenerate(session: Session): MaybePromise<void>
  /** What the store's own `regenerate` does; an application may have replaced that. */
  startAnew?(session: Session): MaybePromise<void>
}

/** The key of a request under which the owner of its sessions is kept. */
export const SESSION_OWNER = Symbol('sessile.owner')

/** The session of one request: the user's data, `cookie`, and the methods below, none of which is enumerable. */
export interface Session {
  /** The session ID; cannot be changed. */
  readonly id: string
  /** The settings and the expiry of this session's cookie. */
  cookie: Cookie
  /** Gives the session its full lifetime again, not yet in the store. The middleware does this on every request. */
  touch(): this
  /** Sets `cookie.maxAge` back to `cookie.originalMaxAge`. */
  resetMaxAge(): this
  /**
   * Stores the session now instead of at the end of the response. Without a callback it returns a promise; a failure
   * that nobody awaits does not end the process. The same holds for the methods below.
   * Fails with the store's error, or with a `SessionError`: its `code` says whether the session was destroyed by another
   * request (`ERR_SESSION_DESTROYED`), cannot be serialised (`ERR_SESSION_SERIALIZE`), and so on; see docs/errors.md.
   */
  save(callback: Callback): this
  save(): Promise<void>
  save(callback?: Callback): this | Promise<void>
  /** Replaces `req.session` by what the store has now; fails with `ERR_SESSION_MISSING` when the session is gone. */
  reload(callback: Callback): this
  reload(): Promise<void>
  reload(callback?: Callback): this | Promise<void>
  /** Deletes the session from the store and from the request. */
  destroy(callback: Callback): this
  destroy(): Promise<void>
  destroy(callback?: Callback): this | Promise<void>
  /** Destroys this session and puts a new one with a new ID on the request, against session fixation. */
  regenerate(callback: Callback): this
  regenerate(): Promise<void>
  regenerate(callback?: Callback): this | Promise<void>
}

/** A session with its data. */
export type LiveSession = Session & SessionData

export interface SessionConstructor {
  new (req: SessionRequest, data?: object, owner?: SessionOwner, id?: string): LiveSession
  (this: object, req: SessionRequest, data?: object): void
  readonly prototype: Session
}

interface Context {
  readonly req: SessionRequest
  readonly id: string
  readonly owner: SessionOwner
}

const contexts = hiddenSlot<Context>()

function contextOf(session: Session): Context {
  const context = contexts.get(session)
  if (!context) throw new TypeError('this session was not made by the Session constructor')
  return context
}

/**
 * A session with the data given, for `req.sessionID`. Names that a session has already (its methods, `id`, `req`, and
 * what every object inherits, `__proto__` and `constructor` among them) are not taken from the data.
 * A function and not a class: packages call it on objects of their own.
 */
export const Session = function Session(
  this: Session,
  req: SessionRequest,
  data?: object,
  owner: SessionOwner = req[SESSION_OWNER] ?? outsideOfRequest,
  id: string = req.sessionID,
): void {
  contexts.set(this, { req, id, owner })
  if (typeof data !== 'object' || data === null) return
  for (const key in data) {
    if (!(key in this)) (this as unknown as Record<string, unknown>)[key] = (data as Record<string, unknown>)[key]
  }
} as unknown as SessionConstructor

/**
 * A session that notes what is looked at and written, for a request of a store that can merge. Takes the data over, which
 * has no cookie in it.
 */
export function notingSession(
  req: SessionRequest,
  data: object,
  cookie: Cookie,
  owner: SessionOwner,
  id: string,
): LiveSession {
  const session = Object.create(noting) as LiveSession
  contexts.set(session, { req, id, owner })
  startNoting(session, data as Record<string, unknown>, cookie, Session.prototype)
  return session
}

/** Gives a proxy of a session, or an object that inherits from one, that session's methods, ID and request. */
export function standsFor(value: unknown, session: unknown): void {
  if (!(value instanceof Session) || contexts.get(value) || !(session instanceof Session)) return
  contexts.set(value, contextOf(session))
  noteFor(value, session)
}

const outsideOfRequest: SessionOwner = {
  save: (session) => callStore(contextOf(session).req.sessionStore, 'set', [session.id, session]),
  async reload(session) {
    const { req, id } = contextOf(session)
    const data = await callStore<SessionData>(req.sessionStore, 'get', [id])
    if (!data) throw missing()
    req.sessionStore.createSession(req as never, data)
  },
  destroy(session) {
    const { req } = contextOf(session)
    delete req.session
    return callStore(req.sessionStore, 'destroy', [session.id])
  },
  regenerate: (session) => {
    const { req } = contextOf(session)
    return callStore(req.sessionStore, 'regenerate', [req])
  },
}

/** The error when a session is to be loaded and the store has none. */
export function missing(): SessionError {
  return new SessionError('ERR_SESSION_MISSING', 'failed to load session')
}

function define(name: string | symbol, property: PropertyDescriptor): void {
  Object.defineProperty(Session.prototype, name, { configurable: true, enumerable: false, ...property })
}

function defineMethod(name: string, method: (this: Session, callback?: Callback) => unknown): void {
  define(name, { writable: true, value: method })
}

/** A method that can be replaced on one session object by assignment without becoming part of its data. */
function defineReplaceable(name: string, method: (this: Session, callback?: Callback) => unknown): void {
  define(name, {
    get: () => method,
    set(this: Session, value: unknown) {
      Object.defineProperty(this, name, { configurable: true, enumerable: false, writable: true, value })
    },
  })
}

define('req', {
  get(this: Session) {
    return contexts.get(this)?.req
  },
})
define('id', {
  get(this: Session) {
    return contexts.get(this)?.id
  },
})

/** Has the name of what it stands for. */
const { Session: Shown } = { Session: class {} }

/** For `console.log`, which would show that a session notes, and not what is in it. */
define(Symbol.for('nodejs.util.inspect.custom'), {
  writable: true,
  value(this: Session, depth: number, options: object, inspect?: (value: unknown, options: object) => string) {
    if (depth < 0) return '[Session]'
    const plain: object = unnoted(() => Object.assign(new Shown(), this))
    return inspect ? inspect(plain, options) : plain
  },
})

defineMethod('touch', function touch() {
  return this.resetMaxAge()
})

defineMethod('resetMaxAge', function resetMaxAge() {
  const cookie = cookieOf(this)
  // Who wants a session for ever takes the last date there is: it cannot be renewed beyond that.
  const lifetime = cookie.originalMaxAge as number
  if (!(lifetime > LAST_DATE - Date.now() && lifetime <= LAST_DATE)) cookie.maxAge = lifetime
  return this
})

defineReplaceable('save', function save(callback) {
  return answer(callback, () => contextOf(this).owner.save(this)) ?? this
})

defineReplaceable('reload', function reload(callback) {
  return answer(callback, () => contextOf(this).owner.reload(this)) ?? this
})

defineMethod('destroy', function destroy(callback) {
  return answer(callback, () => contextOf(this).owner.destroy(this)) ?? this
})

defineMethod('regenerate', function regenerate(callback) {
  return answer(callback, () => contextOf(this).owner.regenerate(this)) ?? this
})

const ownSave = Session.prototype.save

/** Tells whether a session's `save` is its own and not one that the application put in its place. */
export function savesItself(session: Session): boolean {
  return session.save === ownSave
}

/** What is asked for most is found before the proxy. */
const noting = Object.create(
  notingPrototype(Session.prototype),
  Object.fromEntries(
    ['req', 'id'].map((name) => [name, Object.getOwnPropertyDescriptor(Session.prototype, name) as PropertyDescriptor]),
  ),
) as Session
