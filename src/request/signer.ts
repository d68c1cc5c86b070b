import { createSecretKey, type KeyObject } from 'node:crypto'
import signature = require('cookie-signature')
import createDebug = require('debug')
import { Recent } from '../base/recent'
import type { Secret } from '../options/secrets'
import { parseHeld, type Held } from './tokens'

const debug = createDebug('express-session')

/** What a request brought of its session, or the application for it. */
export interface Presented extends Held {
  /** True when an older secret of the list signed it, so that the cookie is to be sent anew. */
  readonly oldSecret: boolean
  /** The cookie's value as it goes into a header, where the first secret signed it. */
  readonly encoded: string | undefined
  /** True when the application presents the key, not a client: then it needs no token. */
  readonly byApplication: boolean
}

export function presentedBy(id: string, oldSecret = false, encoded?: string): Presented {
  const { key, token } = parseHeld(id)
  return { key, token, oldSecret, encoded, byApplication: false }
}

/** The length of the end of a signed value: a dot, and 256 bits in base64. A value that ends otherwise costs no HMAC. */
const SIGNATURE_LENGTH = 1 + 43

/** How many verified cookies are remembered at least: what a busy process sees in some minutes, in at most 4 MB. */
const REMEMBERED = 5000

/** Signs session IDs with the first secret and verifies them with all: the format is cookie-signature's, after `s:`. */
export class Signer {
  readonly #keys: KeyObject[]
  readonly #covered: string
  /**
   * Cookies that were verified, as they were sent, so that a returning visitor costs no HMAC. Only a whole cookie with a
   * valid signature is ever found here, and a look-up compares hashes that are seeded anew in each process, so its timing
   * tells nothing about parts of a signature.
   */
  readonly #verified = new Recent<Presented>(REMEMBERED)

  /** @param cookieName the name of the cookie, if the signature is to cover that, too */
  constructor(secrets: readonly Secret[], cookieName?: string) {
    this.#keys = secrets.map(toKey)
    this.#covered = cookieName === undefined ? '' : `${cookieName}=`
  }

  /** The signed ID as it goes into a header. */
  sign(id: string): string {
    const signed = signature.sign(this.#covered + id, this.#keys[0] as KeyObject)
    return encodeURIComponent('s:' + signed.slice(this.#covered.length))
  }

  /** The signed ID as a transport carries it: of characters that bearer tokens may have, if the ID is (RFC 6750). */
  signPlain(id: string): string {
    return decodeURIComponent(this.sign(id)).slice(2)
  }

  verifyPlain(value: string): Presented | undefined {
    return this.verifySent(encodeURIComponent(`s:${value}`))
  }

  /** Whether a cookie's value as it was sent may have been signed: others cost no HMAC. */
  looksSigned(sent: string): boolean {
    return sent.length > SIGNATURE_LENGTH && (sent.startsWith('s') || sent.startsWith('"'))
  }

  /** The ID in a cookie's value as it was sent, or `undefined` when none of the secrets signed it. */
  verifySent(sent: string): Presented | undefined {
    const known = this.#verified.get(sent)
    if (known) return known
    const verified = this.verify(decode(sent))
    if (verified) this.#verified.set(detach(sent), verified)
    return verified
  }

  /** The same for a value that was decoded already. */
  verify(value: string): Presented | undefined {
    if (!value.startsWith('s:')) {
      debug('cookie is not signed')
      return undefined
    }
    const signed = value.slice(2)
    if (signed.length - signed.lastIndexOf('.') !== SIGNATURE_LENGTH) {
      debug('cookie has no valid signature')
      return undefined
    }
    for (let i = 0; i < this.#keys.length; i++) {
      const unsigned = signature.unsign(this.#covered + signed, this.#keys[i] as KeyObject)
      if (!unsigned) continue
      const id = unsigned.slice(this.#covered.length)
      return i > 0 ? presentedBy(detach(id), true) : presentedBy(detach(id), false, encodeURIComponent(value))
    }
    debug('cookie has no valid signature')
    return undefined
  }
}

function toKey(secret: Secret): KeyObject {
  if (typeof secret === 'string') return createSecretKey(secret, 'utf8')
  if ('export' in secret) return secret
  return createSecretKey(ArrayBuffer.isView(secret) ? secret : Buffer.from(secret))
}

/** A copy that does not keep the whole header in memory, as a substring does. */
function detach(text: string): string {
  return Buffer.from(text).toString()
}

/** A cookie's value as the `cookie` package reads it: without quotes, and percent-decoded where that is possible. */
function decode(sent: string): string {
  const value = sent.startsWith('"') ? sent.slice(1, -1) : sent
  if (!value.includes('%')) return value
  try {
    return decodeURIComponent(value)
  } catch {
    return value
  }
}
