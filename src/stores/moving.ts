import { a, optionsOf, type Check } from '../base/checks'
import { OptionError } from '../base/errors'
import {
  isRecordStore,
  RecordStore,
  type RecordPage,
  type SessionRecord,
  type WriteCondition,
  type Version,
} from '../store/record-store'
import { contentOfCopy, isMoved, settle } from './move'

export { move, type MoveOptions, type MoveResult } from './move'

export interface MovingStoreOptions {
  /** The store that is to be given up: a record store, as is the next one. */
  from: RecordStore
  /** The store that takes its place. */
  to: RecordStore
}

const aStore = a(
  'a record store, such as a RedisStore',
  (value) => typeof value === 'object' && isRecordStore(value as object),
)
const OPTIONS: Record<keyof MovingStoreOptions, Check> = { from: aStore, to: aStore }

/** Where a record lies: in the new store, or still in the old one. */
type Place = 'new' | 'old'

/**
 * Two stores as one, while `move` copies the sessions of the old one to the new one. New sessions are made in the new one;
 * each lives where it was made until it is moved, and is looked for in the new one first. Run `move` only when every process
 * of the app has this store: one that has the old store alone would take a moved session for none.
 */
export class MovingStore extends RecordStore {
  readonly #from: RecordStore
  readonly #to: RecordStore

  /** @throws OptionError when one of the stores is missing, both are the same, or they make different texts of a session */
  constructor(options: MovingStoreOptions) {
    super()
    const { from, to } = optionsOf(this, MovingStore, options, OPTIONS)
    if (!from || !to) throw new OptionError('MovingStore: needs the options from and to, two record stores')
    if (from === to) throw new OptionError('MovingStore: options from and to are the same store')
    if (from.serializer !== to.serializer) {
      throw new OptionError('MovingStore: options from and to must have the same serializer')
    }
    this.#from = from
    this.#to = to
    this.ttl = to.ttl
    this.serializer = to.serializer
    Object.defineProperty(this, 'linksExpire', { value: from.linksExpire || to.linksExpire })
    for (const store of [from, to]) {
      for (const event of ['connect', 'disconnect']) store.on(event, (...args: unknown[]) => this.emit(event, ...args))
    }
    if (to.link) this.link = (user, id, expires) => to.link?.(user, id, expires)
    if (to.unlink) this.unlink = (user, id) => this.#unlink(user, id)
    if (to.linked) this.linked = (user) => this.#linked(user)
  }

  override expiresOf(data: { cookie?: { expires?: unknown } }): number {
    return this.#to.expiresOf(data)
  }

  /** A session may be moved between two looks: a third one finds it. */
  async read(id: string, renewTo?: number): Promise<SessionRecord | null> {
    for (;;) {
      const there = await this.#to.read(id, renewTo)
      if (there && contentOfCopy(there.text) === undefined) return marked('new', there)
      const here = await this.#from.read(id)
      if (here && !isMoved(here.text)) return marked('old', here)
      if (here) {
        await settle(this.#from, this.#to, id)
        continue
      }
      const now = await this.#to.read(id)
      return now && contentOfCopy(now.text) === undefined ? marked('new', now) : null
    }
  }

  async write(id: string, text: string, expires: number, condition: WriteCondition): Promise<Version | null> {
    if (typeof condition === 'object') {
      const { place, version } = unmarked(condition.version)
      const written = await this.#at(place).write(id, text, expires, { version })
      return written === null ? null : mark(place, written)
    }
    for (;;) {
      const known = await this.read(id)
      if (known ? condition === 'absent' : condition === 'present') return null
      const written = known
        ? await this.write(id, text, expires, { version: known.version })
        : await this.#create(id, text, expires)
      // Others were faster.
      if (written !== null) return written
    }
  }

  /** The copy of a session that was destroyed before it was moved may still be there. */
  async #create(id: string, text: string, expires: number): Promise<Version | null> {
    let written = await this.#to.write(id, text, expires, 'absent')
    const there = written === null ? await this.#to.read(id) : null
    if (there && contentOfCopy(there.text) !== undefined) {
      written = await this.#to.write(id, text, expires, { version: there.version })
    }
    return written === null ? null : mark('new', written)
  }

  /** In the old one first, as `move` looks there again; and twice, as between the two the old end may have been copied. */
  async renew(id: string, expires: number, from?: number): Promise<boolean> {
    const here = await this.#from.renew(id, expires, from)
    const there = await this.#to.renew(id, expires, from)
    if (!here) return there
    await this.#from.renew(id, expires, from)
    await this.#to.renew(id, expires, from)
    return true
  }

  async remove(id: string, version?: Version): Promise<boolean> {
    if (version === undefined) return this.#removeAny(id)
    const marked = unmarked(version)
    const removed = await this.#at(marked.place).remove(id, marked.version)
    // What the other one has of it is a copy, or the note that it was moved.
    if (removed) await this.#at(marked.place === 'new' ? 'old' : 'new').remove(id)
    return removed
  }

  async #removeAny(id: string): Promise<boolean> {
    for (;;) {
      const known = await this.read(id)
      if (!known) return false
      if (await this.remove(id, known.version)) return true
    }
  }

  /** The old one first: what is moved meanwhile is found in the new one. */
  async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    const place = cursor?.startsWith('new') ? 'new' : 'old'
    const page = await this.#at(place).scan(cursor?.slice(place.length) || null, limit)
    const records: RecordPage['records'] = []
    for (const record of page.records) {
      if (isMoved(record.text)) continue
      const isCopy = place === 'new' && contentOfCopy(record.text) !== undefined
      const found = isCopy ? await this.read(record.id) : marked(place, record)
      if (found) records.push({ ...found, id: record.id })
    }
    const isEnd = page.cursor === null
    return { records, cursor: isEnd ? (place === 'old' ? 'new' : null) : place + page.cursor }
  }

  override async prune(limit: number): Promise<number> {
    const pruned = (await this.#from.prune?.(limit)) ?? 0
    return pruned < limit ? pruned + ((await this.#to.prune?.(limit - pruned)) ?? 0) : pruned
  }

  override async removeAll(): Promise<void> {
    await this.#from.clear()
    await this.#to.clear()
  }

  override async check(): Promise<string[]> {
    return [...((await this.#from.check?.()) ?? []), ...((await this.#to.check?.()) ?? [])]
  }

  override async close(): Promise<void> {
    await this.#from.close?.()
    await this.#to.close?.()
  }

  async #unlink(user: string, id: string): Promise<void> {
    await this.#from.unlink?.(user, id)
    await this.#to.unlink?.(user, id)
  }

  async #linked(user: string): Promise<string[]> {
    return [...new Set([...((await this.#from.linked?.(user)) ?? []), ...((await this.#to.linked?.(user)) ?? [])])]
  }

  #at(place: Place): RecordStore {
    return place === 'new' ? this.#to : this.#from
  }
}

/** A version says where the record lies, so that a write over it goes there and nowhere else. */
function mark(place: Place, version: Version): string {
  return place + JSON.stringify(version)
}

function marked(place: Place, record: SessionRecord): SessionRecord {
  return { ...record, version: mark(place, record.version) }
}

function unmarked(version: Version): { place: Place; version: Version } {
  const text = String(version)
  return { place: text.slice(0, 3) as Place, version: JSON.parse(text.slice(3)) as Version }
}
