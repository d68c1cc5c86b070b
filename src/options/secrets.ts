import type { KeyObject } from 'node:crypto'
import { OptionError, warnOnce } from '../base/errors'

/** What signs the cookie: anything that `crypto.createHmac` takes as a key. */
export type Secret = string | NodeJS.ArrayBufferView | ArrayBuffer | KeyObject

export function isSecret(value: unknown): value is Secret {
  return (
    typeof value === 'string' ||
    ArrayBuffer.isView(value) ||
    value instanceof ArrayBuffer ||
    (typeof value === 'object' && value !== null && (value as { type?: unknown }).type === 'secret')
  )
}

/**
 * The secrets as a list, or `undefined` for none.
 * @throws OptionError when one of them cannot sign
 */
export function resolveSecrets(secret: Secret | Secret[] | undefined): readonly Secret[] | undefined {
  if (Array.isArray(secret) && secret.length === 0) {
    throw new OptionError('secret option array must contain one or more strings')
  }
  const secrets = Array.isArray(secret) ? secret : secret ? [secret] : undefined
  for (const each of secrets ?? []) {
    if (!isSecret(each) || bytesOf(each) === 0) {
      throw new OptionError(
        'secret option must be a string, a Buffer, a KeyObject, or a list of these, none of them empty',
      )
    }
    warnOfWeak(each)
  }
  return secrets
}

/** Secrets from tutorials, which are in every list of guesses. */
const WELL_KNOWN =
  /^(keyboard ?cat|secret|your[-_ ]?secret.*|change ?(me|it)|shh+.*|my[-_ ]?secret.*|session[-_ ]?secret|a secret|mysecretkey|set session_secret.*|undefined|null)$/i

/** At least as long as the HMAC's output: RFC 2104, section 3; OWASP ASVS asks for 256 bits, too. */
const SECRET_BYTES = 32

function warnOfWeak(secret: Secret): void {
  if (typeof secret === 'string' && WELL_KNOWN.test(secret)) {
    warnOnce('SESSION_WEAK_SECRET', 'the secret option is a well-known example; make one: openssl rand -base64 32')
  } else if (bytesOf(secret) < SECRET_BYTES) {
    warnOnce(
      'SESSION_WEAK_SECRET',
      `the secret option is shorter than ${SECRET_BYTES} bytes and could be guessed; make one: openssl rand -base64 32`,
    )
  }
}

export function bytesOf(secret: Secret): number {
  if (typeof secret === 'string') return Buffer.byteLength(secret)
  return 'byteLength' in secret ? secret.byteLength : (secret.symmetricKeySize ?? 0)
}
