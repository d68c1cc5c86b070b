import { setImmediate } from 'node:timers'
import { isUnreadable, OptionError } from '../../base/errors'
import type { MaybePromise } from '../../base/maybe-promise'
import { sha256 } from '../../base/sha256'
import { within } from '../../base/store-call'
import { storedNotes, type SessionNotes } from '../../session/notes'
import { takeApart } from '../../session/record-text'
import { readMany, removeLinked, type RecordStore, type SessionRecord } from '../../store/record-store'
import type { KeyedStore } from '../sealing/sealed-store'

export type IndexedStore = RecordStore & Required<Pick<RecordStore, 'link' | 'unlink' | 'linked'>> & Partial<KeyedStore>

/** A user's session, under the key that the store has it by: with `hashIds`, its ID is not known. */
export interface Live {
  readonly key: string
  readonly record: SessionRecord
  readonly notes: SessionNotes
  /** In ms. */
  readonly lifetime: number
}

/** How many records are read or removed in one step: so many that steps are few, and so few that none keeps the store from others. */
const PAGE = 200

const HANDLE_LENGTH = 16

/** @throws OptionError when the store keeps no index of users */
export function indexedStore(store: RecordStore): IndexedStore {
  if (store.link && store.unlink && store.linked) return store as IndexedStore
  throw new OptionError('user option needs a store that implements link, unlink and linked; see RecordStore')
}

/** The index of users' sessions in a store, which may list sessions that are gone by now. */
export class UserIndex {
  readonly #store: IndexedStore
  readonly #hasEnded: (notes: SessionNotes, now: number) => boolean
  readonly #ttl: number
  /** How long, in ms, each step may take. */
  readonly #timeout: number

