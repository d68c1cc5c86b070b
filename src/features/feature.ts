import type { MaybePromise } from '../base/maybe-promise'
import type { SessionNotes } from '../session/notes'
import type { LiveSession } from '../session/session'

/** A change of a session's notes that is due at its next write. It is made of what is stored by then, so it may run again. */
export type NoteChange = (notes: SessionNotes) => void

/** Why a feature ends a session. */
export type EndReason = 'idle' | 'absolute'

/** A write of a session that is about to be tried. */
export interface Saving {
  readonly session: LiveSession
  readonly key: string
  /** The request that writes; none when the application does so, by the session's ID. */
  readonly req: object | undefined
  /** The notes that are stored, and those that will be: a feature may change these. */
  readonly stored: SessionNotes | undefined
  readonly notes: SessionNotes
  /** Whether the store never had the session: no other request knows of it. */
  readonly isNew: boolean
  /** Whether the session's data or settings have changed: what is only noted late makes no login. */
  readonly isChanged: boolean
}

/** How a write that a feature has prepared ended. */
export interface AfterSaving {
  /** The session is stored; what fails here fails the save. */
  saved(): MaybePromise<void>
  /** It is not, or (after an error of the store) perhaps not. Not called for a try that was overtaken: another one follows. */
  failed(error?: unknown): MaybePromise<void>
}

/**
 * An optional part of the library. The core calls the hooks of those that the options have switched on, each at one place,
 * and knows none by name.
 */
export interface Feature {
  /** A stored session was found for a request: why it has ended, or what is to be noted of the visit. */
  admitted?(notes: SessionNotes | undefined, now: number): EndReason | NoteChange | undefined
  /** What is to be noted of a new session. */
  created?(now: number): NoteChange | undefined
  /**
   * Whether the session has to be stored, although its data has not changed. Asked without it where nobody has looked at it:
   * then, whether it has to be looked at.
   */
  isDue?(stored: SessionNotes | undefined, session?: LiveSession): boolean
  /** A write is about to be tried, once for each try. */
  saving?(saving: Saving): MaybePromise<AfterSaving | undefined>
  /**
   * Another request has stored the session since this one loaded it.
   * @throws SessionError when this request's changes must not be merged with it
   */
  overtaken?(session: LiveSession, stored: SessionNotes | undefined, now: SessionNotes | undefined): void
  /** A save over a session that was stored with these notes was overtaken, and is not tried any more. */
  gaveUp?(session: LiveSession, stored: SessionNotes | undefined): MaybePromise<void>
  /** A session that was stored is about to live on until `expires` (ms since the epoch). */
  touched?(key: string, notes: SessionNotes | undefined, expires: number): MaybePromise<void>
  /** A session was destroyed. */
  destroyed?(key: string, notes: SessionNotes | undefined): MaybePromise<void>
}
