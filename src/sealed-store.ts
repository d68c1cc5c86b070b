import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createSecretKey,
  randomBytes,
  type KeyObject,
} from 'node:crypto'
import { SessionError } from './errors'
import { afterwards, type MaybePromise } from './maybe-promise'
import type { Secret } from './options'
import { RecordStore, type RecordPage, type SessionRecord, type Version, type WriteCondition } from './record-store'

/** How IDs are hashed before the store sees them. */
export type HashIds =
  | boolean
  | {
      /** Makes the hash an HMAC with this key. Default: a plain SHA-256, enough for IDs of 128 random bits and more. */
      key?: Secret | undefined
      /** Finds sessions stored under their plain IDs once more, and moves them. Default: `false`. */
      migrate?: boolean | undefined
    }

/** A key of 32 bytes, as such or in base64 or hex; of several the first encrypts and all decrypt. */
export type Encryption = EncryptionKey | EncryptionKey[]
type EncryptionKey = string | Uint8Array | KeyObject

/** What is known of records whose IDs are not: they are named by the keys they are stored under. */
export interface KeyedStore {
  keyOf(id: string): string
  readKey(key: string): MaybePromise<SessionRecord | null>
  removeKey(key: string): MaybePromise<boolean>
  unlinkKey(user: string, key: string): MaybePromise<void>
}

/** Begins every hashed ID, so that none is ever taken for a plain one. */
const HASHED = 'h1.'

/** Stores records under hashes of their IDs, encrypted, or both, in another record store. */
export class SealedStore extends RecordStore implements KeyedStore {
  readonly #inner: RecordStore
  readonly #hash: ((id: string) => string) | undefined
  readonly #migrate: boolean
  readonly #box: Box | undefined

  /** @throws TypeError when a key cannot be used */
  constructor(inner: RecordStore, options: { hashIds?: HashIds | undefined; encryption?: Encryption | undefined }) {
    super()
    const { hashIds, encryption } = options
    this.#inner = inner
    this.#hash = hashIds ? hasher(hashIds) : undefined
    this.#migrate = typeof hashIds === 'object' && hashIds.migrate === true
    this.#box = encryption === undefined ? undefined : new Box(Array.isArray(encryption) ? encryption : [encryption])
    this.ttl = inner.ttl
    this.serializer = inner.serializer
    Object.defineProperty(this, 'inProcess', { value: inner.inProcess && !this.#box })
    Object.defineProperty(this, 'linksExpire', { value: inner.linksExpire })
    for (const event of ['connect', 'disconnect']) inner.on(event, () => this.emit(event))
    if (inner.prune) this.prune = (limit) => (inner.prune as Required<RecordStore>['prune'])(limit)
    if (inner.removeAll) this.removeAll = () => inner.removeAll?.()
    if (inner.count) this.count = () => (inner.count as Required<RecordStore>['count'])()
    if (inner.close) this.close = () => inner.close?.()
    if (inner.link) this.link = (user, id, expires) => inner.link?.(user, this.keyOf(id), expires)
    if (inner.unlink) this.unlink = (user, id) => inner.unlink?.(user, this.keyOf(id))
    if (inner.linked) this.linked = (user) => (inner.linked as Required<RecordStore>['linked'])(user)
  }

  keyOf(id: string): string {
    return this.#hash ? this.#hash(id) : id
  }

  read(id: string, renewTo?: number): MaybePromise<SessionRecord | null> {
    const key = this.keyOf(id)
    return afterwards(this.#inner.read(key, renewTo), (record) => {
      if (record) return this.#open(key, record)
      return this.#hasPlain(id) ? this.#moveFromPlain(id, key) : null
    })
  }

  readKey(key: string): MaybePromise<SessionRecord | null> {
    return afterwards(this.#inner.read(key), (record) => record && this.#open(key, record))
  }

  write(id: string, text: string, expires: number, condition: WriteCondition): MaybePromise<Version | null> {
    const key = this.keyOf(id)
    return this.#inner.write(key, this.#box ? this.#box.seal(text, key) : text, expires, condition)
  }

  renew(id: string, expires: number): MaybePromise<boolean> {
    return this.#inner.renew(this.keyOf(id), expires)
  }

  remove(id: string): MaybePromise<boolean> {
    return afterwards(this.#inner.remove(this.keyOf(id)), (removed) =>
      this.#hasPlain(id) ? afterwards(this.#inner.remove(id), (plain) => removed || plain) : removed,
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

  /** A presented ID that looks like a hash is never looked up as it is: it would open what a leaked hash names. */
  #hasPlain(id: string): boolean {
    return this.#migrate && !id.startsWith(HASHED)
  }

  async #moveFromPlain(id: string, key: string): Promise<SessionRecord | null> {
    const plain = await this.#inner.read(id)
    if (!plain) return null
    const { text, expires } = plain
    await this.#inner.write(key, this.#box ? this.#box.seal(text, key) : text, expires, 'absent')
    await this.#inner.remove(id)
    return this.readKey(key)
  }

  #open(key: string, record: SessionRecord): SessionRecord {
    return this.#box ? { ...record, text: this.#box.open(record.text, key) } : record
  }
}

function hasher(hashIds: Exclude<HashIds, false>): (id: string) => string {
  const secret = typeof hashIds === 'object' ? hashIds.key : undefined
  if (secret === undefined) return (id) => HASHED + createHash('sha256').update(id).digest('base64url')
  return (id) =>
    HASHED +
    createHmac('sha256', secret as string)
      .update(id)
      .digest('base64url')
}

const KEY_BYTES = 32
const IV_BYTES = 12
const TAG_BYTES = 16

interface Key {
  readonly name: string
  readonly key: KeyObject
}

/**
 * AES-256-GCM over the text of a record, with the key it is stored under as associated data. The envelope is JSON with
 * a cookie, so that JSON columns take it and other software sees a session without data:
 * `{"cookie":{"originalMaxAge":null},"sealed":"v1.<name of the key>.<base64url of IV, ciphertext and tag>"}`
 */
class Box {
  readonly #keys: readonly Key[]

