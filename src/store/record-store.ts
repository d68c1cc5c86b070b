import { setImmediate } from 'node:timers'
import type { SessionData } from '../session/augmented'
import { plainRecord, type Serializer } from '../session/text'
import { SessionError, shortened } from '../base/errors'
import { afterwards, all, answer, atOnce, isPromise, type Callback, type MaybePromise } from '../base/maybe-promise'
import { LAST_DATE } from '../base/moments'
import { Store } from './store'

export type { Serializer }

/** Identifies the content of a record: differs whenever the content does. Only the store knows what is in it. */
export type Version = string | number

/** What a record store keeps for one session. */
export interface SessionRecord {
  /** The serialised session, its cookie included; JSON unless the store was given another serializer. */
  text: string
  /** When the record ends, in ms since the epoch. */
  expires: number
  /** The version of `text`, for a later write "only if unchanged". */
  version: Version
  /** True when `read` was asked to renew, and has done so. */
  renewed?: boolean
}

/**
 * When a write may happen:
 * - `'always'`: whatever is there (the classic `set`)
 * - `'absent'`: only when no live record has this ID, so that an ID is never overwritten
 * - `'present'`: only over a live record, so that a destroyed session never comes back
 * - `{ version }`: only over the live record whose version is still this one, so that no update is lost
 */
export type WriteCondition = 'always' | 'absent' | 'present' | { readonly version: Version }

/** A page of a scan; `cursor` leads to the next one, `null` means that this was the last. */
export interface RecordPage {
  records: Array<SessionRecord & { id: string }>
  cursor: string | null
}

/** How long, in ms, a session lives whose cookie has no expiry: one day. */
export const DEFAULT_TTL = 86_400_000

const SCAN_PAGE = 500

/**
 * The record contract: what sessile asks of a store so that no update is lost and no destroyed session comes back.
 * Extend it and write the five abstract methods; the classic ones (`get`, `set`, `touch`, `destroy`, `all`, `length`,
 * `clear`) are derived here, so that the store serves express-session too.
 *
 * An expired record counts as absent in every method, deleted yet or not. Every method may answer at once or by a
 * promise; a failure of the backend is thrown or rejected, "not there" never is. A condition is tested and the write
 * made in one atomic step.
 */
export abstract class RecordStore extends Store {
  /** Lifetime, in ms, of a session whose cookie has no expiry. Default: one day. */
  declare ttl: number
  /** How sessions become text. Default: JSON. */
  declare serializer: Serializer
  /** True when the records never leave this process, so that a text need not be parsed before it is looked at. */
  declare readonly inProcess: boolean
  /** True when a link ends at its own `expires`, so that `link` is to be called again when the session is renewed. */
  declare readonly linksExpire: boolean

  /**
   * The live record with this ID, or `null`. Given `renewTo` (ms since the epoch), the store may move the record's end
   * there in the same round trip, or to where the session's own lifetime ends, and say so with `renewed: true`; or ignore it.
   */
  abstract read(id: string, renewTo?: number): MaybePromise<SessionRecord | null>
  /** Writes text and end (ms since the epoch) if the condition holds. Answers the new version, or `null` if it does not. */
  abstract write(id: string, text: string, expires: number, condition: WriteCondition): MaybePromise<Version | null>
  /**
   * Moves the end of a live record (ms since the epoch), never its text or version. Given `from`, an end that was read, only
   * if the record ends then still, as far as the store can tell: so a renewal that comes late undoes no other one and no
   * shorter life that was given meanwhile. False when there is no such live record.
   */
  abstract renew(id: string, expires: number, from?: number): MaybePromise<boolean>
  /** Deletes; given a version, only if it is still that one. False when there was no such live record. */
  abstract remove(id: string, version?: Version): MaybePromise<boolean>
  /**
   * A page of about `limit` live records; the cursor `null` begins. A record that lives through the whole scan appears at
   * least once. What a scan needs is best kept in the cursor, as nobody says so when a scan is left early.
   */
  abstract scan(cursor: string | null, limit: number): MaybePromise<RecordPage>

