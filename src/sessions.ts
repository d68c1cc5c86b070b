import type { IncomingMessage, ServerResponse } from 'node:http'
import type { RequestHandler } from 'express'
import type session = require('./index')
import type { SessionEvents } from './features/events/events'
import type { Flash } from './features/flash/flash'
import type { Session } from './session/session'
import type { UserSessionsApi } from './features/users/user-sessions'

type SessionData = session.SessionData
type LiveSession = Session & Partial<SessionData>

/** The data of a stored session; like `req.session`, it may lack every key of `SessionData` but the cookie. */
export type StoredSession = Partial<SessionData> & Pick<SessionData, 'cookie'>

/** What `session()` returns: the middleware, and what can be done with sessions outside of `req.session`. */
export interface Sessions extends RequestHandler {
  /** The middleware, for `node:http` and others that have no requests of Express. */
  (req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void): void
  /** Emits an event for what happens to sessions. */
  readonly events: SessionEvents
  /**
   * Changes a session safely against parallel requests: loads its newest state, applies the function, stores the
   * result if nobody was faster, and begins again if somebody was. The function may run several times, so let it change
   * the session that it is given and do nothing else. On a classic store the last writer wins.
   * @param target a request behind the middleware, or a session ID
   * @throws SessionError when the session is gone (`ERR_SESSION_MISSING`, `ERR_SESSION_DESTROYED`), or others were faster
   *   a hundred times (`ERR_SESSION_CONFLICT`)
   * @throws TypeError when the request has not come through this middleware
   */
  update(target: IncomingMessage | string, change: (session: LiveSession) => unknown): Promise<void>
  /** The stored data of a session, or `undefined` when there is none, or it has timed out. */
  get(id: string): Promise<StoredSession | undefined>
  /**
   * The session of a request that has no response to end, such as a WebSocket upgrade, or `undefined`. It is also put
   * on the request. Nothing stores it but its `save`. Rejects with the store's error, whatever `onLoadError` says.
   */
  load(req: IncomingMessage): Promise<LiveSession | undefined>
  /** Destroys a session by its ID; no error when there is none. */
  destroy(id: string): Promise<void>
  /**
   * Gives the session of a request a new ID and keeps its data, as after a change of privileges. Requests under way
   * may use the old ID for `renewalGrace` ms; on a classic store it is dead at once. `req.session` is a new object then.
   * @throws SessionError when the session is gone, with the codes of `update`
   * @throws TypeError when the request has not come through this middleware
   */
  renew(req: IncomingMessage): Promise<void>
  /**
   * Messages for the visitor's next request.
   * @throws TypeError when the request has not come through this middleware
   */
  flash(req: IncomingMessage): Flash
  /**
   * The sessions of a user.
   * @throws TypeError without the option `user`
   */
  readonly users: UserSessionsApi
}
