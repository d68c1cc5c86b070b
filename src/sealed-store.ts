import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createSecretKey,
  KeyObject,
  randomBytes,
} from 'node:crypto'
import { storedNotes } from './cookie'
import { SessionError } from './errors'
import { afterwards, type Callback, type MaybePromise } from './maybe-promise'
import type { Secret } from './options'
import { RecordStore, type RecordPage, type SessionRecord, type Version, type WriteCondition } from './record-store'

/** How IDs are hashed before the store sees them. */
export type HashIds =
  | boolean
  | {
      /** Makes the hash an HMAC with this key. Default: a plain SHA-256, enough for IDs of 128 random bits and more. */
      key?: Secret | undefined
      /** Finds sessions stored under their plain IDs, encrypted or not, once more, and moves them. Default: `false`. */
      migrate?: boolean | undefined
    }

/** A key of 32 bytes, as such or in base64 or hex; of several the first encrypts and all decrypt. */
export type Encryption = EncryptionKey | EncryptionKey[]
type EncryptionKey = string | Uint8Array | KeyObject

/** What can be done with records whose IDs are not known: they are named by the keys they are stored under. */
export interface KeyedStore {
  keyOf(id: string): string
  readKey(key: string): MaybePromise<SessionRecord | null>
  removeKey(key: string): MaybePromise<boolean>
  unlinkKey(user: string, key: string): MaybePromise<void>
}

/** Begins every hashed ID, so that none is ever taken for a plain one. */
const HASHED = 'h1.'

/**
 * Stores records under hashes of their IDs, encrypted, or both, in another record store. `scan` and `linked` give the
 * keys of records in place of their IDs. What does not open is an error with the code `ERR_SESSION_SEALED`.
 */
export class SealedStore extends RecordStore implements KeyedStore {
  readonly #inner: RecordStore
  readonly #hash: ((id: string) => string) | undefined
  readonly #migrate: boolean
  readonly #box: Box | undefined
  /** A request asks for the key of its session's ID several times. */
  #lastId: string | undefined
  #lastKey = ''

