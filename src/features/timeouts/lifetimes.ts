import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto'
import type { SessionNotes } from '../../session/cookie'

/** The timeouts of OWASP's Session Management Cheat Sheet, in ms; 0 for none. */
export interface Lifetimes {
  readonly idleTimeout: number
  readonly absoluteTimeout: number
  readonly renewalTimeout: number
}

/** The time when a session was last seen is stored at most this often per idle timeout, so that few requests write. */
const IDLE_STEPS = 20

export function hasLifetimes({ idleTimeout, absoluteTimeout, renewalTimeout }: Lifetimes): boolean {
  return idleTimeout + absoluteTimeout + renewalTimeout > 0
}

/** The timeout that a session has reached, if any. The idle timeout ends it up to a twentieth later, never earlier. */
export function timeoutOf(notes: SessionNotes, lifetimes: Lifetimes, now: number): 'idle' | 'absolute' | undefined {
  const { idleTimeout, absoluteTimeout } = lifetimes
  if (absoluteTimeout && now - (notes.created ?? now) >= absoluteTimeout) return 'absolute'
  if (idleTimeout && now - (notes.seen ?? now) >= idleTimeout + idleTimeout / IDLE_STEPS) return 'idle'
  return undefined
}

export function isRenewalDue(notes: SessionNotes, { renewalTimeout }: Lifetimes, now: number): boolean {
  return renewalTimeout > 0 && now - (notes.renewed ?? now) >= renewalTimeout
}

/** Notes that the session was seen; true when the notes have to be stored. */
export function noteVisit(notes: SessionNotes, { idleTimeout }: Lifetimes, now: number): boolean {
  const isNew = notes.created === undefined || notes.renewed === undefined
  notes.created ??= now
  notes.renewed ??= now
  if (!isNew && (!idleTimeout || now - (notes.seen ?? 0) < idleTimeout / IDLE_STEPS)) return false
  notes.seen = now
  return true
}

/** Encrypts a new ID with the old one: whoever has the old ID can read it, whoever only has the store cannot. */
export function sealId(newId: string, oldId: string): string {
  const iv = randomBytes(12)
  const cipher = createCipheriv('aes-256-gcm', sealingKey(oldId), iv)
  return Buffer.concat([iv, cipher.update(newId, 'utf8'), cipher.final(), cipher.getAuthTag()]).toString('base64url')
}

/** @throws Error when it was not sealed with this ID */
export function openId(sealed: string, oldId: string): string {
  const bytes = Buffer.from(sealed, 'base64url')
  const decipher = createDecipheriv('aes-256-gcm', sealingKey(oldId), bytes.subarray(0, 12))
  decipher.setAuthTag(bytes.subarray(-16))
  return decipher.update(bytes.subarray(12, -16), undefined, 'utf8') + decipher.final('utf8')
}

function sealingKey(oldId: string): Buffer {
  return createHash('sha256').update('sessile renewed id\0').update(oldId).digest()
}
