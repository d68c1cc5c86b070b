import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Request, RequestHandler } from 'express'
import createDebug = require('debug')
import uid = require('uid-safe')
import type session = require('./index')
import { find } from './request/admission'
import { Commit } from './request/commit'
import { readSessionId, Signer, type PresentedId } from './request/cookie-header'
import { OptionError, warnOnce } from './base/errors'
import { SessionEvents } from './features/events/events'
import { flashOver } from './features/flash/flash'
import { leaveHiddenClasses } from './response/hidden-classes'
import { Hints } from './features/hints/hints'
import { hasLifetimes, type Lifetimes } from './features/timeouts/lifetimes'
import { isPromise, type MaybePromise } from './base/maybe-promise'
import {
  resolveOptions,
  type CookieOptions,
  type Given,
  type ResolvedOptions,
  type Secret,
  type Transport,
} from './options/options'
import { DEFAULT_TTL, isRecordStore, type RecordStore, type Serializer } from './store/record-store'
import { isBelow } from './request/connection'
import { holdEnd } from './response/response-end'
import { missing, SESSION_OWNER, type LiveSession, type Session } from './session/session'
import type { Sessions } from './sessions'
import { SealedStore } from './features/sealing/sealed-store'
import { storeAccess, type StoreAccess } from './store/store-access'
import { MemoryStore, ttlOf } from './stores/memory'
import type { GeneratingStore } from './store/store'
import { UserSessions, userSessionsApi } from './features/users/user-sessions'
import { ownGenerates, Visit, type VisitedRequest } from './request/visit'

const debug = createDebug('express-session')

type Next = (error?: unknown) => void

/** The options, and what is derived from them once, when the middleware is made. */
export type Settings = Omit<ResolvedOptions, 'hints'> & {
  readonly store: session.Store
  readonly access: () => StoreAccess
  readonly events: SessionEvents
  readonly serializer: Serializer
  /** Lifetime, in ms, of a session whose cookie has no expiry. */
  readonly ttl: number
  readonly hints: Hints | undefined
  /** The index of users' sessions, with the option `user`. */
  readonly users: UserSessions | undefined
  /** When a session ends in the store, in ms since the epoch. */
  readonly expiresOf: (session: Session) => number
  /** The timeouts, if any is set. */
  readonly lifetimes: Lifetimes | undefined
  /** Whether the store may renew a session while reading it. */
  readonly renewsOnRead: boolean
  readonly idProperty: string
  readonly storeProperty: string
  /** The key of the request under which its visit is kept, and the accessors of the session and its ID that use it. */
  readonly visitKey: symbol
  readonly sessionAccessor: PropertyDescriptor
  readonly idAccessor: PropertyDescriptor
  readonly newId: () => string
  /** The cookie settings for a request. */
  readonly cookieFor: (req: VisitedRequest) => CookieOptions
  readonly signerOf: (req: VisitedRequest) => Signer | undefined
}

/** Makes the session middleware; the inner function `session` is the way of one request. */
export function createSessions(given: Given, deprecate: (message: string) => void): Sessions {
  const settings = makeSettings(resolveOptions(given, deprecate))
  const { cookieFor, hints, property, signerOf, skip, store, transport } = settings
  const isReady = followReadiness(store)
  offerGenerate(settings)

  function session(request: IncomingMessage, res: ServerResponse, next: Next): void {
    const req = request as VisitedRequest
    if (req[property]) return next()
    if (skip?.(req as unknown as Request)) return next()
    if (!isReady()) return skipped('the store is disconnected', next)
    const cookieOptions = cookieFor(req)
    if (isPromise(cookieOptions))
      return next(new OptionError('cookie option must return settings, not a promise of them'))
    if (!isBelow(cookieOptions.path ?? '/', req)) {
      hints?.pathMissed(cookieOptions.path as string, req.url)
      return skipped('the path is not below the cookie path', next)
    }
    hints?.pathMatched()
    leaveHiddenClasses(req, res)
    const signer = signerOf(req)
    if (!signer && !transport) return next(new Error('secret option required for sessions'))

    const visit = startVisit(settings, req, signer, cookieOptions)
    const commit = new Commit(visit, res, next, signer)
    holdEnd(res, commit)
    begin(visit, next)
  }

  return Object.defineProperties(session as unknown as Sessions, Object.getOwnPropertyDescriptors(apiOf(settings)))
}

