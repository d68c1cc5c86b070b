import { EventEmitter } from 'node:events'
import type { Request } from 'express'
import type { SessionData } from '../session/augmented'
import { Cookie } from '../session/cookie'
import { SessionError, shortened } from '../base/errors'
import { answer, afterwards, type Callback, type MaybePromise } from '../base/maybe-promise'
import { Session, SESSION_OWNER, type SessionRequest } from '../session/session'
import { callStore } from '../base/store-call'

/**
 * The classic store contract: what express-session asks of a store, unchanged.
 *
 * A store calls back exactly once, at once or later. It may return a promise instead of, or besides, calling back:
 * whichever comes first counts. What it throws counts as its error. It emits `disconnect` when it cannot answer for a
 * while, and `connect` when it can again; in between, requests get no session.
 */
export declare abstract class AbstractStore extends EventEmitter {
  /** Passes the session's data, or nothing when there is none or it has expired (an error with the code `ENOENT` says the same). */
  abstract get(id: string, callback: Callback<[data?: SessionData | null]>): unknown
  /** Replaces what is stored by the whole data, until `data.cookie.expires`, else for the store's own default lifetime. */
  abstract set(id: string, data: SessionData, callback?: Callback): unknown
  /** Deletes; no error when there is nothing to delete. */
  abstract destroy(id: string, callback?: Callback): unknown
  /** Moves the end of a session to `data.cookie.expires`, never its data; does nothing for one that is gone. */
  touch?(id: string, data: SessionData, callback?: () => void): unknown
  /** Passes all live sessions, by ID or as a list. */
  all?(callback: Callback<[sessions?: SessionData[] | { [id: string]: SessionData } | null]>): unknown
  /** Passes the number of live sessions. */
  length?(callback: Callback<[length?: number]>): unknown
  /** Deletes all sessions. */
  clear?(callback?: Callback): unknown

  /** Destroys the request's session and gives it a new one. */
  regenerate(req: Request, callback: Callback): void
  /** Loads a session by its ID, outside of any request. */
  load(id: string, callback: Callback<[session?: SessionData]>): void
  /** Makes a Session of stored data and puts it on the request. */
  createSession(req: Request, data: SessionData): Session & SessionData
}

export type Store = AbstractStore

/** The middleware's own addition to a store: gives the request a new session. */
export type GeneratingStore = Store & { generate(req: Request): MaybePromise<void> }

/** The base of all stores. A function, not a class: old stores call it on themselves (`Store.call(this)`), or never. */
export const Store = function Store(this: EventEmitter): void {
  EventEmitter.call(this as never)
} as unknown as typeof AbstractStore

Object.setPrototypeOf(Store.prototype, EventEmitter.prototype)
Object.setPrototypeOf(Store, EventEmitter)

Store.prototype.regenerate = function regenerate(
  this: GeneratingStore,
  req: Request & Pick<SessionRequest, typeof SESSION_OWNER>,
  callback: Callback,
) {
  const owner = req[SESSION_OWNER]
  const { session } = req as { session?: unknown }
  void answer(callback, async () => {
    if (session instanceof Session && owner?.startAnew && req.sessionStore === this) return owner.startAnew(session)
    try {
      await callStore(this, 'destroy', [req.sessionID])
    } finally {
      await this.generate(req)
    }
  })
}

Store.prototype.load = function load(id, callback) {
  void answer(callback, () =>
    afterwards(callStore<SessionData | undefined>(this, 'get', [id]), (data) => {
      const req: SessionRequest = { sessionID: id, sessionStore: this }
      return data ? this.createSession(req as Request, data) : undefined
    }),
  )
}

Store.prototype.createSession = function createSession(req: SessionRequest, data: SessionData) {
  const { expires, originalMaxAge } = data.cookie
  const cookie = new Cookie(data.cookie)
  // As text, or as other writers have it: in ms since the epoch.
  if (typeof expires === 'string' || typeof expires === 'number') cookie.expires = new Date(expires)
  cookie.originalMaxAge = originalMaxAge
  data.cookie = cookie
  const created = new Session(req, data)
  req.session = created
  return created
}

const BASE = { regenerate: Store.prototype.regenerate, createSession: Store.prototype.createSession }

/** Whether an application or a store has replaced a method that stores inherit. */
export function isReplaced(store: Store, name: keyof typeof BASE): boolean {
  if (store[name] === BASE[name]) return false
  let base: object | null = store
  // The base may be express-session's as well: it is recognised by the methods it has.
  while (base && !(Object.hasOwn(base, 'load') && Object.hasOwn(base, 'createSession'))) {
    base = Object.getPrototypeOf(base) as object | null
  }
  return base === Store.prototype || store[name] !== (base as typeof BASE | null)?.[name]
}

/** @throws SessionError when what the store has is not a session */
export function checkedData(id: string, data: unknown): SessionData {
  const cookie = typeof data === 'object' && data !== null ? (data as { cookie?: unknown }).cookie : undefined
  if (typeof cookie === 'object' && cookie !== null) return data as SessionData
  const what = typeof data === 'object' && data !== null ? 'it has no cookie' : `it is a ${typeof data}, not an object`
  throw new SessionError(
    'ERR_SESSION_INVALID_RECORD',
    `Cannot read properties of undefined (reading 'expires'): the record of session ${shortened(id)} is no session, as ${what}. ` +
      `Delete it from the store, or set the option onInvalidRecord to 'replace'`,
  )
}

interface Readiness {
  isReady: boolean
}

/** One pair of listeners for each store, however many middlewares use it. */
const readiness = new WeakMap<Store, Readiness>()

/** Tells whether a store has said that it cannot answer for a while. */
export function followReadiness(store: Store): () => boolean {
  let known = readiness.get(store)
  if (!known) {
    const followed: Readiness = { isReady: true }
    readiness.set(store, (known = followed))
    store.on('disconnect', () => (followed.isReady = false))
    store.on('connect', () => (followed.isReady = true))
  }
  const follows = known
  return () => follows.isReady
}
