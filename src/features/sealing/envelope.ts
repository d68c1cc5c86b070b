import { isAscii } from 'node:buffer'
import { createCipheriv, createDecipheriv, createHash, createSecretKey, KeyObject, randomBytes } from 'node:crypto'
import { OptionError, SessionError, shortened } from '../../base/errors'

/** A key of 32 bytes, as such or in base64 or hex; of several the first encrypts and all decrypt. */
export type Encryption = EncryptionKey | EncryptionKey[]
type EncryptionKey = string | Uint8Array | KeyObject

const KEY_BYTES = 32
const HEX_KEY = /^[\da-f]{64}$/i
const BASE64_KEY = /^[\w+/-]{43}=?$/
const IV_BYTES = 12
const TAG_BYTES = 16

/** An envelope: `v1`, the name of the key, the IV, and the ciphertext with its tag; the parts in base64url. */
const VERSION = 'v1.'
const NAME_END = VERSION.length + 8
const IV_END = NAME_END + 1 + 16
const SHORTEST = IV_END + 1 + 22

/** What is around an envelope, unless something has formatted the record anew. */
const BEFORE = '{"cookie":{"originalMaxAge":null},"sealed":"'
const AFTER = '"}'

interface Key {
  readonly name: string
  readonly key: KeyObject
}

/** Random bytes for many IVs at once, as asking for them costs more than making them. */
class Ivs {
  #bytes = Buffer.alloc(0)
  #used = 0

  next(): Buffer {
    if (this.#used === this.#bytes.length) {
      this.#bytes = randomBytes(IV_BYTES * 64)
      this.#used = 0
    }
    return this.#bytes.subarray(this.#used, (this.#used += IV_BYTES))
  }
}

/**
 * Encrypts the texts of records with AES-256-GCM; the key that a record is stored under is the associated data. See
 * docs/decisions/encryption-envelope.md.
 */
export class Envelope {
  readonly #keys: readonly Key[]
  readonly #ivs = new Ivs()

  constructor(encryption: Encryption) {
    if (!Array.isArray(encryption)) this.#keys = [toKey(encryption, 'encryption')]
    else this.#keys = encryption.map((key, i) => toKey(key, `encryption[${i}]`))
    if (this.#keys.length === 0) throw new OptionError('encryption option must be a key or a list of at least one key')
  }

  /** Encrypts with the first key. */
  seal(text: string, storedUnder: string): string {
    const { key, name } = this.#keys[0] as Key
    const iv = this.#ivs.next()
    const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(storedUnder))
    // The IV's length is a multiple of three, so that it can be encoded together with what follows it.
    const bytes = Buffer.concat([iv, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()])
    const encoded = bytes.toString('base64url')
    return `${BEFORE}${VERSION}${name}.${encoded.slice(0, 16)}.${encoded.slice(16)}${AFTER}`
  }

  /** @throws SessionError when none of the keys decrypts it, or it was changed or copied from another record */
  open(record: string, storedUnder: string): string {
    const envelope = envelopeIn(record)
    if (envelope === undefined) {
      throw unreadable(storedUnder, 'is not encrypted: it is older than the option encryption, or from other software')
    }
    const isWhole =
      envelope.startsWith(VERSION) &&
      envelope.length >= SHORTEST &&
      envelope[NAME_END] === '.' &&
      envelope[IV_END] === '.'
    const iv = isWhole && decoded(envelope.slice(NAME_END + 1, IV_END))
    const sealed = isWhole && decoded(envelope.slice(IV_END + 1))
    if (!iv || !sealed)
      throw unreadable(storedUnder, 'is in an envelope that is damaged, or of a later version of sessile')
    const name = envelope.slice(VERSION.length, NAME_END)
    const key = this.#keys.find((known) => known.name === name)?.key
    if (!key) throw unreadable(storedUnder, `was encrypted with another key, ${name}`, 'Add that key to encryption')
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: TAG_BYTES })
      decipher.setAAD(Buffer.from(storedUnder)).setAuthTag(sealed.subarray(-TAG_BYTES))
      const text = decipher.update(sealed.subarray(0, -TAG_BYTES))
      decipher.final()
      // Decoding UTF-8 takes ten times as long, and there is mostly nothing to decode.
      return text.toString(isAscii(text) ? 'latin1' : 'utf8')
    } catch (error) {
      const why =
        'was changed since it was encrypted, or copied from another session: something else writes to the store'
      throw unreadable(storedUnder, why, undefined, error)
    }
  }
}

/** The envelope that a record's text holds, of whatever version; `undefined` when the text is not sealed. */
export function envelopeIn(text: string): string | undefined {
  const sealed = asWritten(text) ?? sealedIn(text)
  return typeof sealed === 'string' && /^v\d+\./.test(sealed) ? sealed : undefined
}

/** Without parsing, as long as nothing has formatted the record anew. */
function asWritten(text: string): string | undefined {
  const end = text.length - AFTER.length
  const isAsWritten =
    text.startsWith(BEFORE) && text.endsWith(AFTER) && text.indexOf('"', BEFORE.length) === end && !text.includes('\\')
  return isAsWritten ? text.slice(BEFORE.length, end) : undefined
}

function sealedIn(text: string): unknown {
  try {
    return ((JSON.parse(text) ?? {}) as { sealed?: unknown }).sealed
  } catch {
    return undefined
  }
}

/** The bytes, if they are encoded as an encoder does it: decoders take more. */
function decoded(base64url: string): Buffer | undefined {
  const bytes = Buffer.from(base64url, 'base64url')
  return bytes.toString('base64url') === base64url ? bytes : undefined
}

/** The message shows enough of the key to find the record, and too little to use it as an ID. */
function unreadable(key: string, why: string, remedy = 'Delete it', cause?: unknown): SessionError {
  const message = `the record of session ${shortened(key)} cannot be read, as it ${why}. ${remedy}`
  return new SessionError('ERR_SESSION_SEALED', message, { cause })
}

/** The key in whatever form it is given, or `undefined` for what is none. */
export function secretKey(given: unknown, encoding: BufferEncoding = 'utf8'): KeyObject | undefined {
  if (given instanceof KeyObject) return given
  if (typeof given === 'string') return createSecretKey(given, encoding)
  if (given instanceof ArrayBuffer) return createSecretKey(Buffer.from(given))
  return ArrayBuffer.isView(given) ? createSecretKey(given as NodeJS.ArrayBufferView) : undefined
}

function toKey(given: unknown, option: string): Key {
  const text = typeof given === 'string' ? given.trim() : undefined
  const encoding = text === undefined ? undefined : HEX_KEY.test(text) ? 'hex' : 'base64'
  const key = encoding === 'base64' && !BASE64_KEY.test(text as string) ? undefined : secretKey(text ?? given, encoding)
  if (key?.symmetricKeySize !== KEY_BYTES) {
    throw new OptionError(
      `${option} option must be a key of 32 bytes: a Buffer, a secret KeyObject, or a string of base64 or hex; ` +
        'make one: openssl rand -base64 32',
    )
  }
  return { key, name: createHash('sha256').update(key.export()).digest('base64url').slice(0, 8) }
}