  /** @throws TypeError when `hashIds` or a key cannot be used */
  constructor(inner: RecordStore, options: { hashIds?: HashIds | undefined; encryption?: Encryption | undefined }) {
    super()
    const { hashIds, encryption } = options
    this.#inner = inner
    this.#hash = hashIds ? hasher(hashIds) : undefined
    this.#migrate = typeof hashIds === 'object' && hashIds.migrate === true
    this.#box = encryption === undefined ? undefined : new Box(encryption)
    this.ttl = inner.ttl
    this.serializer = inner.serializer
    Object.defineProperty(this, 'inProcess', { value: inner.inProcess && !this.#box })
    Object.defineProperty(this, 'linksExpire', { value: inner.linksExpire })
    for (const event of ['connect', 'disconnect']) inner.on(event, (...args: unknown[]) => this.emit(event, ...args))
    if (inner.prune) this.prune = inner.prune.bind(inner)
    if (inner.removeAll) this.removeAll = inner.removeAll.bind(inner)
    if (inner.count) this.count = inner.count.bind(inner)
    if (inner.close) this.close = inner.close.bind(inner)
    if (inner.link) this.link = (user, id, expires) => inner.link?.(user, this.keyOf(id), expires)
    if (inner.unlink) this.unlink = (user, id) => inner.unlink?.(user, this.keyOf(id))
    if (inner.linked) this.linked = inner.linked.bind(inner)
  }

  keyOf(id: string): string {
    if (!this.#hash) return id
    if (id !== this.#lastId) {
      this.#lastKey = this.#hash(id)
      this.#lastId = id
    }
    return this.#lastKey
  }

  read(id: string, renewTo?: number): MaybePromise<SessionRecord | null> {
    const key = this.keyOf(id)
    return afterwards(this.#inner.read(key, renewTo), (record) =>
      record ? this.#open(key, record) : this.#moveFromPlain(id, key),
    )
  }

  readKey(key: string): MaybePromise<SessionRecord | null> {
    return afterwards(this.#inner.read(key), (record) => record && this.#open(key, record))
  }

  write(id: string, text: string, expires: number, condition: WriteCondition): MaybePromise<Version | null> {
    const key = this.keyOf(id)
    const write = (): MaybePromise<Version | null> => this.#inner.write(key, this.#seal(key, text), expires, condition)
    // Whoever has a version has read the record, and so moved it.
    return typeof condition === 'object' ? write() : afterwards(this.#moveFromPlain(id, key), write)
  }

  renew(id: string, expires: number): MaybePromise<boolean> {
    const key = this.keyOf(id)
    return afterwards(
      this.#inner.renew(key, expires),
      (renewed) =>
        renewed ||
        afterwards(this.#moveFromPlain(id, key), (record) => record !== null && this.#inner.renew(key, expires)),
    )
  }

  /** The plain record goes first: one that is just being moved is then found under its hash, or taken back by its mover. */
  remove(id: string): MaybePromise<boolean> {
    const key = this.keyOf(id)
    if (!this.#mayBePlain(id)) return this.#inner.remove(key)
    return afterwards(this.#inner.remove(id), (plain) =>
      afterwards(this.#inner.remove(key), (hashed) => plain || hashed),
    )
  }

  removeKey(key: string): MaybePromise<boolean> {
    return this.#inner.remove(key)
  }

  unlinkKey(user: string, key: string): MaybePromise<void> {
    return this.#inner.unlink?.(user, key)
  }

  scan(cursor: string | null, limit: number): MaybePromise<RecordPage> {
    return afterwards(this.#inner.scan(cursor, limit), (page) => ({
      ...page,
      records: page.records.map((record) => ({ ...this.#open(record.id, record), id: record.id })),
    }))
  }

  override expiresOf(data: { cookie: { expires?: unknown } }): number {
    return this.#inner.expiresOf(data)
  }

  /** Neither of these opens records, so they work without the right key, too. */
  override length(callback?: Callback<[length?: number]>): Promise<number> | undefined {
    return this.#inner.length(callback)
  }

  override clear(callback?: Callback): Promise<void> | undefined {
    return this.#inner.clear(callback)
  }

  /** A presented ID that looks like a hash is never looked up as it is: it would open what a leaked hash names. */
  #mayBePlain(id: string): boolean {
    return this.#migrate && !id.startsWith(HASHED)
  }

  /** Moves the record that is stored under the plain ID, if there is one, to the hash of it. */
  #moveFromPlain(id: string, key: string): MaybePromise<SessionRecord | null> {
    if (!this.#mayBePlain(id)) return null
    return afterwards(this.#inner.read(id), (stored) => {
      if (!stored) return this.readKey(key) // another request may have moved it just now
      const plain = this.#open(id, stored)
      const user = this.#inner.link && storedNotes(this.parse(key, plain)?.cookie ?? {})?.user
      const moved = (): MaybePromise<SessionRecord | null> => this.#rewrite(id, key, plain)
      if (user === undefined) return moved()
      return afterwards(this.#inner.link?.(user, key, plain.expires), () =>
        afterwards(moved(), (record) => afterwards(this.#inner.unlink?.(user, id), () => record)),
      )
    })
  }

  /** When the plain record is gone by the time it is to be removed, somebody has destroyed the session meanwhile. */
  #rewrite(id: string, key: string, { text, expires }: SessionRecord): MaybePromise<SessionRecord | null> {
    return afterwards(this.#inner.write(key, this.#seal(key, text), expires, 'absent'), (version) => {
      if (version === null) return this.readKey(key)
      return afterwards(this.#inner.remove(id), (removed) =>
        removed ? { text, expires, version } : afterwards(this.#inner.remove(key), () => null),
      )
    })
  }

  #seal(key: string, text: string): string {
    return this.#box ? this.#box.seal(text, key) : text
  }

  #open(key: string, record: SessionRecord): SessionRecord {
    if (!this.#box || (this.#mayBePlain(key) && sealedIn(record.text) === undefined)) return record
    return { ...record, text: this.#box.open(record.text, key) }
  }
}

function hasher(hashIds: Exclude<HashIds, false>): (id: string) => string {
  const { key, migrate = false } = hashIds === true ? {} : hashIds
  if (typeof hashIds === 'string' || typeof migrate !== 'boolean') {
    throw new TypeError('hashIds option must be true, false, or an object with key, migrate, or both')
  }
  if (key === undefined) return (id) => HASHED + createHash('sha256').update(id).digest('base64url')
  const secret = secretKey(key)
  if (!secret?.symmetricKeySize) {
    throw new TypeError('hashIds.key option must be a string, a Buffer or a secret KeyObject, and not empty')
  }
  return (id) => HASHED + createHmac('sha256', secret).update(id).digest('base64url')
}

function secretKey(given: unknown, encoding: BufferEncoding = 'utf8'): KeyObject | undefined {
  if (given instanceof KeyObject) return given
  if (typeof given === 'string') return createSecretKey(given, encoding)
  if (given instanceof ArrayBuffer) return createSecretKey(Buffer.from(given))
  return ArrayBuffer.isView(given) ? createSecretKey(given as NodeJS.ArrayBufferView) : undefined
}

const KEY_BYTES = 32
const HEX_KEY = /^[\da-f]{64}$/i
const BASE64_KEY = /^[\w+/-]{43}=?$/
/** Name of the key; IV of 12 bytes; ciphertext with a tag of 16 bytes. */
const ENVELOPE = /^v1\.([\w-]{8})\.([\w-]{16})\.([\w-]{22,})$/
const IV_BYTES = 12
const TAG_BYTES = 16

interface Key {
  readonly name: string
  readonly key: KeyObject
}

/** AES-256-GCM over the text of a record, the key it is stored under as associated data; docs/decisions/encryption-envelope.md. */
class Box {
  readonly #keys: readonly Key[]

  constructor(encryption: Encryption) {
    if (!Array.isArray(encryption)) this.#keys = [toKey(encryption, 'encryption')]
    else this.#keys = encryption.map((key, i) => toKey(key, `encryption[${i}]`))
    if (this.#keys.length === 0) throw new TypeError('encryption option must be a key or a list of at least one key')
  }

  seal(text: string, storedUnder: string): string {
    const { key, name } = this.#keys[0] as Key
    const iv = randomBytes(IV_BYTES)
    const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(storedUnder))
    const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()])
    const envelope = `v1.${name}.${iv.toString('base64url')}.${sealed.toString('base64url')}`
    return `{"cookie":{"originalMaxAge":null},"sealed":"${envelope}"}`
  }

  open(record: string, storedUnder: string): string {
    const envelope = sealedIn(record)
    if (envelope === undefined) {
      throw unreadable(storedUnder, 'is not encrypted: it is older than the option encryption, or from other software')
    }
    const [, name, iv, sealed] = ENVELOPE.exec(envelope) ?? []
    if (name === undefined || iv === undefined || sealed === undefined) {
      throw unreadable(storedUnder, 'is in an envelope that is damaged, or of a later version of sessile')
    }
    const key = this.#keys.find((known) => known.name === name)?.key
    if (!key) throw unreadable(storedUnder, `was encrypted with another key, ${name}`, 'Add that key to encryption')
    const bytes = Buffer.from(sealed, 'base64url')
    try {
      if (bytes.toString('base64url') !== sealed) throw new Error('not the base64url of any bytes')
      const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(iv, 'base64url'), { authTagLength: TAG_BYTES })
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
function sealedIn(text: string): string | undefined {
  try {
    const { sealed } = (JSON.parse(text) ?? {}) as { sealed?: unknown }
    return typeof sealed === 'string' && /^v\d+\./.test(sealed) ? sealed : undefined
  } catch {
    return undefined
  }
}

/** The message has enough of the key to find the record by, and too little to use it as an ID. */
function unreadable(key: string, why: string, remedy = 'Delete it', cause?: unknown): SessionError {
  const message = `the record of session ${key.slice(0, 12)}… cannot be read, as it ${why}. ${remedy}`
  return new SessionError('ERR_SESSION_SEALED', message, { cause })
}

function toKey(given: unknown, option: string): Key {
  const text = typeof given === 'string' ? given.trim() : undefined
  const encoding = text === undefined ? undefined : HEX_KEY.test(text) ? 'hex' : 'base64'
  const key = encoding === 'base64' && !BASE64_KEY.test(text as string) ? undefined : secretKey(text ?? given, encoding)
  if (key?.symmetricKeySize !== KEY_BYTES) {
    throw new TypeError(
      `${option} option must be a key of 32 bytes: a Buffer, a secret KeyObject, or a string of base64 or hex; ` +
        'make one: openssl rand -base64 32',
    )
  }
  return { key, name: createHash('sha256').update(key.export()).digest('base64url').slice(0, 8) }
}
