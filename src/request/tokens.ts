import { randomBytes } from 'node:crypto'
import { sha256 } from '../base/sha256'
import type { SessionNotes } from '../session/notes'

/**
 * A session keeps its key from its creation to its end. What a renewal changes is a token, which the client holds beside the
 * key: `key~token`. The record notes the hash of the present token and, after a periodic renewal, of the former one.
 */
const SEPARATOR = '~'
const TOKEN_BYTES = 16
/** Of 16 bytes in base64url. */
const TOKEN_LENGTH = 22
const TOKEN = /^[\w-]{22}$/

/** After this many ms a client whose answer with a new token was lost is given another. */
const ANOTHER_TOKEN = 60_000

/** What a client holds: the key of its session, and a token once it was renewed. */
export interface Held {
  readonly key: string
  readonly token: string | undefined
}

export function parseHeld(id: string): Held {
  const at = id.length - TOKEN_LENGTH - 1
  if (at < 1 || id[at] !== SEPARATOR || !TOKEN.test(id.slice(at + 1))) return { key: id, token: undefined }
  return { key: id.slice(0, at), token: id.slice(at + 1) }
}

export function joinHeld(key: string, token: string | undefined): string {
  return token === undefined ? key : key + SEPARATOR + token
}

export function newToken(): string {
  return randomBytes(TOKEN_BYTES).toString('base64url')
}

/** What is noted of a token: the client's first one, the key alone, has none. */
export function hashOf(token: string | undefined): string {
  return token === undefined ? '' : sha256(token)
}

/**
 * What a token is worth:
 * - `present`: the session is the client's
 * - `former`: it was until a periodic renewal, and still is, as the answer with the new one may be on its way or lost
 * - `replaced`: it was until a moment ago: a request that was under way when somebody renewed the session
 * - `stale`: it was some time ago; perhaps it was stolen
 */
export type Worth = 'present' | 'former' | 'replaced' | 'stale'

export function worthOf(token: string | undefined, notes: SessionNotes | undefined, grace: number, now: number): Worth {
  if (notes?.token === undefined) return 'present'
  const hash = hashOf(token)
  if (hash === notes.token) return 'present'
  const { former, renewed = 0, shown } = notes
  if (hash === former && (shown === undefined || now - shown <= grace)) return 'former'
  return now - Math.max(renewed, shown ?? 0) <= grace ? 'replaced' : 'stale'
}

/** Whether a request that was admitted with this token may still write what it has changed. */
export function mayWrite(token: string | undefined, notes: SessionNotes | undefined): boolean {
  if (notes?.token === undefined) return true
  const hash = hashOf(token)
  return hash === notes.token || hash === notes.former
}

/** Whether the client has just shown the present token for the first time, so that the former one is about to end. */
export function isFirstShown(worth: Worth, notes: SessionNotes | undefined): boolean {
  return worth === 'present' && notes?.former !== undefined && notes.shown === undefined
}

/** Whether the client is to be given a new token: by the renewal timeout, or as the last one seems to be lost. */
export function isRenewalDue(worth: Worth, notes: SessionNotes, timeout: number, grace: number, now: number): boolean {
  if (timeout === 0) return false
  const age = now - Math.min(notes.renewed ?? notes.created ?? now, now)
  if (worth === 'former') return notes.shown === undefined && age >= Math.max(ANOTHER_TOKEN, grace)
  // As long as the former one is good, so that no request under way holds one of before that.
  const isFormerGood = notes.former !== undefined && now - (notes.shown ?? now) <= grace
  return age >= timeout && !isFormerGood
}

/** Notes a new token. After a periodic renewal the one that the client presented stays good for a while. */
export function noteToken(notes: SessionNotes, token: string, former: string | undefined, now: number): void {
  notes.token = hashOf(token)
  notes.renewed = now
  delete notes.shown
  if (former === undefined) delete notes.former
  else notes.former = former
}
