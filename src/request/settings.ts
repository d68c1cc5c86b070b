import type { IncomingMessage } from 'node:http'
import type { SessionEvents } from '../features/events/events'
import type { Feature } from '../features/feature'
import type { Hints } from '../features/hints/hints'
import type { ResolvedOptions } from '../options/resolve'
import type { CookieOptions } from '../session/cookie-options'
import type { Session, SessionRequest } from '../session/session'
import type { Serializer } from '../session/text'
import type { StoreAccess } from '../store/access'
import type { Store } from '../store/store'
import type { RequestsUnderWay } from './requests-under-way'
import type { Signer } from './signer'

/** The request as the middleware leaves it: the session, its ID and its store under the names of the options. */
export type VisitedRequest = IncomingMessage & SessionRequest & { [key: PropertyKey]: unknown }

/** The options, and what is derived from them once, when the middleware is made. */
export type Settings = Omit<ResolvedOptions, 'hints'> & {
  readonly store: Store
  /** The name of the class of the store that was given, for metrics. */
  readonly storeName: string
  readonly access: () => StoreAccess
  readonly events: SessionEvents
  readonly hints: Hints | undefined
  /** What the options have switched on. */
  readonly features: readonly Feature[]
  /** The requests under way, by the session that they have. */
  readonly underWay: RequestsUnderWay
  readonly serializer: Serializer
  /** Lifetime, in ms, of a session whose cookie has no expiry. */
  readonly ttl: number
  /** When a session ends in the store, in ms since the epoch. */
  readonly expiresOf: (session: Session) => number
  /** Whether the store may move a session's end while reading it. */
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
