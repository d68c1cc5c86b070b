import { createHmac, randomBytes } from 'node:crypto'
import { isUnreadable, OptionError } from '../../base/errors'
import { Recent } from '../../base/recent'
import { sha256 } from '../../base/sha256'
import { Envelope, envelopeIn, secretKey, type Encryption } from './envelope'
import { afterwards, oneByOne, type Callback, type MaybePromise } from '../../base/maybe-promise'
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
      /** Also finds sessions that are stored under their plain IDs, encrypted or not; they stay there. Default: `false`. */
      migrate?: boolean | undefined
    }

/** A store whose keys are not the IDs of the sessions. */
export interface KeyedStore {
  /** The keys that the session with this ID may be stored under: a new one is under the first. */
  keysOf(id: string): readonly string[]
  /** An ID by which this store, and no client, knows the record under a key. */
  idOf(key: string): string
  /** `readMany` by keys, where a record that cannot be opened counts as none. */
  readKeys(keys: readonly string[]): MaybePromise<ReadonlyArray<SessionRecord | null>>
  /** `removeLinked` by keys. */
  removeKeys(user: string, keys: readonly string[]): MaybePromise<readonly boolean[]>
}

/** Begins every hashed ID, so that it is never taken for a plain one. */
const HASHED = 'h1.'

const REMEMBERED = 5000

/**
 * Stores records in another record store: under hashes of their IDs, encrypted, or both. `scan` and `linked` give the keys
 * of records in place of their IDs. A record that cannot be decrypted is an error with the code `ERR_SESSION_SEALED`.
 */
export class SealedStore extends RecordStore implements KeyedStore {
  readonly #inner: RecordStore
  readonly #hash: ((id: string) => string) | undefined
  readonly #migrate: boolean
  readonly #envelope: Envelope | undefined
  /** Each request asks for the key of its session's ID several times, and visitors come back. */
  readonly #keys = new Recent<string>(REMEMBERED)
  /** Follows a key that stands for an ID. Nobody can guess it. */
  readonly #mark = '.' + randomBytes(16).toString('base64url')

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
    if (inner.link) {
      this.link = (user, id, expires) => afterwards(this.#whereItLies(id), (key) => inner.link?.(user, key, expires))
    }
    if (inner.unlink) {
      this.unlink = (user, id) => oneByOne(this.keysOf(id), (key) => inner.unlink?.(user, key))
    }
    if (inner.linked) this.linked = inner.linked.bind(inner)
  }

  keysOf(id: string): readonly string[] {
    return this.#mayBePlain(id) ? [this.#keyOf(id), id] : [this.#keyOf(id)]
  }

  idOf(key: string): string {
    return !this.#hash || this.#mayBePlain(key) ? key : key + this.#mark
  }

  #keyOf(id: string): string {
    if (!this.#hash) return id
    const known = this.#keys.get(id)
    if (known !== undefined) return known
    const key = id.endsWith(this.#mark) ? id.slice(0, -this.#mark.length) : this.#hash(id)
    this.#keys.set(id, key)
    return key
  }

  /** An ID that looks like a hash is never looked up as it is: a leaked hash would then serve as an ID. */
  #mayBePlain(id: string): boolean {
    return this.#migrate && !id.startsWith(HASHED)
  }

  /**
   * Does something to a session where it lies. While sessions are migrated that may be under its plain ID, where it then stays
   * until it ends. `attempt` answers `null` or `false` where it is not.
   */
  #atEither<T>(id: string, attempt: (key: string) => MaybePromise<T>): MaybePromise<T> {
    const done = attempt(this.#keyOf(id))
    if (!this.#mayBePlain(id)) return done
    return afterwards(done, (answer) => (answer === null || answer === false ? attempt(id) : answer))
  }

  #whereItLies(id: string): MaybePromise<string> {
    const key = this.#keyOf(id)
    if (!this.#mayBePlain(id)) return key
    return afterwards(this.#inner.read(id), (plain) =>
      plain ? afterwards(this.#inner.read(key), (hashed) => (hashed ? key : id)) : key,
    )
  }

  read(id: string, renewTo?: number): MaybePromise<SessionRecord | null> {
    return this.#atEither(id, (key) =>
      afterwards(this.#inner.read(key, renewTo), (record) => record && this.#open(key, record)),
    )
  }

  readKeys(keys: readonly string[]): MaybePromise<ReadonlyArray<SessionRecord | null>> {
    return afterwards(readMany(this.#inner, keys), (records) =>
      records.map((record, n) => record && this.#openIfReadable(keys[n] as string, record)),
    )
  }

  /** Those that lie under plain IDs, under both names: see `remove`. */
  removeKeys(user: string, keys: readonly string[]): MaybePromise<readonly boolean[]> {
    const hashes = keys.filter((key) => this.#mayBePlain(key)).map((id) => this.#keyOf(id))
    const all = hashes.length === 0 ? keys : [...new Set([...keys, ...hashes])]
    return afterwards(removeLinked(this.#inner, user, all), (removed) => removed.slice(0, keys.length))
  }

  write(id: string, text: string, expires: number, condition: WriteCondition): MaybePromise<Version | null> {
    const write = (key: string, condition: WriteCondition): MaybePromise<Version | null> =>
      this.#inner.write(key, this.#seal(key, text), expires, condition)
    const key = this.#keyOf(id)
    if (!this.#mayBePlain(id)) return write(key, condition)
    if (condition === 'absent') {
      return afterwards(this.#inner.read(id), (plain) => (plain ? null : write(key, 'absent')))
    }
    if (condition !== 'always') return this.#atEither(id, (key) => write(key, condition))
    return afterwards(
      this.#atEither(id, (key) => write(key, 'present')),
      (version) => version ?? write(key, 'always'),
    )
  }

  renew(id: string, expires: number, from?: number): MaybePromise<boolean> {
    return this.#atEither(id, (key) => this.#inner.renew(key, expires, from))
  }

  /**
   * Under both names, the plain one first: earlier versions copied a session to its hash, and when they failed midway the copy
   * under the plain ID would come back as soon as the other is gone.
   */
  remove(id: string, version?: Version): MaybePromise<boolean> {
    const key = this.#keyOf(id)
    if (!this.#mayBePlain(id)) return this.#inner.remove(key, version)
    const removeBoth = (): MaybePromise<boolean> =>
      afterwards(this.#inner.remove(id), (plain) =>
        afterwards(this.#inner.remove(key, version), (hashed) => hashed || (plain && version === undefined)),
      )
    if (version === undefined) return removeBoth()
    return afterwards(this.#inner.read(key), (hashed) => (hashed ? removeBoth() : this.#inner.remove(id, version)))
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
  if (key === undefined) return (id) => HASHED + sha256(id)
  const secret = secretKey(key)
  if (!secret?.symmetricKeySize) {
    throw new OptionError('hashIds.key option must be a string, a Buffer or a secret KeyObject, and not empty')
  }
  return (id) => HASHED + createHmac('sha256', secret).update(id).digest('base64url')
}
