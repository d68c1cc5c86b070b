import { isUnreadable, OptionError } from '../../base/errors'
import type { MaybePromise } from '../../base/maybe-promise'
import { sha256 } from '../../base/sha256'
import { storedNotes, type SessionNotes } from '../../session/notes'
import type { RecordStore, SessionRecord } from '../../store/record-store'
import type { KeyedStore } from '../sealing/sealed-store'
import { timeoutOf, type Timeouts } from '../timeouts/timeouts'

export type IndexedStore = RecordStore & Required<Pick<RecordStore, 'link' | 'unlink' | 'linked'>> & Partial<KeyedStore>

/** A user's session, under the key that the store has it by: with `hashIds`, its ID is not known. */
export interface Live {
  readonly key: string
  readonly record: SessionRecord
  readonly notes: SessionNotes
  /** In ms. */
  readonly lifetime: number
}

/** How many records are read at the same time: enough for a store to answer them in batches, and not to keep it from others. */
const AT_A_TIME = 200

const HANDLE_LENGTH = 16

/** @throws OptionError when the store keeps no index of users */
export function indexedStore(store: RecordStore): IndexedStore {
  if (store.link && store.unlink && store.linked) return store as IndexedStore
  throw new OptionError('user option needs a store that implements link, unlink and linked; see RecordStore')
}

/** The index of users' sessions in a store, which may list sessions that are gone by now. */
export class UserIndex {
  readonly #store: IndexedStore
  readonly #timeouts: Timeouts
  readonly #ttl: number

  constructor(store: IndexedStore, { ttl, ...timeouts }: Timeouts & { readonly ttl: number }) {
    this.#store = store
    this.#timeouts = timeouts
    this.#ttl = ttl
  }

  /** The keys under which the store may have the session with this ID. */
  keysOf(id: string): readonly string[] {
    return this.#store.keysOf?.(id) ?? [id]
  }

  /** An ID by which this process knows the session under a key. */
  idOf(key: string): string {
    return this.#store.idOf?.(key) ?? key
  }

  link(user: string, id: string, expires: number): MaybePromise<void> {
    return this.#store.link(user, id, expires)
  }

  unlink(user: string, id: string): MaybePromise<void> {
    return this.#store.unlink(user, id)
  }

  async keys(user: string): Promise<string[]> {
    return this.#store.linked(user)
  }

  /** The user's live sessions, the newest first. */
  async live(user: string): Promise<Live[]> {
    const live: Live[] = []
    await inChunks(await this.keys(user), async (key) => {
      const found = await this.read(key)
      if (found?.notes.user === user && !timeoutOf(found.notes, this.#timeouts, Date.now())) live.push(found)
    })
    return live.sort((a, b) => (b.notes.created ?? 0) - (a.notes.created ?? 0))
  }

  async read(key: string): Promise<Live | undefined> {
    return this.readById(this.idOf(key), key)
  }

  /** A record that cannot be read counts as none: nobody can use its session. */
  async readById(id: string, key = id): Promise<Live | undefined> {
    const store = this.#store
    try {
      const record = await store.read(id)
      const cookie = record && store.parse(key, record)?.cookie
      if (!cookie) return undefined
      return { key, record, notes: storedNotes(cookie) ?? {}, lifetime: cookie.originalMaxAge ?? this.#ttl }
    } catch (error) {
      if (isUnreadable(error)) return undefined
      throw error
    }
  }

  /** Ends a session; a missing one stays in the index, as it may be about to be stored, until the store prunes. */
  async end(user: string, key: string): Promise<boolean> {
    const ended = await this.#store.remove(this.idOf(key))
    if (ended) await this.#store.unlink(user, this.idOf(key))
    return ended
  }

  /** Ends all sessions of a user but those kept, those that come in meanwhile too, and answers their keys. */
  async endAllBut(user: string, kept: readonly string[] = []): Promise<string[]> {
    const seen = new Set(kept)
    const ended: string[] = []
    for (;;) {
      const keys = (await this.keys(user)).filter((key) => !seen.has(key))
      if (keys.length === 0) return ended
      await inChunks(keys, async (key) => {
        seen.add(key)
        if (await this.end(user, key)) ended.push(key)
      })
    }
  }
}

/** Identifies a session in its user's list. It reveals nothing of the key, which is random. */
export function handleOf(key: string): string {
  return sha256('sessile handle\0' + key).slice(0, HANDLE_LENGTH)
}

export async function inChunks<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  for (let at = 0; at < items.length; at += AT_A_TIME) {
    await Promise.all(items.slice(at, at + AT_A_TIME).map(work))
  }
}