  /** Deletes at most `limit` expired records and answers how many. Left out where the server does it by itself. */
  prune?(limit: number): MaybePromise<number | void>
  /** Deletes every record of this store. Without it `clear` removes them one by one. */
  removeAll?(): MaybePromise<void>
  /** The number of live records. Without it `length` scans. */
  count?(): MaybePromise<number>
  /** Does what still waits to be done, then releases what the store itself opened: timers, connections, files. */
  close?(): MaybePromise<void>
  /**
   * Looks whether the store can do its work, for a start-up or a health check. Each finding is a sentence for the operator
   * that says what is wrong and what to do; there are none when all is well. Rejects when the backend cannot be reached.
   */
  check?(): Promise<string[]>

  /** Notes that session `id` is the user's, at least until `expires` (ms since the epoch). Noting it twice is fine. */
  link?(user: string, id: string, expires: number): MaybePromise<void>
  /** Undoes `link`; no error when there is nothing to undo. */
  unlink?(user: string, id: string): MaybePromise<void>
  /** The IDs noted for a user; some of them may be gone by now. */
  linked?(user: string): MaybePromise<string[]>
  /** What `read` answers for each of these IDs (a few hundred, each once), in their order. Without it they are read one by one. */
  readMany?(ids: readonly string[]): MaybePromise<ReadonlyArray<SessionRecord | null>>
  /**
   * Deletes these records (a few hundred, each once) and undoes their links to the user; answers for each whether there was
   * such a live record. Where there was none the link stays, as the record may be about to be written. Without it, `remove`
   * and `unlink` are called for each.
   */
  removeLinked?(user: string, ids: readonly string[]): MaybePromise<readonly boolean[]>

  /** When a session ends, in ms since the epoch: at its cookie's expiry, if that is a time, else `ttl` from now. */
  expiresOf(data: { cookie?: { expires?: unknown } }): number {
    return endOf(data) ?? Date.now() + this.ttl
  }

  /**
   * The data of a record, as parsed, except that its cookie ends when the record does.
   * @throws SessionError (`ERR_SESSION_INVALID_RECORD`) when the text cannot be parsed
   */
  parse(id: string, record: SessionRecord): SessionData {
    let data: { cookie?: { expires?: unknown } } | null
    try {
      data = atOnce(this.serializer.parse(record.text), 'the serializer must return the data') as typeof data
    } catch (error) {
      // What is thrown may quote the text, which is nobody's business who reads errors.
      const what = error instanceof Error ? error.name : typeof error
      throw new SessionError(
        'ERR_SESSION_INVALID_RECORD',
        `the record of session ${shortened(id)} cannot be parsed: the serializer has thrown a ${what}`,
      )
    }
    const cookie = data?.cookie
    if (cookie?.expires) {
      // A store that counts in what is left may come out behind the last date.
      const expires = Math.min(record.expires, LAST_DATE)
      cookie.expires = typeof cookie.expires === 'number' ? expires : new Date(expires).toISOString()
    }
    return data as SessionData
  }

  get(id: string, callback?: Callback<[data?: SessionData | null]>): Promise<SessionData | undefined> | undefined {
    const told = callback && ((error?: unknown, data?: SessionData) => callback(error ?? null, data))
    return answer(told, () => afterwards(this.read(id), (record) => (record ? this.parse(id, record) : undefined)))
  }

  set(id: string, data: SessionData, callback?: Callback): Promise<void> | undefined {
    return answer(callback, () =>
      afterwards(this.write(id, textOf(this, data), this.expiresOf(data), 'always'), () => undefined),
    )
  }

  override touch(id: string, data: SessionData, callback?: Callback): Promise<void> | undefined {
    return answer(callback, () => afterwards(this.renew(id, this.expiresOf(data)), () => undefined))
  }

  destroy(id: string, callback?: Callback): Promise<void> | undefined {
    return answer(callback, () => afterwards(this.remove(id), () => undefined))
  }

  override all(
    callback?: Callback<[sessions?: { [id: string]: SessionData } | null]>,
  ): Promise<{ [id: string]: SessionData }> | undefined {
    return answer(callback, async () => {
      const sessions = Object.create(null) as { [id: string]: SessionData }
      for await (const record of this.records()) sessions[record.id] = this.parse(record.id, record)
      return sessions
    })
  }