/** Reads the session ID that the request presents, and leaves the visit on the request. */
function startVisit(
  settings: Settings,
  req: VisitedRequest,
  signer: Signer | undefined,
  cookieOptions: CookieOptions,
): Visit {
  const { hints, name, storeProperty, store, transport } = settings
  const presented = transport ? carriedId(transport, req) : signer && readSessionId(req, name, signer)
  const visit = new Visit(settings, req, presented, cookieOptions)
  const other = req[SESSION_OWNER]
  if (other instanceof Visit && other.settings !== settings && other.settings.name === name && !transport) {
    hints?.secondMiddleware(name)
  }
  if (presented) hints?.cookieReturned()
  req[storeProperty] = store
  req[SESSION_OWNER] = visit
  return visit
}

/** Loads the session and calls `next`: synchronously when the store answers synchronously. */
function begin(visit: Visit, next: Next): void {
  const failed = (error: unknown): void => {
    debug('loading failed: %o', error)
    const { events, onLoadError } = visit.settings
    if (onLoadError === 'error') return next(error)
    if (events.wants('storeError')) events.emit('storeError', { error, id: visit.presented?.id })
    else warnOfSkipping(error)
    next()
  }
  let begun
  try {
    begun = visit.begin()
  } catch (error) {
    return failed(error)
  }
  if (!isPromise(begun)) return next()
  begun.then(
    () => process.nextTick(next),
    (error: unknown) => process.nextTick(failed, error),
  )
}

/** What can be done with sessions outside of `req.session`. */
function apiOf(settings: Settings): Omit<Sessions, keyof RequestHandler> {
  const { access, events, property, store, users } = settings

  function visitBehind(req: IncomingMessage): Visit {
    const visit = (req as VisitedRequest)[settings.visitKey]
    if (visit instanceof Visit) return visit
    throw new TypeError('this request has no session: it has not come through this session middleware')
  }

  /** A visit without a response, for a session of which only the ID is known. */
  function visitById(id: string): Visit {
    const req = { headers: {}, url: '/' } as VisitedRequest
    req[settings.storeProperty] = store
    const visit = new Visit(settings, req, { id, oldSecret: false, byApplication: true }, {})
    req[SESSION_OWNER] = visit
    return visit
  }

  return {
    events,
    async update(target, change) {
      const visit = typeof target === 'string' ? visitById(target) : visitBehind(target)
      if (typeof target === 'string' && !(await visit.loadExisting())) throw missing()
      await visit.update(change)
    },
    async get(id) {
      const found = await find(settings, id)
      return found ? access().dataOf(found.id, found.stored) : undefined
    },
    async load(request) {
      const req = request as VisitedRequest
      const visit = startVisit(settings, req, settings.signerOf(req), settings.cookieFor(req))
      return (await visit.loadExisting()) ? (req[property] as Session & session.SessionData) : undefined
    },
    destroy: async (id) => visitById(id).destroyById(id),
    renew: (req) => visitBehind(req).renew(),
    get users() {
      if (!users) throw new OptionError('sessions.users needs the option user, which tells whose session it is')
      return userSessionsApi(users, (req) => (req as VisitedRequest)[property] as LiveSession | undefined)
    },
    flash(req) {
      const visit = visitBehind(req)
      return flashOver(
        () => visit.notes,
        (change) => visit.updateNotes(change),
      )
    },
  }
}

function skipped(why: string, next: Next): void {
  debug('no session: %s', why)
  next()
}

function carriedId(transport: Transport, req: VisitedRequest): PresentedId | undefined {
  const id = transport.read(req as unknown as Request)
  return id ? { id, oldSecret: false } : undefined
}

/** Without the option `secret`, cookie-parser's `req.secret` signs. */
function signerFromRequest(): (req: VisitedRequest) => Signer | undefined {
  let last: Secret | undefined
  let signer: Signer | undefined
  return (req) => {
    const secret = req['secret'] as Secret | undefined
    if (secret !== last) {
      last = secret
      signer = secret ? new Signer([secret]) : undefined
    }
    return signer
  }
}

function followReadiness(store: session.Store): () => boolean {
  let ready = true
  store.on('disconnect', () => (ready = false))
  store.on('connect', () => (ready = true))
  return () => ready
}

