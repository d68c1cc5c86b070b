import type session = require('../index')
import { ClassicAccess } from './classic-access'
import type { SessionEvents } from '../features/events/events'
import type { InThisProcess } from './in-this-process'
import type { MaybePromise } from '../base/maybe-promise'
import { RecordAccess } from './record-access'
import { isRecordStore, type RecordStore, type SessionRecord } from './record-store'
import type { Session } from '../session/session'

type SessionData = session.SessionData

/** What a request knows of its session in the store, so that it writes only where that still holds. */
export interface Stored {
  /** The record, of a record store. */
  readonly record?: SessionRecord
  /** The parsed data; with a record, parsing may wait until somebody needs it. */
  readonly data?: SessionData
  /** The `count` of `process` when this was read or written. */
  readonly since: number
  readonly process: InThisProcess
}

/** A session that was found, and its present ID. */
export interface Found {
  readonly id: string
  readonly stored: Stored
}

/** A session as it was stored, and the text of its data then, which may include what was merged. */
export interface Saved {
  readonly stored: Stored
  readonly dataText: string
}

/** Access to a store of either contract. What fails synchronously is thrown, everything else rejects. */
export interface StoreAccess {
  load(id: string, renewTo?: number): MaybePromise<Stored | null>
  /** Loads the session that has, or once had, this ID. */
  find(id: string): MaybePromise<Found | null>
  /** The data of what was loaded. */
  dataOf(id: string, stored: Stored): SessionData
  /**
   * Writes the session: `from` is what is known of it, `null` for one that the store never had, `undefined` where
   * nothing is known. If another request has given the session a new ID, this object gets it, too. `merged` is called with
   * each stored state that was merged into it.
   * @throws SessionError when the session is gone, its ID is taken, or others were faster every time
   */
  save(
    session: Session,
    dataText: string,
    from: Stored | null | undefined,
    merged?: (found: Found) => void,
  ): MaybePromise<Saved>
  /** Renews a session that was touched. */
  touch(session: Session, stored: Stored | undefined): MaybePromise<void>
  /** Destroys the session that has, or once had, this ID. `from` as for `save`. */
  destroy(id: string, from?: Stored | null): MaybePromise<void>
}

export interface AccessSettings {
  readonly conflict: 'merge' | 'overwrite' | 'error'
  readonly timeout: number
  /** Lifetime, in ms, of a session whose cookie has no expiry. */
  readonly ttl: number
  readonly touchAfter: number
  readonly renewalTimeout: number
  readonly renewalGrace: number
  readonly events: SessionEvents
  /** Where the application makes the IDs, a new one may belong to another session already. */
  readonly genid?: unknown
}

/**
 * Chooses the contract by which a store is used. Records bypass the classic methods, so they are used only as long as
 * nobody has replaced one of those on the store or in a subclass.
 */
export function storeAccess(store: session.Store, settings: AccessSettings): () => StoreAccess {
  const classic = new ClassicAccess(store, settings)
  if (!isRecordStore(store)) return () => classic
  const records = new RecordAccess(store, settings)
  const { get, set, touch, destroy } = baseOf(store)
  return () =>
    store.get === get && store.set === set && store.touch === touch && store.destroy === destroy ? records : classic
}

/** The RecordStore that a store extends: ours, or that of another copy of this library. */
function baseOf(store: RecordStore): RecordStore {
  let base: object = store
  while (!Object.hasOwn(base, 'records')) base = Object.getPrototypeOf(base) as object
  return base as RecordStore
}
