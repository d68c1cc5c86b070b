import depd = require('depd')
import * as bearers from './request/bearer'
import * as cookies from './session/cookie'
import type * as envelope from './features/sealing/envelope'
import * as errors from './base/errors'
import type * as events from './features/events/events'
import type * as messages from './features/flash/flash'
import type * as options from './options/options'
import type * as secrets from './options/secrets'
import type * as cookieOptions from './session/cookie-options'
import * as records from './store/record-store'
import type * as sealed from './features/sealing/sealed-store'
import * as sessions from './session/session'
import type * as api from './sessions'
import * as stores from './store/store'
import * as memory from './stores/memory'
import type * as users from './features/users/api'

declare global {
  namespace Express {
    type SessionStore = stores.GeneratingStore

    interface Request {
      /** The session of this request. Present once the middleware has run. */
      session: session.Session & Partial<session.SessionData>
      /** The ID of the session of this request. */
      sessionID: string
      /** The store that the session is kept in. */
      sessionStore: SessionStore
    }
  }
}

/**
 * Makes the session middleware with the recommended options.
 * @param secret what signs the session cookie; in a list the first signs, all verify
 * @param options what is to be different: it is added to, and wins over, `{ resave: false, saveUninitialized: false,
 *   clearCookie: true, timeout: 30_000 }`, with `NODE_ENV=production` also `cookie: { httpOnly: true, secure: 'auto',
 *   sameSite: 'lax' }`, of which each setting can be replaced by itself
 * @throws TypeError with the code `ERR_SESSION_OPTION`, which names the option that cannot be used, or when there is no secret
 */
function session(
  secret: session.Secret | session.Secret[] | undefined,
  options?: session.FurtherOptions,
): session.Sessions
/**
 * Makes the session middleware with the defaults of express-session.
 * @throws TypeError with the code `ERR_SESSION_OPTION`, which names the option that cannot be used
 */
function session(options?: session.SessionOptions): session.Sessions
function session(...given: unknown[]): session.Sessions {
  // Whoever needs the classes alone does not wait for the rest.
  const { createSessions } = require('./middleware') as typeof import('./middleware')
  return createSessions(given, deprecate)
}

/** Made in this file, because `depd` then names the line that calls `session()` in its notices. */
const deprecate = depd('express-session')

namespace session {
  /** The data of a session. Declare your own: `declare module 'sessile' { interface SessionData { userId: string } }` */
  export interface SessionData {
    /** The settings and the expiry of the session's cookie. */
    cookie: Cookie
  }

  /* eslint-disable @typescript-eslint/no-empty-object-type -- interfaces can be augmented, as those of @types/express-session */
  export interface SessionOptions extends options.SessionOptions {}
  export interface CookieOptions extends cookieOptions.CookieOptions {}
  /* eslint-enable @typescript-eslint/no-empty-object-type */

  export type Sessions = api.Sessions
  export type StoredSession = api.StoredSession
  export type UserSession = users.UserSession
  export type UserSessionPage = users.UserSessionPage
  export import Session = sessions.Session
  export import Cookie = cookies.Cookie
  export import Store = stores.Store
  export import MemoryStore = memory.MemoryStore
  export import RecordStore = records.RecordStore
  export import SessionError = errors.SessionError
  export import bearer = bearers.bearer

  export type Secret = secrets.Secret
  export type FurtherOptions = options.FurtherOptions
  export type Transport = options.Transport
  export type HashIds = sealed.HashIds
  export type Encryption = envelope.Encryption
  export type Flash = messages.Flash
  export type SessionEvents = events.SessionEvents
  export type SessionEventMap = events.SessionEventMap
  export type SessionErrorCode = errors.SessionErrorCode
  export type MemoryStoreOptions = memory.MemoryStoreOptions
  export type SessionRecord = records.SessionRecord
  export type Version = records.Version
  export type WriteCondition = records.WriteCondition
  export type RecordPage = records.RecordPage
  export type Serializer = records.Serializer
}

/* eslint-disable @typescript-eslint/no-unsafe-member-access -- Node finds the names for ES modules in lines like these */
exports.Session = session.Session
exports.Cookie = session.Cookie
exports.Store = session.Store
exports.MemoryStore = session.MemoryStore
exports.RecordStore = session.RecordStore
exports.SessionError = session.SessionError
exports.bearer = session.bearer

export = session
