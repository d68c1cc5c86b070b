import { createHash, createHmac } from 'node:crypto'
import { storedNotes } from '../../session/notes'
import { isUnreadable, OptionError } from '../../base/errors'
import { Envelope, envelopeIn, secretKey, type Encryption } from './envelope'
import { afterwards, type Callback, type MaybePromise } from '../../base/maybe-promise'
import type { Secret } from '../../options/secrets'
import {
  readMany,
  RecordStore,
  removeLinked,
  type RecordPage,
  type SessionRecord,
  type Version,
  type WriteCondition,
} from '../../store/record-store'
import { ttlOf } from '../../stores/memory'

/** How IDs are hashed before the store sees them. */
export type HashIds =
  | boolean
  | {
      /** Makes the hash an HMAC-SHA-256 with this key. Default: SHA-256, enough for IDs of 128 random bits and more. */
      key?: Secret | undefined
      /** Also finds sessions that are still stored under their plain IDs, encrypted or not, and moves them. Default: `false`. */
      migrate?: boolean | undefined
    }

/** Access to records by the keys that they are stored under, where their IDs are not known. */
export interface KeyedStore {
  keyOf(id: string): string
  /** `readMany` by keys, where a record that cannot be opened counts as none. */
  readKeys(keys: readonly string[]): MaybePromise<ReadonlyArray<SessionRecord | null>>
  /** `removeLinked` by keys. */
  removeKeys(user: string, keys: readonly string[]): MaybePromise<readonly boolean[]>
}

/** Begins every hashed ID, so that it is never taken for a plain one. */
const HASHED = 'h1.'

/**
 * Stores records in another record store: under hashes of their IDs, encrypted, or both. `scan` and `linked` give the keys
 * of records in place of their IDs. A record that cannot be decrypted is an error with the code `ERR_SESSION_SEALED`.
 */
export class SealedStore extends RecordStore implements KeyedStore {
  readonly #inner: RecordStore
  readonly #hash: ((id: string) => string) | undefined
  readonly #migrate: boolean
  readonly #envelope: Envelope | undefined
  /** A request asks for the key of its session's ID several times. */
  #lastId: string | undefined
  #lastKey = ''

