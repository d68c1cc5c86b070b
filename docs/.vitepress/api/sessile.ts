/**
 * What `sessile` exports: the function `session`, the names below as its properties, and, in ES modules and TypeScript, also by name.
 *
 * @module sessile
 */
// Each name where it is declared, so that its page has what is said of it there.
import session = require('../../../src')

export { session }
export type { FurtherOptions, SessionOptions, Transport } from '../../../src/options/options'
export type { Secret } from '../../../src/options/secrets'
export type { CookieOptions } from '../../../src/session/cookie-options'
export type { Encryption } from '../../../src/features/sealing/envelope'
export type { HashIds } from '../../../src/features/sealing/sealed-store'
export type { Middleware, Sessions, StoredSession } from '../../../src/sessions'
export type { SessionEventMap, SessionEvents } from '../../../src/features/events/events'
export type { Flash } from '../../../src/features/flash/flash'
export type { UserId, UserSession, UserSessionPage, UserSessionsApi } from '../../../src/features/users/api'
export type { Session } from '../../../src/session/session'
export type { Cookie } from '../../../src/session/cookie'
export { bearer } from '../../../src/request/bearer'
export { SessionError, type SessionErrorCode } from '../../../src/base/errors'
export type { AbstractStore as Store } from '../../../src/store/store'
export type { MemoryStore, MemoryStoreOptions } from '../../../src/stores/memory'
export {
  RecordStore,
  type RecordPage,
  type SessionRecord,
  type Version,
  type WriteCondition,
} from '../../../src/store/record-store'
export type { Serializer } from '../../../src/session/text'
