import uid = require('uid-safe')

/** Of a session ID: 192 bits, three times what OWASP asks for at least. */
const BYTES = 24
/** Of an ID: 24 bytes in base64 have no padding. */
const LENGTH = 32
const AT_A_TIME = 64
/** In ms. A process that is stopped and continued twice, as of a snapshot, must not make the same IDs. */
const LONGEST_KEPT = 1000

let made = Buffer.alloc(0)
let at = 0
let when = 0

/** Makes a session ID. Several are made in one go: to ask the system for random bytes takes longer than all else of it. */
export function newId(): string {
  const now = Date.now()
  if (at === made.length || Math.abs(now - when) > LONGEST_KEPT) {
    made = Buffer.from(uid.sync(BYTES * AT_A_TIME), 'latin1')
    at = 0
    when = now
  }
  const id = made.toString('latin1', at, at + LENGTH)
  // It is a secret from now on.
  made.fill(0, at, at + LENGTH)
  at += LENGTH
  return id
}
