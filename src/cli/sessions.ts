import { isUnreadable } from '../base/errors'
import { Envelope, envelopeIn } from '../features/sealing/envelope'
import { SealedStore } from '../features/sealing/sealed-store'
import { indexedStore, inPages, UserIndex } from '../features/users/user-index'
import { Signer } from '../request/signer'
import { parseHeld, type Held } from '../request/tokens'
import type { SessionData } from '../session/augmented'
import { NOTES, storedNotes, type SessionNotes } from '../session/notes'
import { readMany, type RecordStore, type SessionRecord } from '../store/record-store'
import { UsageError } from './open-store'
import { Progress, SHOWN_ID } from './print'

/** In ms, of each step. */
const TIMEOUT = 30_000

/** Keys and hashing as the app has them. */
export interface Secrets {
  readonly secret: string | undefined
  readonly encryption: string[] | undefined
  readonly hashIds: boolean | { readonly key: string }
}

export function secretsIn(env: NodeJS.ProcessEnv): Secrets {
  const { SESSION_SECRET: secret, SESSILE_ENCRYPTION: keys, SESSILE_HASH_IDS: hash } = env
  return {
    secret: secret || undefined,
    encryption: keys ? keys.split(',').map((key) => key.trim()) : undefined,
    hashIds: !hash || hash === 'false' ? false : hash === 'true' ? true : { key: hash },
  }
}

/** A stored session, as the command line looks at it. */
export interface Stored {
  /** What the store has it under: its ID, or the hash of it. */
  readonly key: string
  readonly record: SessionRecord
  readonly user: string | undefined
  readonly notes: SessionNotes
  /** Without the cookie, in which the library has its notes. */
  readonly data: object
  /** Why its data cannot be read; and whether that is because none of the keys decrypts it. */
  readonly unreadable: string | undefined
  readonly isLocked: boolean
}

/** The sessions of a store, by whatever an operator may know of them. */
export class StoredSessions {
  readonly #envelope: Envelope | undefined
  readonly #sealed: SealedStore

  /** @param userKey the path in a session's data to its user, where the app does not have the option `user` */
  constructor(
    readonly store: RecordStore,
    { encryption, hashIds }: Secrets,
    private readonly userKey?: string,
  ) {
    this.#envelope = encryption && new Envelope(encryption)
    this.#sealed = new SealedStore(store, { hashIds })
  }

  /** Each once, though a scan may come across some again. */
  async *all(total?: number): AsyncGenerator<Stored, void, undefined> {
    const progress = new Progress('looking at sessions', total)
    const seen = new Set<string>()
    try {
      for await (const { id, ...record } of this.store.records()) {
        progress.add(1)
        if (seen.has(id)) continue
        seen.add(id)
        yield this.stored(id, record)
      }
    } finally {
      progress.end()
    }
  }

  stored(key: string, record: SessionRecord): Stored {
    const unread = { key, record, user: undefined, notes: {}, data: {} }
    let isLocked = envelopeIn(record.text) !== undefined
    try {
      if (isLocked && !this.#envelope) {
        return { ...unread, isLocked, unreadable: 'it is encrypted: set SESSILE_ENCRYPTION to the keys' }
      }
      const text = this.#textOf(key, record)
      isLocked = false
      const parsed = (this.store.parse(key, { ...record, text }) ?? {}) as Partial<SessionData>
      const { cookie = {}, ...data } = parsed
      const notes = storedNotes(cookie) ?? {}
      return { ...unread, isLocked, unreadable: undefined, notes, data, user: notes.user ?? this.#userIn(data) }
    } catch (error) {
      if (isUnreadable(error)) return { ...unread, isLocked, unreadable: (error as Error).message }
      throw error
    }
  }

  #textOf(key: string, { text }: SessionRecord): string {
    return this.#envelope && envelopeIn(text) !== undefined ? this.#envelope.open(text, key) : text
  }

