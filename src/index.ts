import depd = require('depd')
import * as cookies from './cookie'
import { createSessions } from './middleware'
import type * as options from './options'
import * as records from './record-store'
import * as sessions from './session'
import type * as api from './sessions'
import * as stores from './store'
import * as memory from './stores/memory'
import type * as users from './user-sessions'

declare global {
  namespace Express {
    type SessionStore = stores.GeneratingStore

    interface Request {
      /** The session of this request. It exists only behind the middleware. */
      session: session.Session & Partial<session.SessionData>
      /** The ID of the session of this request. */
      sessionID: string
      /** The store that the session is kept in. */
      sessionStore: SessionStore
    }
  }
}

/**
 * Makes the session middleware.
 * @param options the secret that signs the session cookie, which stands for the recommended options with it, or an
 *   object of options
 * @throws TypeError that names the option which cannot be used
 */
function session(options?: session.SessionOptions | session.Secret): session.Sessions
function session(...given: options.Given): session.Sessions {
  return createSessions(given, deprecate)
}

/** Made here, so that its notices name the line that calls `session()`. */
const deprecate = depd('express-session')

namespace session {
  /** The data of a session. Declare your own: `declare module 'sessile' { interface SessionData { userId: string } }` */
  export interface SessionData {
    cookie: Cookie
  }

  export type Sessions = api.Sessions
  export type UserSession = users.UserSession
  export import Session = sessions.Session
  export import Cookie = cookies.Cookie
  export import Store = stores.Store
  export import MemoryStore = memory.MemoryStore
  export import RecordStore = records.RecordStore

  export type SessionOptions = options.SessionOptions
  export type CookieOptions = options.CookieOptions
  export type Secret = options.Secret
  export type Transport = options.Transport
  export type MemoryStoreOptions = memory.MemoryStoreOptions
  export type SessionRecord = records.SessionRecord
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

export = session