  /** @param hasEnded whether a session that is still stored counts as ended, as by a timeout */
  constructor(
    store: IndexedStore,
    { ttl, timeout }: { readonly ttl: number; readonly timeout: number },
    hasEnded: (notes: SessionNotes, now: number) => boolean,
  ) {
    this.#store = store
    this.#ttl = ttl
    this.#timeout = timeout
    this.#hasEnded = hasEnded
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
    return within(this.#store.linked(user), 'linked', this.#timeout)
  }

  /** The user's live sessions, the newest first. */
  async live(user: string): Promise<Live[]> {
    const live = await this.liveOf(user, await this.keys(user))
    return live.sort((a, b) => (b.notes.created ?? 0) - (a.notes.created ?? 0))
  }

  /**
   * So many of the user's live sessions, fewer only at the end: those behind a handle, in the order of handles, which stays the
   * same whatever comes and goes. `next` leads to the next ones; `null` means that there are none.
   */
  async page(user: string, behind: string, limit: number): Promise<{ live: Live[]; next: string | null }> {
    const keys = new Map<string, string>()
    await inPages(await this.keys(user), (page) => {
      for (const key of page) {
        const handle = handleOf(key)
        if (handle > behind) keys.set(handle, key)
      }
    })
    const ordered = [...keys.keys()].sort().map((handle) => keys.get(handle) as string)
    const live: Live[] = []
    let looked = 0
    while (live.length < limit && looked < ordered.length) {
      live.push(...(await this.liveOf(user, ordered.slice(looked, looked + limit))))
      looked += limit
    }
    const hasMore = live.length > limit || looked < ordered.length
    const page = live.slice(0, limit)
    const last = page.at(-1)
    return { live: page, next: hasMore && last ? handleOf(last.key) : null }
  }

  /** Those of the sessions with these keys that live and are the user's, and are wanted. */
  async liveOf(user: string, keys: readonly string[], isWanted = (_live: Live): boolean => true): Promise<Live[]> {
    const live: Live[] = []
    await inPages(keys, async (page) => {
      const now = Date.now()
      for (const found of await this.read(page)) {
        if (found?.notes.user === user && !this.#hasEnded(found.notes, now) && isWanted(found)) live.push(found)
      }
    })
    return live
  }

  /** Whether a session's data can be read, too: else nobody can use it. */
  isUsable({ key, record }: Live): boolean {
    return unlessUnreadable(() => this.#store.parse(key, record)) !== undefined
  }

  /** The sessions with these keys. A record whose notes cannot be read counts as none. */
  async read(keys: readonly string[]): Promise<Array<Live | undefined>> {
    const store = this.#store
    const reading = store.readKeys ? store.readKeys(keys) : readMany(store, keys)
    const records = await within(reading, 'read', this.#timeout)
    return keys.map((key, n) => {
      const record = records[n]
      return record ? this.#liveIn(key, record) : undefined
    })
  }

  #liveIn(key: string, record: SessionRecord): Live | undefined {
    return unlessUnreadable(() => {
      // The data need not be parsed where it can be told from the rest.
      const apart = this.#store.serializer === JSON ? takeApart(record.text) : undefined
      const cookie = apart?.settings ?? this.#store.parse(key, record)?.cookie
      if (!cookie) return undefined
      const notes = (apart ? apart.notes : storedNotes(cookie)) ?? {}
      return { key, record, notes, lifetime: cookie.originalMaxAge ?? this.#ttl }
    })
  }

  /** Enters those of these sessions of known users that the index has lost, and answers how many. */
  async enterLost(records: ReadonlyArray<SessionRecord & { id: string }>): Promise<number> {
    const byUser = new Map<string, Live[]>()
    for (const record of records) {
      const live = this.#liveIn(record.id, record)
      const user = live?.notes.user
      if (user !== undefined) byUser.set(user, [...(byUser.get(user) ?? []), live as Live])
    }
    let entered = 0
    const enterThose = async ([user, sessions]: [string, Live[]]): Promise<void> => {
      const known = new Set(await this.keys(user))
      const lost = sessions.filter(({ key }) => !known.has(key))
      await Promise.all(lost.map(async ({ key, record }) => this.link(user, this.idOf(key), record.expires)))
      entered += lost.length
    }
    await Promise.all([...byUser].map(enterThose))
    return entered
  }

  /**
   * Ends sessions, and answers how many were there; the others stay in the index, as they may be about to be stored.
   * @param onEnded is told the keys of those that were there, a page at a time, so also when the next one fails
   */
  async end(user: string, keys: readonly string[], onEnded?: (keys: readonly string[]) => void): Promise<number> {
    const store = this.#store
    let count = 0
    await inPages(keys, async (page) => {
      const removing = store.removeKeys ? store.removeKeys(user, page) : removeLinked(store, user, page)
      const removed = await within(removing, 'remove', this.#timeout)
      const ended = page.filter((_, n) => removed[n])
      count += ended.length
      onEnded?.(ended)
    })
    return count
  }

  /** Ends all sessions of a user but those kept, those that come in meanwhile too, and answers how many. */
  async endAllBut(user: string, kept: readonly string[], onEnded?: (keys: readonly string[]) => void): Promise<number> {
    const seen = new Set(kept)
    let count = 0
    for (;;) {
      const keys = (await this.keys(user)).filter((key) => !seen.has(key))
      if (keys.length === 0) return count
      for (const key of keys) seen.add(key)
      count += await this.end(user, keys, onEnded)
    }
  }
}

function unlessUnreadable<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (isUnreadable(error)) return undefined
    throw error
  }
}

/** Identifies a session in its user's list. It reveals nothing of the key, which is random. */
export function handleOf(key: string): string {
  return sha256('sessile handle\0' + key).slice(0, HANDLE_LENGTH)
}

/** A store that answers at once would else keep the event loop to itself from the first page to the last. */
export async function inPages<T>(items: readonly T[], work: (page: readonly T[]) => unknown): Promise<void> {
  for (let at = 0; at < items.length; at += PAGE) {
    if (at > 0) await new Promise((resolve) => setImmediate(resolve))
    await work(items.slice(at, at + PAGE))
  }
}
