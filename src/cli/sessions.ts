import { randomBytes } from 'node:crypto'
import session = require('../index')
import { isUnreadable } from '../base/errors'
import { Envelope, envelopeIn } from '../features/sealing/envelope'
import { SealedStore, type HashIds } from '../features/sealing/sealed-store'
import { storedNotes, type SessionNotes } from '../session/notes'
import type { RecordStore, SessionRecord } from '../store/record-store'
import { UsageError } from './open-store'
import { SHOWN_ID } from './print'

/** A stored session, as the command line looks at it. */
export interface Stored {
  /** What the store has it under: its ID, or the hash of it. */
  readonly key: string
  readonly record: SessionRecord
  readonly user: string | undefined
  readonly notes: SessionNotes
  readonly data: Record<string, unknown>
  /** Why its data cannot be read. */
  readonly unreadable: string | undefined
}

/** Keys and hashing as the app has them, from the environment. */
export interface Secrets {
  readonly encryption: string[] | undefined
  readonly hashIds: HashIds
}

export function secretsOf(env: NodeJS.ProcessEnv): Secrets {
  const { SESSILE_ENCRYPTION: keys, SESSILE_HASH_IDS: hash } = env
  return {
    encryption: keys ? keys.split(',').map((key) => key.trim()) : undefined,
    hashIds: !hash || hash === 'false' ? false : hash === 'true' ? true : { key: hash },
  }
}

/** The sessions of a store, by whatever an operator may know of them. */
export class StoredSessions {
  readonly #envelope: Envelope | undefined
  readonly #sealed: SealedStore

  /** @param userKey the path in a session's data to its user, where the app does not have the option `user` */
  constructor(
    readonly store: RecordStore,
    private readonly secrets: Secrets,
    private readonly userKey: string | undefined,
  ) {
    this.#envelope = secrets.encryption && new Envelope(secrets.encryption)
    this.#sealed = new SealedStore(store, { hashIds: secrets.hashIds })
  }

  async *all(): AsyncGenerator<Stored, void, undefined> {
    for await (const { id, ...record } of this.store.records()) yield this.stored(id, record)
  }

  stored(key: string, record: SessionRecord): Stored {
    let data: Record<string, unknown> = {}
    let notes: SessionNotes = {}
    let unreadable: string | undefined
    try {
      const isSealed = envelopeIn(record.text) !== undefined
      if (isSealed && !this.#envelope) unreadable = 'it is encrypted: set SESSILE_ENCRYPTION to the key'
      else {
        const text = isSealed && this.#envelope ? this.#envelope.open(record.text, key) : record.text
        data = (this.store.parse(key, { ...record, text }) ?? {}) as unknown as Record<string, unknown>
        notes = storedNotes((data['cookie'] ?? {}) as object) ?? {}
      }
    } catch (error) {
      if (!isUnreadable(error)) throw error
      unreadable = (error as Error).message
    }
    return { key, record, user: notes.user ?? this.#userIn(data), notes, data, unreadable }
  }

  #userIn(data: Record<string, unknown>): string | undefined {
    const user = valueAt(data, this.userKey)
    return typeof user === 'string' || typeof user === 'number' ? String(user) : undefined
  }

  /** Those of a user: by the index, or by looking at all when the user's key is given. */
  async of(user: string): Promise<Stored[]> {
    const found: Stored[] = []
    if (this.userKey !== undefined) {
      for await (const stored of this.all()) if (stored.user === user) found.push(stored)
      return found
    }
    for (const key of (await this.store.linked?.(user)) ?? []) {
      const record = await this.store.read(key)
      const stored = record && this.stored(key, record)
      if (stored?.user === user) found.push(stored)
    }
    return found
  }

  /**
   * The session that is meant by an ID, by its beginning as it is listed, or by the value of a cookie.
   * @throws UsageError when it may be several
   */
  async find(given: string): Promise<Stored | undefined> {
    const id = idIn(given)
    for (const key of new Set([id, ...this.#sealed.keysOf(id)])) {
      const record = await this.store.read(key)
      if (record) return this.stored(key, record)
    }
    const beginning = id.replace(/…$/, '')
    if (beginning.length < SHOWN_ID) return undefined
    let found: Stored | undefined
    for await (const stored of this.all()) {
      if (!stored.key.startsWith(beginning)) continue
      if (found && found.key !== stored.key) throw new UsageError(`several sessions begin with ${beginning}`)
      found = stored
    }
    return found
  }

  async end({ key, user }: Stored): Promise<boolean> {
    const isEnded = await this.store.remove(key)
    if (user !== undefined) await this.store.unlink?.(user, key)
    return isEnded
  }

  /** What the app's `sessions` would be, of its options that matter here. */
  api(): session.Sessions {
    const { encryption, hashIds } = this.secrets
    return session({
      secret: randomBytes(32),
      resave: false,
      saveUninitialized: false,
      store: this.store,
      ...(encryption && { encryption }),
      ...(hashIds && { hashIds }),
      user: (data: object) => this.#userIn(data as Record<string, unknown>),
    })
  }
}

/** The ID in the value of a cookie, with its signature and a token or without. */
function idIn(given: string): string {
  let value = given
  try {
    value = decodeURIComponent(given)
  } catch {
    // It is taken as it is.
  }
  value = value.slice(value.indexOf('=s:') + 1)
  return value.startsWith('s:') ? (value.slice(2).split(/[.~]/)[0] as string) : given
}

function valueAt(data: Record<string, unknown>, path: string | undefined): unknown {
  return path?.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], data)
}
