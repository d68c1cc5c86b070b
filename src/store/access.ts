import type { MaybePromise } from '../base/maybe-promise'
import type { SessionData } from '../session/augmented'
import type { Cookie, CookieData } from '../session/cookie'
import type { SessionNotes } from '../session/notes'
import type { Session } from '../session/session'
import type { Life } from './lives'
import type { SessionRecord } from './record-store'

/** What a request knows of its session in the store, so that it writes only where that still holds. */
export interface Known {
  /** The record, of a record store. */
  readonly record?: SessionRecord
  /** The parsed data, of a classic store or of a text that is not JSON with the cookie first. */
  readonly data?: SessionData
  /** What a session is made of, where that was parsed when it was loaded. */
  readonly parts?: Parts
  /** The text of the data and the cookie's settings, of a JSON text that has the cookie first. */
  readonly text?: string
  readonly settings?: Readonly<CookieData>
  readonly notes: SessionNotes | undefined
  /** What this process knows of the session, for a classic store, which cannot tell. */
  readonly life?: Life
}

/** What a session object is made of: its data without the cookie, and the cookie. */
export interface Parts {
  readonly values: object
  readonly cookie: Cookie
}

/** Access to a store of either contract. What fails synchronously is thrown, everything else rejects. */
export interface StoreAccess {
  /** Whether writes are conditional, so that `write` finds out what others have done. */
  readonly isExact: boolean
  /** The session under this key. Given `renewTo` (ms since the epoch), the store may move its end there in the same step. */
  load(key: string, renewTo?: number): MaybePromise<Known | null>
  /** What was loaded as the store has it, with a plain cookie. The next call may give the same objects, here and below. */
  dataOf(key: string, known: Known): SessionData
  /** The same for a session object, which takes it over. */
  partsOf(key: string, known: Known): Parts
  /** What `dataOf` answers, always parsed anew. */
  freshDataOf(known: Known): SessionData
  /**
   * Writes the session over what is known of it: `null` if the store never had it, `undefined` if nothing is known. Answers
   * what is known then, or `null` when the store has something else now, or nothing.
   * @throws SessionError on a classic store, when this process knows that the session is gone
   */
  write(session: Session, dataText: string, known: Known | null | undefined): MaybePromise<Known | null>
  /** The same over whatever session is there; `null` when there is none. */
  writeOver(session: Session, dataText: string): MaybePromise<Known | null>
  /** Moves the session's end, unless it is where it should be. False when that was so. */
  touch(session: Session, known: Known | null | undefined): MaybePromise<boolean>
  /** The same for a session that nobody has looked at, by the lifetime of its cookie (ms, `null` for none). */
  touchUnseen(key: string, known: Known, maxAge: number | null): MaybePromise<boolean>
  /** Deletes the session. */
  destroy(key: string): MaybePromise<void>
  /** The same, and answers the notes that it had at its end, as far as the store can tell. */
  destroyKnown(key: string, known: Known | null | undefined): MaybePromise<SessionNotes | undefined>
}

export interface AccessSettings {
  /** Lifetime, in ms, of a session whose cookie has no expiry. */
  readonly ttl: number
  readonly touchAfter: number
  /** Told of each session that a classic store was handed just now: some put something of their own on it. */
  readonly handed?: ((session: Session) => void) | undefined
}