  /** @throws OptionError when `hashIds` or a key cannot be used */
  constructor(inner: RecordStore, options: { hashIds?: HashIds | undefined; encryption?: Encryption | undefined }) {
    super()
    const { hashIds, encryption } = options
    this.#inner = inner
    this.#hash = hashIds ? hasher(hashIds) : undefined
    this.#migrate = typeof hashIds === 'object' && hashIds.migrate === true
    this.#envelope = encryption === undefined ? undefined : new Envelope(encryption)
    this.ttl = ttlOf(inner)
    this.serializer = inner.serializer
    Object.defineProperty(this, 'inProcess', { value: inner.inProcess && !this.#envelope })
    Object.defineProperty(this, 'linksExpire', { value: inner.linksExpire })
    for (const event of ['connect', 'disconnect']) inner.on(event, (...args: unknown[]) => this.emit(event, ...args))
    if (inner.prune) this.prune = inner.prune.bind(inner)
    if (inner.removeAll) this.removeAll = inner.removeAll.bind(inner)
    if (inner.count) this.count = inner.count.bind(inner)
    if (inner.check) this.check = inner.check.bind(inner)
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

  #readKey(key: string): MaybePromise<SessionRecord | null> {
    return afterwards(this.#inner.read(key), (record) => record && this.#open(key, record))
  }

  readKeys(keys: readonly string[]): MaybePromise<ReadonlyArray<SessionRecord | null>> {
    return afterwards(readMany(this.#inner, keys), (records) =>
      records.map((record, n) => record && this.#openIfReadable(keys[n] as string, record)),
    )
  }

  removeKeys(user: string, keys: readonly string[]): MaybePromise<readonly boolean[]> {
    return removeLinked(this.#inner, user, keys)
  }

  write(id: string, text: string, expires: number, condition: WriteCondition): MaybePromise<Version | null> {
    const key = this.keyOf(id)
    const write = (): MaybePromise<Version | null> => this.#inner.write(key, this.#seal(key, text), expires, condition)
    // Whoever has a version has read the record, which moved it.
    return typeof condition === 'object' ? write() : afterwards(this.#moveFromPlain(id, key), write)
  }

  renew(id: string, expires: number, from?: number): MaybePromise<boolean> {
    const key = this.keyOf(id)
    return afterwards(
      this.#inner.renew(key, expires, from),
      (renewed) =>
        renewed ||
        afterwards(this.#moveFromPlain(id, key), (record) => record !== null && this.#inner.renew(key, expires, from)),
    )
  }

  /**
   * Removes the plain record first. If another request is just moving it, the copy under the hash is then found here, or
   * removed by that request.
   */
  remove(id: string, version?: Version): MaybePromise<boolean> {
    const key = this.keyOf(id)
    // Whoever has a version has read the record, which moved it.
    if (version !== undefined || !this.#mayBePlain(id)) return this.#inner.remove(key, version)
    return afterwards(this.#inner.remove(id), (plain) =>
      afterwards(this.#inner.remove(key), (hashed) => plain || hashed),
    )
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

  /** `length` and `clear` decrypt nothing, so they work without the right key, too. */
  override length(callback?: Callback<[length?: number]>): Promise<number> | undefined {
    return this.#inner.length(callback)
  }

  override clear(callback?: Callback): Promise<void> | undefined {
    return this.#inner.clear(callback)
  }

  /** An ID that looks like a hash is never looked up as it is: a leaked hash would then serve as an ID. */
  #mayBePlain(id: string): boolean {
    return this.#migrate && !id.startsWith(HASHED)
  }

  /** Moves the record that is stored under the plain ID, if there is one, to the hash of it. */
  #moveFromPlain(id: string, key: string): MaybePromise<SessionRecord | null> {
    if (!this.#mayBePlain(id)) return null
    return afterwards(this.#inner.read(id), (stored) => {
      if (!stored) return this.#readKey(key) // another request may have moved it just now
      const plain = this.#open(id, stored)
      const user = this.#inner.link && storedNotes(this.parse(key, plain)?.cookie ?? {})?.user
      const moved = (): MaybePromise<SessionRecord | null> => this.#rewrite(id, key, plain)
      if (user === undefined) return moved()
      return afterwards(this.#inner.link?.(user, key, plain.expires), () =>
        afterwards(moved(), (record) => afterwards(this.#inner.unlink?.(user, id), () => record)),
      )
    })
  }

  /** If the plain record is gone when it is to be removed, somebody has destroyed the session: the copy goes, too. */
  #rewrite(id: string, key: string, { text, expires }: SessionRecord): MaybePromise<SessionRecord | null> {
    return afterwards(this.#inner.write(key, this.#seal(key, text), expires, 'absent'), (version) => {
      if (version === null) return this.#readKey(key)
      return afterwards(this.#inner.remove(id), (removed) =>
        removed ? { text, expires, version } : afterwards(this.#inner.remove(key), () => null),
      )
    })
  }

  #seal(key: string, text: string): string {
    return this.#envelope ? this.#envelope.seal(text, key) : text
  }

  #open(key: string, record: SessionRecord): SessionRecord {
    if (!this.#envelope || (this.#mayBePlain(key) && envelopeIn(record.text) === undefined)) return record
    return { ...record, text: this.#envelope.open(record.text, key) }
  }

  #openIfReadable(key: string, record: SessionRecord): SessionRecord | null {
    try {
      return this.#open(key, record)
    } catch (error) {
      if (isUnreadable(error)) return null
      throw error
    }
  }
}

function hasher(hashIds: Exclude<HashIds, false>): (id: string) => string {
  const { key, migrate = false } = hashIds === true ? {} : hashIds
  if (typeof hashIds === 'string' || typeof migrate !== 'boolean') {
    throw new OptionError('hashIds option must be true, false, or an object with key, migrate, or both')
  }
  if (key === undefined) return (id) => HASHED + createHash('sha256').update(id).digest('base64url')
  const secret = secretKey(key)
  if (!secret?.symmetricKeySize) {
    throw new OptionError('hashIds.key option must be a string, a Buffer or a secret KeyObject, and not empty')
  }
  return (id) => HASHED + createHmac('sha256', secret).update(id).digest('base64url')
}