  constructor(keys: readonly EncryptionKey[]) {
    if (keys.length === 0) throw new TypeError('encryption option must be a key or a list of keys, not an empty list')
    this.#keys = keys.map(toKey)
  }

  seal(text: string, storedUnder: string): string {
    const { key, name } = this.#keys[0] as Key
    const iv = randomBytes(IV_BYTES)
    const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(storedUnder))
    const sealed = Buffer.concat([iv, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()])
    return `{"cookie":{"originalMaxAge":null},"sealed":"v1.${name}.${sealed.toString('base64url')}"}`
  }

  open(envelope: string, storedUnder: string): string {
    const [version, name, sealed] = sealedIn(envelope)?.split('.') ?? []
    if (version !== 'v1' || sealed === undefined) throw unreadable(storedUnder, 'is not encrypted')
    const key = this.#keys.find((known) => known.name === name)?.key
    if (!key)
      throw unreadable(storedUnder, `was encrypted with a key (${name}) that the option encryption does not have`)
    const bytes = Buffer.from(sealed, 'base64url')
    try {
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, IV_BYTES), { authTagLength: TAG_BYTES })
      decipher.setAAD(Buffer.from(storedUnder)).setAuthTag(bytes.subarray(-TAG_BYTES))
      return decipher.update(bytes.subarray(IV_BYTES, -TAG_BYTES), undefined, 'utf8') + decipher.final('utf8')
    } catch (error) {
      throw unreadable(storedUnder, 'was changed, or belongs to another ID', error)
    }
  }
}

function sealedIn(envelope: string): string | undefined {
  try {
    return (JSON.parse(envelope) as { sealed?: string } | null)?.sealed
  } catch {
    return undefined
  }
}

function unreadable(key: string, why: string, cause?: unknown): SessionError {
  return new SessionError('ERR_SESSION_SEALED', `the record of session ${key} ${why}; it cannot be read`, { cause })
}

function toKey(given: EncryptionKey): Key {
  const key = given instanceof Object && 'export' in given ? given : createSecretKey(bytesOf(given))
  if (key.symmetricKeySize !== KEY_BYTES) {
    throw new TypeError(
      'encryption option must be a key of 32 bytes, or a list of such; make one: openssl rand -base64 32',
    )
  }
  return { key, name: createHash('sha256').update(key.export()).digest('base64url').slice(0, 8) }
}

function bytesOf(given: string | Uint8Array): Uint8Array {
  if (typeof given !== 'string') return given
  return Buffer.from(given, /^[0-9a-f]{64}$/i.test(given) ? 'hex' : 'base64')
}
