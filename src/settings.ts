import type { Request } from 'express'
import { OptionError, warnOnce } from './base/errors'
import { SessionEvents } from './features/events/events'
import type { Feature } from './features/feature'
import { hintsBy } from './features/hints/hints'
import { renewal } from './features/renewal/renewal'
import { SealedStore } from './features/sealing/sealed-store'
import { timeouts } from './features/timeouts/timeouts'
import { indexedStore, UserIndex } from './features/users/user-index'
import { Users } from './features/users/users'
import type { Secret } from './options/secrets'
import { resolveOptions, type ResolvedOptions } from './options/resolve'
import type { Given } from './options/recommended'
import { newId } from './request/ids'
import { NOBODY, RequestsUnderWay } from './request/requests-under-way'
import { Signer } from './request/signer'
import type { Settings, VisitedRequest } from './request/settings'
import { unnoted } from './session/noted'
import type { SessionNotes } from './session/notes'
import type { Session } from './session/session'
import { DEFAULT_TTL, isRecordStore, type RecordStore } from './store/record-store'
import { storeAccess } from './store/store-access'
import type { Store } from './store/store'
import { MemoryStore, ttlOf } from './stores/memory'

/** What options can switch on beside the index of users: each has a folder, and is known here only. */
const FEATURES: ReadonlyArray<(options: ResolvedOptions) => Feature | undefined> = [timeouts, renewal]

/** @throws OptionError that names the option which cannot be used */
export function makeSettings(
  given: Given,
  deprecate: (message: string) => void,
): Settings & { readonly users: Users | undefined } {
  const options = resolveOptions(given, deprecate)
  const events = new SessionEvents()
  const store = storeOf(options)
  const records = isRecordStore(store) ? store : undefined
  const ttl = records ? ttlOf(records) : DEFAULT_TTL
  const features = FEATURES.map((feature) => feature(options)).filter((feature) => feature !== undefined)
  const users = usersOf(options, store, ttl, features)
  const hints = hintsBy(options.hints)
  if (!options.store || options.store instanceof MemoryStore) {
    hints?.memoryStore()
    if (process.env['NODE_ENV'] === 'production') warnOfMemory()
  }
  hints?.made(options, options.store ?? store)
  const serializer = records?.serializer ?? JSON
  return Object.freeze({
    ...options,
    store,
    storeName: (options.store ?? store).constructor.name,
    access: storeAccess(store, { ...options, ttl, handed: hints && ((session) => hints.handed(session, serializer)) }),
    events,
    hints,
    features: users ? [...features, users] : features,
    users,
    underWay: users || options.clearCookie || options.rolling ? new RequestsUnderWay() : NOBODY,
    serializer,
    ttl,
    expiresOf: (session: Session) => (records ? unnoted(() => records.expiresOf(session)) : Infinity),
    renewsOnRead:
      records !== undefined && !records.inProcess && !options.resave && !options.rolling && options.touchAfter === 0,
    ...properties(options.property),
    newId,
    ...perRequest(options),
  })
}

function storeOf({ store = new MemoryStore(), hashIds, encryption }: ResolvedOptions): Store {
  if (!hashIds && encryption === undefined) return store
  return new SealedStore(requireRecordStore(store, hashIds ? 'hashIds' : 'encryption'), { hashIds, encryption })
}

function usersOf(options: ResolvedOptions, store: Store, ttl: number, others: readonly Feature[]): Users | undefined {
  const { user, describe } = options
  if (!user) return undefined
  const indexed = indexedStore(requireRecordStore(store, 'user'))
  const hasEnded = (notes: SessionNotes, now: number): boolean =>
    others.some((feature) => typeof feature.admitted?.(notes, now) === 'string')
  return new Users(new UserIndex(indexed, { ...options, ttl }, hasEnded), indexed, { ...options, user, describe })
}

function requireRecordStore(store: Store, option: string): RecordStore {
  if (isRecordStore(store)) return store
  throw new OptionError(
    `${option} option needs a record store, such as those of sessile; this one keeps the classic contract`,
  )
}

/** What is kept under `visitKey`. */
interface Placed {
  readonly place: { session: unknown; id: unknown }
}

/** The names under which a request has its session, and accessors that make it when it is looked at. */
function properties(property: string) {
  const visitKey = Symbol('sessile.visit')
  const accessor = (name: string, of: 'session' | 'id'): PropertyDescriptor => ({
    configurable: true,
    enumerable: true,
    get(this: VisitedRequest): unknown {
      return (this[visitKey] as Placed).place[of]
    },
    set(this: VisitedRequest, value: unknown) {
      // An object that only inherits from the request may have a session of its own.
      if (Object.hasOwn(this, visitKey)) (this[visitKey] as Placed).place[of] = value
      else Object.defineProperty(this, name, { value, configurable: true, enumerable: true, writable: true })
    },
  })
  return {
    visitKey,
    idProperty: property + 'ID',
    storeProperty: property + 'Store',
    sessionAccessor: accessor(property, 'session'),
    idAccessor: accessor(property + 'ID', 'id'),
  }
}

function perRequest({ cookie, name, secrets, signName }: ResolvedOptions): Pick<Settings, 'cookieFor' | 'signerOf'> {
  const signerBy = (keys: readonly Secret[]): Signer => new Signer(keys, signName ? name : undefined)
  const ownSigner = secrets && signerBy(secrets)
  return {
    cookieFor: typeof cookie === 'function' ? (req) => cookie(req as unknown as Request) : () => cookie,
    signerOf: ownSigner ? () => ownSigner : signerFromRequest(signerBy),
  }
}

/** Without the option `secret`, cookie-parser's `req.secret` signs. */
function signerFromRequest(signerBy: (keys: readonly Secret[]) => Signer): Settings['signerOf'] {
  let last: Secret | undefined
  let signer: Signer | undefined
  return (req) => {
    const secret = req['secret'] as Secret | undefined
    if (secret !== last) {
      last = secret
      signer = secret ? signerBy([secret]) : undefined
    }
    return signer
  }
}

export function warnOfSkipping(error: unknown): void {
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
