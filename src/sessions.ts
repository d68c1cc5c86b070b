import type { IncomingMessage, ServerResponse } from 'node:http'
import type { RequestHandler } from 'express'
import { OptionError } from './base/errors'
import type { SessionEvents } from './features/events/events'
import { flashOver, type Flash } from './features/flash/flash'
import type { Users } from './features/users/users'
import { userSessionsApi, type UserSessionsApi } from './features/users/api'
import { find } from './request/admit'
import { presentedByApplication } from './request/identify'
import { refuseOtherOrigins } from './request/same-origin'
import type { Presented } from './request/signer'
import type { Settings, VisitedRequest } from './request/settings'
import { bounded } from './request/turns'
import { Visit } from './request/visit'
import type { SessionData } from './session/augmented'
import { missing, type LiveSession as StoredLive, type Session } from './session/session'
import type { RecordStore } from './store/record-store'

type LiveSession = Session & Partial<SessionData>

/** The data of a stored session; like `req.session`, it may lack every key of `SessionData` but the cookie. */
export type StoredSession = Partial<SessionData> & Pick<SessionData, 'cookie'>

export interface Middleware extends RequestHandler {
  /** The middleware, for `node:http` and others that have no requests of Express. */
  (req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void): void
}

/** What `session()` returns: the middleware, and what can be done with sessions outside of `req.session`. */
export interface Sessions extends Middleware {
  /** Emits an event for what happens to sessions. */
  readonly events: SessionEvents
  /**
   * Changes a session safely against parallel requests: loads its newest state, applies the function, stores the
   * result if nobody was faster, and begins again if somebody was. The function may run several times, so let it change
   * the session that it is given and do nothing else. On a classic store the last writer wins.
   * @param target a request behind the middleware, or a session ID
   * @throws SessionError when the session is gone (`ERR_SESSION_MISSING`, `ERR_SESSION_DESTROYED`), or others were faster
   *   a hundred times (`ERR_SESSION_CONFLICT`)
   * @throws TypeError when the request has not come through this middleware, or when the function calls `update` or another
   *   method of the same session
   */
  update(target: IncomingMessage | string, change: (session: LiveSession) => unknown): Promise<void>
  /** The stored data of a session, or `undefined` when there is none, or it has timed out. */
  get(id: string): Promise<StoredSession | undefined>
  /**
   * The session of a request that has no response to end, such as a WebSocket upgrade, or `undefined`. It is also put
   * on the request. Nothing stores it but its `save`. Rejects with the store's error, whatever `onLoadError` says.
   */
  load(req: IncomingMessage): Promise<LiveSession | undefined>
  /**
   * Logs in: destroys the request's session, against session fixation, and stores a new one with this data.
   * @throws SessionError as `save` does
   * @throws TypeError when the request has not come through this middleware
   */
  login(req: IncomingMessage, data: Partial<SessionData>): Promise<void>
  /**
   * Logs out: destroys the request's session. With the option `clearCookie`, as in the short form, the cookie goes, too.
   * @throws TypeError when the request has not come through this middleware
   */
  logout(req: IncomingMessage): Promise<void>
  /** Destroys a session by its ID; no error when there is none. */
  destroy(id: string): Promise<void>
  /**
   * Gives the client of a request a new token for its session, as after a gain of rights: what it held before opens the
   * session no more. The session keeps its ID, its data and its object. Stores what was changed.
   * @throws SessionError when the session is gone, with the codes of `update`
   * @throws TypeError when the request has not come through this middleware
   */
  renew(req: IncomingMessage): Promise<void>
  /**
   * A middleware against forged requests (CSRF): only pages of this very origin may post, put, patch, delete or open
   * WebSockets. Others get a `SessionError` with the code `ERR_SESSION_CROSS_ORIGIN` and the status 403, through `next`.
   * Mount it before the routes.
   */
  sameOrigin(): Middleware
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

/** Makes a visit without a response: of a request, or of what is presented in its place. */
type VisitOf = (req: VisitedRequest, presented?: readonly Presented[]) => Visit

export function sessionsApi(
  settings: Settings,
  users: Users | undefined,
  visitOf: VisitOf,
): Omit<Sessions, keyof RequestHandler> {
  const { access, events, property, store } = settings

  const visitIn = (req: IncomingMessage): Visit | undefined => {
    const visit = (req as VisitedRequest)[settings.visitKey]
    return visit instanceof Visit ? visit : undefined
  }
  const visitBehind = (req: IncomingMessage): Visit => {
    const visit = visitIn(req)
    if (visit) return visit
    throw new TypeError('this request has no session: it has not come through this session middleware')
  }

  /** A visit for a session of which only the ID is known. */
  const visitById = (id: string): Visit =>
    visitOf({ headers: {}, url: '/' } as unknown as VisitedRequest, [presentedByApplication(id)])

  const loaded = async (visit: Visit): Promise<boolean> => {
    await visit.begin()
    return visit.state === 'stored'
  }

  const api: Omit<Sessions, keyof RequestHandler> = {
    events,
    update: (target, change) =>
      quietly(async () => {
        const visit = typeof target === 'string' ? visitById(target) : visitBehind(target)
        if (typeof target === 'string' && !(await loaded(visit))) throw missing()
        await visit.update(change)
      }),
    async get(id) {
      const known = await bounded(settings, 'load', id, () => find(settings, id))
      return known ? access().dataOf(id, known) : undefined
    },
    async load(request) {
      const req = request as VisitedRequest
      return (await loaded(visitOf(req))) ? (req[property] as StoredLive) : undefined
    },
    login: (req, data) =>
      quietly(async () => {
        const visit = visitBehind(req)
        const session = (req as VisitedRequest)[property] as StoredLive | undefined
        await (session ? visit.regenerate(session) : visit.generate())
        await visit.save(Object.assign(visit.requireSession(), data))
      }),
    logout: (req) =>
      quietly(async () => {
        const visit = visitBehind(req)
        const session = (req as VisitedRequest)[property] as StoredLive | undefined
        if (session) await visit.destroy(session)
      }),
    destroy: (id) =>
      quietly(async () => {
        await visitById(id).destroyByKey(id)
        settings.underWay.leave(id)
      }),
    renew: (req) => quietly(async () => visitBehind(req).renew()),
    sameOrigin: () => refuseOtherOrigins,
    flash(req) {
      const visit = visitBehind(req)
      const { add, take } = flashOver(
        () => visit.claim.known?.notes,
        (change) => visit.updateNotes(change),
      )
      return {
        add: (type, message) => quietly(() => add(type, message)),
        take: (type) => quietly(() => take(type)),
      }
    },
    get users(): UserSessionsApi {
      if (!users) throw new OptionError('sessions.users needs the option user, which tells whose session it is')
      const { list, page, end, endAll, endOthers, index } = userSessionsApi(users, store as RecordStore, {
        sessionOf: (req) => visitIn(req) && ((req as VisitedRequest)[property] as StoredLive | undefined),
        ended(keys) {
          const those = new Set(keys)
          settings.underWay.leaveThose((id) => users.index.keysOf(id).some((key) => those.has(key)))
          if (!events.wants('destroyed')) return
          for (const id of keys) events.emit('destroyed', { id })
        },
        async enter(id) {
          const visit = visitById(id)
          if (!(await loaded(visit))) return false
          const session = visit.requireSession()
          if (!users.isDue(visit.claim.known?.notes, session)) return false
          await visit.save(session)
          return true
        },
      })
      return {
        list,
        page,
        end: (user, handle) => quietly(() => end(user, handle)),
        endAll: (user) => quietly(() => endAll(user)),
        endOthers: (req) => quietly(() => endOthers(req)),
        index: (onProgress) => quietly(() => index(onProgress)),
      }
    },
  }
  return api
}

/** A promise that does not end the process when nobody awaits it and it rejects. */
function quietly<T>(work: () => Promise<T>): Promise<T> {
  const promise = work()
  promise.catch(() => undefined)
  return promise
}