  override length(callback?: Callback<[length?: number]>): Promise<number> | undefined {
    return answer(callback, async () => {
      if (this.count) return this.count()
      const ids = new Set<string>()
      for await (const { id } of this.records()) ids.add(id)
      return ids.size
    })
  }

  override clear(callback?: Callback): Promise<void> | undefined {
    return answer(callback, async () => {
      if (this.removeAll) return this.removeAll()
      for await (const { id } of this.records()) await this.remove(id)
    })
  }

  /**
   * Every live record, page by page.
   * @throws TypeError when `scan` answers something that never comes to an end
   */
  async *records(): AsyncGenerator<SessionRecord & { id: string }, void, undefined> {
    let cursor: string | null = null
    let before: RecordPage | undefined
    for (;;) {
      const answered: MaybePromise<RecordPage> = this.scan(cursor, SCAN_PAGE)
      const page: RecordPage = await answered
      yield* page.records
      if (page.cursor === null) return
      if (typeof page.cursor !== 'string' || (before && isSamePage(page, before))) {
        throw new TypeError(
          `scan, given the cursor ${cursor}, answered the cursor ${String(page.cursor)}: it has to be a string that leads ` +
            'on, or null at the end',
        )
      }
      // A store that answers at once would else keep the event loop to itself from the first page to the last.
      if (!isPromise(answered)) await new Promise((resolve) => setImmediate(resolve))
      cursor = page.cursor
      before = page
    }
  }
}

/** `readMany` of any record store. */
export function readMany(
  store: RecordStore,
  ids: readonly string[],
): MaybePromise<ReadonlyArray<SessionRecord | null>> {
  return store.readMany ? store.readMany(ids) : all(ids.map((id) => store.read(id)))
}

/** `removeLinked` of any record store. */
export function removeLinked(
  store: RecordStore,
  user: string,
  ids: readonly string[],
): MaybePromise<readonly boolean[]> {
  if (store.removeLinked) return store.removeLinked(user, ids)
  const removeOne = (id: string): MaybePromise<boolean> =>
    afterwards(store.remove(id), (removed) => (removed ? afterwards(store.unlink?.(user, id), () => true) : false))
  return all(ids.map(removeOne))
}

/** Whether a scan goes in circles. A cursor alone may stay the same, as the name of a scan that the server keeps. */
function isSamePage(page: RecordPage, before: RecordPage): boolean {
  if (page.cursor !== before.cursor || page.records.length !== before.records.length) return false
  return page.records.every(({ id }, n) => id === before.records[n]?.id)
}

/**
 * When a session's cookie ends, in ms since the epoch: a Date, what a Date can be made of, or `undefined` for everything else, of
 * which other writers know many kinds (`false`, 0, '', a text that is no time).
 */
export function endOf(data: { cookie?: { expires?: unknown } }): number | undefined {
  const expires = data.cookie?.expires
  if (!expires || !['number', 'string', 'object'].includes(typeof expires)) return undefined
  const end = new Date(expires as Date).getTime()
  return Number.isNaN(end) ? undefined : end
}

/** Not a private method, as `MemoryStore` is a function that does not run the constructor of this class. */
function textOf({ serializer }: RecordStore, data: SessionData): string {
  return serializer === JSON ? JSON.stringify(data) : serializer.stringify(plainRecord(data))
}

/** Whether a value is a store of the record contract, of this copy of the library or another. */
export function isRecordStore(store: object): store is RecordStore {
  return RECORDS in store
}

const RECORDS = Symbol.for('sessile.records')

Object.defineProperty(RecordStore.prototype, RECORDS, { value: true })
Object.defineProperty(RecordStore.prototype, 'ttl', { value: DEFAULT_TTL, writable: true, configurable: true })
Object.defineProperty(RecordStore.prototype, 'serializer', { value: JSON, writable: true, configurable: true })
Object.defineProperty(RecordStore.prototype, 'inProcess', { value: false, writable: true, configurable: true })
Object.defineProperty(RecordStore.prototype, 'linksExpire', { value: false, writable: true, configurable: true })