/** Gives the store its `generate`. Several middlewares may share a store: the one that a request came through serves it. */
function offerGenerate(settings: Settings): void {
  const generate = (request: Request): MaybePromise<void> => {
    const req = request as unknown as VisitedRequest
    const owner = req[SESSION_OWNER]
    const visit = owner instanceof Visit ? owner : new Visit(settings, req, undefined, settings.cookieFor(req))
    const generated = visit.generate()
    // Callers of the classic `generate` expect no promise: if this one rejects, the process must not end for that.
    if (isPromise(generated)) generated.then(undefined, () => undefined)
    return generated
  }
  ownGenerates.add(generate)
  ;(settings.store as GeneratingStore).generate = generate
}

function makeSettings(options: ResolvedOptions): Settings {
  const { cookie } = options
  const given = options.store ?? new MemoryStore()
  if (process.env['NODE_ENV'] === 'production' && given instanceof MemoryStore) warnOfMemory()
  const events = new SessionEvents()
  const hints = options.hints ? new Hints() : undefined
  if (given instanceof MemoryStore) hints?.memoryStore()
  const store = options.hashIds || options.encryption !== undefined ? sealedStore(given, options) : given
  const records = isRecordStore(store) ? store : undefined
  const ttl = records ? ttlOf(records) : DEFAULT_TTL
  const ownSigner = options.secrets && new Signer(options.secrets)
  if (options.renewalTimeout > 0) requireRecordStore(store, 'renewalTimeout')
  const visitKey = Symbol('sessile.visit')
  const visitIn = (req: object): Visit => (req as VisitedRequest)[visitKey] as Visit
  /** False for an object that only inherits from the request, and may have a session of its own. */
  const isOfVisit = (req: object): boolean => Object.hasOwn(req, visitKey)
  return Object.freeze({
    ...options,
    store,
    events,
    hints,
    access: storeAccess(store, { ...options, events, ttl }),
    lifetimes: hasLifetimes(options) ? options : undefined,
    users: options.user && new UserSessions(requireRecordStore(store, 'user'), { ...options, user: options.user, ttl }),
    expiresOf: (session: Session) => records?.expiresOf(session) ?? Infinity,
    serializer: records?.serializer ?? JSON,
    ttl,
    renewsOnRead: records !== undefined && !records.inProcess && !options.resave && options.touchAfter === 0,
    idProperty: options.property + 'ID',
    storeProperty: options.property + 'Store',
    visitKey,
    sessionAccessor: {
      configurable: true,
      enumerable: true,
      get(this: object): unknown {
        return visitIn(this).session
      },
      set(this: object, value: unknown) {
        if (isOfVisit(this)) visitIn(this).session = value
        else setOwn(this, options.property, value)
      },
    },
    idAccessor: {
      configurable: true,
      enumerable: true,
      get(this: object): unknown {
        return visitIn(this).id
      },
      set(this: object, value: unknown) {
        if (isOfVisit(this)) visitIn(this).id = value
        else setOwn(this, options.property + 'ID', value)
      },
    },
    newId: () => uid.sync(24),
    cookieFor: typeof cookie === 'function' ? (req) => cookie(req as unknown as Request) : () => cookie,
    signerOf: ownSigner ? () => ownSigner : signerFromRequest(),
  })
}

function setOwn(object: object, name: string, value: unknown): void {
  Object.defineProperty(object, name, { value, configurable: true, enumerable: true, writable: true })
}

function sealedStore(store: session.Store, { hashIds, encryption }: ResolvedOptions): session.Store {
  return new SealedStore(requireRecordStore(store, hashIds ? 'hashIds' : 'encryption'), { hashIds, encryption })
}

function requireRecordStore(store: session.Store, option: string): RecordStore {
  if (isRecordStore(store)) return store
  throw new OptionError(
    `${option} option needs a record store, such as those of sessile; this one keeps the classic contract`,
  )
}

function warnOfSkipping(error: unknown): void {
  warnOnce(
    'SESSION_LOAD_SKIPPED',
    `a session could not be loaded (${String(error)}), and with onLoadError: 'skip' the request goes on without; ` +
      "listen to the event 'storeError' of the middleware's events to hear of each",
  )
}

/** Printed whenever a middleware is made, as in express-session, but naming only what is still a limitation here. */
function warnOfMemory(): void {
  console.warn(
    'Warning: sessions are kept in the memory of this process (MemoryStore): they are gone at a restart,\n' +
      'and no other process has them. In production, give session() a store.',
  )
}