  #userIn(data: object): string | undefined {
    const step = (value: unknown, key: string): unknown => (value as Record<string, unknown> | null | undefined)?.[key]
    const user = this.userKey?.split('.').reduce(step, data)
    return typeof user === 'string' || typeof user === 'number' ? String(user) : undefined
  }

  /**
   * Those of a user: by the index, or by looking at all when the user's key is given. One that cannot be read is theirs if the
   * index says so.
   */
  async of(user: string): Promise<Stored[]> {
    const found: Stored[] = []
    if (this.userKey !== undefined) {
      for await (const stored of this.all()) if (stored.user === user) found.push(stored)
      return found
    }
    await inPages((await this.store.linked?.(user)) ?? [], async (keys) => {
      const records = await readMany(this.store, keys)
      for (const [n, key] of keys.entries()) {
        const record = records[n]
        const stored = record && this.stored(key, record)
        if (stored?.user === user) found.push(stored)
        else if (stored?.unreadable !== undefined) found.push({ ...stored, user })
      }
    })
    return found
  }

  /**
   * The session that is meant by an ID, or by its beginning as it is listed.
   * @throws UsageError when it may be several
   */
  async find(id: string): Promise<Stored | undefined> {
    for (const key of new Set([id, ...this.#sealed.keysOf(id)])) {
      const record = await this.store.read(key)
      if (record) return this.stored(key, record)
    }
    const beginning = id.replace(/…$/, '')
    if (beginning.length < SHOWN_ID) return undefined
    let found: Stored | undefined
    for await (const stored of this.all()) {
      if (!stored.key.startsWith(beginning)) continue
      if (found) throw new UsageError(`several sessions begin with ${beginning}`)
      found = stored
    }
    return found
  }

  async end({ key, notes, user }: Stored): Promise<boolean> {
    const isEnded = await this.store.remove(key)
    // An app without the option user, where the data tells whose it is, has no index, and perhaps no table for one.
    const isInIndex = user !== undefined && (this.userKey === undefined || notes.user === user)
    if (isInIndex) await this.store.unlink?.(user, key)
    return isEnded
  }

  /** Ends all sessions of a user, by the index those that begin meanwhile, too, and answers how many. */
  async endUser(user: string): Promise<number> {
    if (this.userKey === undefined) {
      const limits = { ttl: this.store.ttl, timeout: TIMEOUT }
      return new UserIndex(indexedStore(this.store), limits, () => false).endAllBut(user, [])
    }
    let ended = 0
    for (const stored of await this.of(user)) if (await this.end(stored)) ended++
    return ended
  }

  /**
   * Enters a session in the index of users, and notes its user, if the app has not done that yet. Its end stays. Answers whether
   * its user was noted.
   */
  async enter(stored: Stored): Promise<boolean> {
    const { key, notes, record, user } = stored
    if (user === undefined) return false
    await this.store.link?.(user, key, record.expires)
    if (notes.user !== undefined) return false
    const data = JSON.parse(this.#textOf(key, record)) as SessionData
    const login = Date.now()
    const noted = { created: login, ...notes, user, login }
    const text = JSON.stringify({ ...data, cookie: { ...data.cookie, [NOTES]: noted } })
    const isSealed = envelopeIn(record.text) !== undefined
    const sealed = isSealed && this.#envelope ? this.#envelope.seal(text, key) : text
    if ((await this.store.write(key, sealed, record.expires, { version: record.version })) !== null) return true
    await this.store.unlink?.(user, key)
    const now = await this.store.read(key)
    return now !== null && this.enter(this.stored(key, now))
  }
}

/** What an operator has of a session: its ID, or a cookie, or the value of one. */
export interface Given extends Held {
  /** Whether a cookie was signed with the secret; `undefined` for what is no cookie, or without a secret to check it. */
  readonly isSigned: boolean | undefined
  readonly isCookie: boolean
}

/** @throws UsageError when nothing is given, or a part of a cookie that cannot be decoded */
export function parseGiven(given: string, { secret }: Secrets): Given {
  if (given.trim() === '') throw new UsageError('which session? The ID or the cookie is empty')
  const [, name, value = given] = /^([^=]+)=(s(?::|%3a).*)$/i.exec(given.trim()) ?? []
  const decoded = /^s%3a/i.test(value) ? decode(value) : value
  if (!decoded.startsWith('s:')) return { ...parseHeld(decoded), isSigned: undefined, isCookie: false }
  const isSignedBy = (secret: string, name?: string): boolean =>
    new Signer([secret], name).verify(decoded) !== undefined
  return {
    ...parseHeld(decoded.slice(2, decoded.lastIndexOf('.'))),
    isSigned: secret === undefined ? undefined : isSignedBy(secret) || isSignedBy(secret, name),
    isCookie: true,
  }
}

function decode(value: string): string {
  try {
    return decodeURIComponent(value)
  } catch {
    throw new UsageError('the cookie cannot be decoded: is it whole?')
  }
}
