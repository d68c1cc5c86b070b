import * as crypto from 'node:crypto'
import { OptionError } from '../../base/errors'
import { RecentlyUsed } from './recently-used'
import { Envelope, envelopeIn, secretKey, type Encryption } from './envelope'
import { afterwards, type Callback, type MaybePromise } from '../../base/maybe-promise'
import type { Secret } from '../../options/options'
import {
  RecordStore,
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
      /** Also finds sessions that are still stored under their plain IDs, encrypted or not; they stay there. Default: `false`. */
      migrate?: boolean | undefined
    }

/** Access to records by the keys that they are stored under, where their IDs are not known. */
export interface KeyedStore {
  keyOf(id: string): string
  readKey(key: string): MaybePromise<SessionRecord | null>
  removeKey(key: string): MaybePromise<boolean>
  unlinkKey(user: string, key: string): MaybePromise<void>
}

const REMEMBERED_KEYS = 10_000

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
  /** The keys of sessions by their IDs: a request asks for its session's several times, and a visitor comes back. */
  readonly #keys = new RecentlyUsed(REMEMBERED_KEYS)

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
    if (inner.close) this.close = inner.close.bind(inner)
    if (inner.link) this.link = (user, id, expires) => inner.link?.(user, this.keyOf(id), expires)
    if (inner.unlink) {
      this.unlink = (user, id) =>
        afterwards(inner.unlink?.(user, this.#hashOf(id)), () =>
          this.#mayBePlain(id) ? inner.unlink?.(user, id) : undefined,
        )
    }
    if (inner.linked) this.linked = inner.linked.bind(inner)
  }

  keyOf(id: string): string {
    if (!this.#hash) return id
    const known = this.#keys.get(id)
    if (known !== undefined) return known
    const key = this.#hash(id)
    this.#keys.set(id, key)
    return key
  }

  read(id: string, renewTo?: number): MaybePromise<SessionRecord | null> {
    return this.#whereItLies(id, (key) =>
      afterwards(this.#inner.read(key, renewTo), (record) => record && this.#open(key, record)),
    )
  }

  readKey(key: string): MaybePromise<SessionRecord | null> {
    return afterwards(this.#inner.read(key), (record) => record && this.#open(key, record))
  }

  write(id: string, text: string, expires: number, condition: WriteCondition): MaybePromise<Version | null> {
    const write = (key: string, condition: WriteCondition): MaybePromise<Version | null> =>
      this.#inner.write(key, this.#seal(key, text), expires, condition)
    if (!this.#mayBePlain(id)) return write(this.keyOf(id), condition)
    const writeUnderHash = (): MaybePromise<Version | null> => {
      const hash = this.#hashOf(id)
      this.#keys.set(id, hash)
      return write(hash, condition)
    }
    if (condition === 'absent') return afterwards(this.#inner.read(id), (plain) => (plain ? null : writeUnderHash()))
    return afterwards(
      this.#whereItLies(id, (key) => write(key, condition === 'always' ? 'present' : condition)),
      (version) => (version === null && condition === 'always' ? writeUnderHash() : version),
    )
  }

  renew(id: string, expires: number, from?: number): MaybePromise<boolean> {
    return this.#whereItLies(id, (key) => this.#inner.renew(key, expires, from))
  }

  /** Under both names: earlier versions moved sessions, and one that was stopped midway left two. */
  remove(id: string, version?: Version): MaybePromise<boolean> {
    if (version !== undefined) return this.#whereItLies(id, (key) => this.#inner.remove(key, version))
    if (!this.#mayBePlain(id)) return this.#inner.remove(this.keyOf(id))
    return afterwards(this.#inner.remove(id), (plain) =>
      afterwards(this.#inner.remove(this.#hashOf(id)), (hashed) => plain || hashed),
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

  #hashOf(id: string): string {
    const key = this.keyOf(id)
    return key === id ? (this.#hash?.(id) ?? id) : key
  }

  /**
   * Does something to the record of a session. While sessions are migrated it may lie under its plain ID, and then stays there
   * until it ends: so what is not done under the one name is tried under the other, and where it lies is remembered.
   */
  #whereItLies<T>(id: string, attempt: (key: string) => MaybePromise<T>): MaybePromise<T> {
    const key = this.keyOf(id)
    if (!this.#mayBePlain(id)) return attempt(key)
    return afterwards(attempt(key), (done) => {
      if (done) return done
      const other = key === id ? this.#hashOf(id) : id
      return afterwards(attempt(other), (doneThere) => {
        if (doneThere) this.#keys.set(id, other)
        return doneThere
      })
    })
  }

  #seal(key: string, text: string): string {
    return this.#envelope ? this.#envelope.seal(text, key) : text
  }

  #open(key: string, record: SessionRecord): SessionRecord {
    if (!this.#envelope || (this.#mayBePlain(key) && envelopeIn(record.text) === undefined)) return record
    return { ...record, text: this.#envelope.open(record.text, key) }
  }
}

function hasher(hashIds: Exclude<HashIds, false>): (id: string) => string {
  const { key, migrate = false } = hashIds === true ? {} : hashIds
  if (typeof hashIds === 'string' || typeof migrate !== 'boolean') {
    throw new OptionError('hashIds option must be true, false, or an object with key, migrate, or both')
  }
  if (key === undefined) return sha256
  const secret = secretKey(key)
  if (!secret?.symmetricKeySize) {
    throw new OptionError('hashIds.key option must be a string, a Buffer or a secret KeyObject, and not empty')
  }
  return (id) => HASHED + crypto.createHmac('sha256', secret).update(id).digest('base64url')
}

function sha256(id: string): string {
  // Node 20.0 to 20.11 have no crypto.hash.
  const hash = crypto.hash as typeof crypto.hash | undefined
  return HASHED + (hash ? hash('sha256', id, 'base64url') : crypto.createHash('sha256').update(id).digest('base64url'))
}
