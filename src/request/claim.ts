import type { NoteChange } from '../features/feature'
import { cookieOf } from '../session/noted'
import { notesOf, type SessionNotes } from '../session/notes'
import type { Session } from '../session/session'
import type { Known } from '../store/access'
import type { Settings } from './settings'
import type { Presented } from './signer'
import { hashOf, isRenewalDue, mayWrite, newToken, noteToken, type Worth } from './tokens'

/** A request's claim to a session: what its client holds, what is known of that in the store, and what is to be noted there. */
export class Claim {
  readonly #settings: Settings
  /** What the client holds: the first that leads to a session, if it presents several. */
  held: Presented | undefined
  /** What the client's token was worth when it came. */
  #worth: Worth = 'present'
  #key: string | undefined
  #known: Known | null | undefined
  #changes: NoteChange[] = []
  /** The token that the client is to be told, once the store has it; `#renewal` is the one that the write under way notes. */
  token: string | undefined
  #renewal: string | undefined
  #isConfirmed = false

  constructor(settings: Settings, held: Presented | undefined) {
    this.#settings = settings
    this.held = held
  }

  get key(): string | undefined {
    return this.#key
  }

  /** What is known of the session in the store; `null` if that never had it. */
  get known(): Known | null | undefined {
    return this.#known
  }

  /** The client holds a session that may be used. */
  admitted(held: Presented, known: Known, worth: Worth, changes: readonly NoteChange[]): void {
    this.held = held
    this.#worth = worth
    this.#changes = [...changes]
    this.found(held.key, known)
  }

  found(key: string, known: Known | null): void {
    this.#key = key
    this.#known = known
  }

  /** The request goes on with a new session. */
  beginAnew(key: string): void {
    this.#changes = []
    this.token = undefined
    this.#isConfirmed = false
    this.found(key, null)
  }

  /** Whether the store has confirmed just now, by a conditional write, that the session is still the client's. */
  get isConfirmed(): boolean {
    return this.#isConfirmed
  }

  /** What is known of this session: nothing of one that the application has made itself, for another ID. */
  knownOf(session: Session): Known | null | undefined {
    return session.id === this.#key ? this.#known : undefined
  }

  // What is to be noted at the next write.

  note(change: NoteChange): void {
    this.#changes.push(change)
  }

  /** Whether something is to be noted that is not stored yet. */
  get hasNotesDue(): boolean {
    return this.#changes.length > 0
  }

  /** The notes of a session as they will be stored: those that are, with what is to be changed. */
  notesFor(session: Session, known: Known | null | undefined): SessionNotes {
    const notes: SessionNotes = { ...(known === undefined ? notesOf(cookieOf(session)) : known?.notes) }
    for (const change of this.#changes) change(notes)
    return notes
  }

  /** Has a write note something; if it fails, the next one does not. */
  async noting(change: NoteChange, write: () => unknown): Promise<void> {
    this.note(change)
    try {
      await write()
    } catch (error) {
      this.#changes = this.#changes.filter((one) => one !== change)
      this.#renewal = undefined
      throw error
    }
  }

  /** The store has just taken a write of the session. The client's next request may change that. */
  confirmed(): void {
    this.#isConfirmed = true
    setImmediate(() => (this.#isConfirmed = false))
  }

  /** The session is stored, with all that was to be noted. True when its client is to be told a new token. */
  stored(key: string, known: Known): boolean {
    this.found(key, known)
    this.#changes = []
    if (this.#renewal === undefined) return false
    this.token = this.#renewal
    this.#renewal = undefined
    return true
  }

  // The client's token.

  /** The token that the client has, or is about to have, of a session. */
  tokenOf(key: string): string | undefined {
    return this.token ?? (this.held?.key === key ? this.held.token : undefined)
  }

  /** Whether what the client holds, or is about to, is the latest: a former token would replace that in the browser. */
  holdsPresentToken(session: Session, known = this.knownOf(session)): boolean {
    if (known?.life?.isDestroyed) return false
    const noted = (known?.life?.renewed ?? known?.notes)?.token
    return noted === undefined || hashOf(this.tokenOf(session.id)) === noted
  }

  /** Whether the request may still write a session that is stored with these notes. */
  mayWrite(key: string, notes: SessionNotes | undefined): boolean {
    return this.held?.byApplication === true || mayWrite(this.tokenOf(key), notes)
  }

  get isRenewalDue(): boolean {
    const { renewalGrace, renewalTimeout } = this.#settings
    const notes = this.#known?.notes
    if (!renewalTimeout || !this.held || !notes || this.token !== undefined) return false
    return isRenewalDue(this.#worth, notes, renewalTimeout, renewalGrace, Date.now())
  }

  /** Notes a new token, with which alone the client is in the session from then on. */
  renewal(): NoteChange {
    const token = newToken()
    return (notes) => {
      noteToken(notes, token, undefined, Date.now())
      this.#renewal = token
    }
  }

  /**
   * Has the next write give the client a new token, if that is due. Where another request has just done so, this one does
   * not: its client, the same, would be told two, and hold the wrong one.
   */
  renewIfDue(): void {
    const [held, known] = [this.held, this.#known]
    if (!held || !known || !this.isRenewalDue) return
    const present = known.notes?.token
    const token = newToken()
    this.note((notes) => {
      const isPresent = (known.life?.renewed ?? notes).token === present
      if (isPresent) noteToken(notes, token, hashOf(held.token), Date.now())
      this.#renewal = isPresent ? token : undefined
    })
  }
}
