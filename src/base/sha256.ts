import * as crypto from 'node:crypto'

/** Of Node 20.12 and later: one call, in half the time. */
const hash = (crypto as { hash?: typeof crypto.hash }).hash

/** The SHA-256 of a text, in base64url. */
export function sha256(text: string): string {
  return hash ? hash('sha256', text, 'base64url') : crypto.createHash('sha256').update(text).digest('base64url')
}
