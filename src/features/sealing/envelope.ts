import { createCipheriv, createDecipheriv, createHash, createSecretKey, KeyObject, randomBytes } from 'node:crypto'
import { OptionError, SessionError, shortened } from '../../base/errors'

/** A key of 32 bytes, as such or in base64 or hex; of several the first encrypts and all decrypt. */
export type Encryption = EncryptionKey | EncryptionKey[]
type EncryptionKey = string | Uint8Array | KeyObject

const KEY_BYTES = 32
const HEX_KEY = /^[\da-f]{64}$/i
const BASE64_KEY = /^[\w+/-]{43}=?$/
/** The parts, in base64url: the name of the key; the IV of 12 bytes; the ciphertext with its tag of 16 bytes. */
const ENVELOPE = /^v1\.[\w-]{8}\.[\w-]{16}\.[\w-]{22,}$/
const NAME_AT = 3
const IV_AT = 12
const SEALED_AT = 29
/** What is around an envelope, if nobody has formatted it anew. */
const BEFORE = '{"cookie":{"originalMaxAge":null},"sealed":"'
const AFTER = '"}'
const IV_BYTES = 12
const TAG_BYTES = 16
const IVS_AT_A_TIME = 64

interface Key {
  readonly name: string
  readonly key: KeyObject
}

/** Random bytes for many IVs at a time, as asking for them costs more than making them. */
class Ivs {
  #bytes = Buffer.alloc(0)
  #used = 0

  next(): Buffer {
    if (this.#used === this.#bytes.length) {
      this.#bytes = randomBytes(IV_BYTES * IVS_AT_A_TIME)
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
    const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()])
    return `${BEFORE}v1.${name}.${iv.toString('base64url')}.${sealed.toString('base64url')}${AFTER}`
  }

  /** @throws SessionError when none of the keys decrypts it, or it was changed or copied from another record */
  open(record: string, storedUnder: string): string {
    const envelope = envelopeIn(record)
    if (envelope === undefined) {
      throw unreadable(storedUnder, 'is not encrypted: it is older than the option encryption, or from other software')
    }
    if (!ENVELOPE.test(envelope)) {
      throw unreadable(storedUnder, 'is in an envelope that is damaged, or of a later version of sessile')
    }
    const name = envelope.slice(NAME_AT, IV_AT - 1)
    const sealed = envelope.slice(SEALED_AT)
    const key = this.#keys.find((known) => known.name === name)?.key
    if (!key) throw unreadable(storedUnder, `was encrypted with another key, ${name}`, 'Add that key to encryption')
    const bytes = Buffer.from(sealed, 'base64url')
    try {
      if (bytes.toString('base64url') !== sealed) throw new Error('not the base64url of any bytes')
      const decipher = createDecipheriv(
        'aes-256-gcm',
        key,
        Buffer.from(envelope.slice(IV_AT, SEALED_AT - 1), 'base64url'),
        { authTagLength: TAG_BYTES },
      )
      decipher.setAAD(Buffer.from(storedUnder)).setAuthTag(bytes.subarray(-TAG_BYTES))
      return decipher.update(bytes.subarray(0, -TAG_BYTES), undefined, 'utf8') + decipher.final('utf8')
    } catch (error) {
      const why =
        'was changed since it was encrypted, or copied from another session: something else writes to the store'
      throw unreadable(storedUnder, why, undefined, error)
    }
  }
}

/** The envelope that a record's text holds, of whatever version; `undefined` when the text is not sealed. */
export function envelopeIn(text: string): string | undefined {
  if (text.startsWith(BEFORE) && text.endsWith(AFTER)) {
    const envelope = text.slice(BEFORE.length, -AFTER.length)
    if (ENVELOPE.test(envelope)) return envelope
  }
  try {
    const { sealed } = (JSON.parse(text) ?? {}) as { sealed?: unknown }
    return typeof sealed === 'string' && /^v\d+\./.test(sealed) ? sealed : undefined
  } catch {
    return undefined
  }
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
