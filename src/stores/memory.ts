import { a, aSerializer, isPositive, optionsOf, type Check } from '../base/checks'
import {
  DEFAULT_TTL,
  RecordStore,
  type RecordPage,
  type Serializer,
  type SessionRecord,
  type WriteCondition,
  type Version,
} from '../store/record-store'
import { hiddenSlot } from '../base/hidden-slot'
import { Store } from '../store/store'
import { ExpiryQueue, type Ending } from './expiry-queue'
import { ShardedMap } from './sharded-map'

export interface MemoryStoreOptions {
  /** Lifetime, in ms, of a session whose cookie has no expiry; renewed by every request. Default: one day. */
  ttl?: number | undefined
  /**
   * The most sessions to keep. When it is reached, expired ones go first, then the least recently used ones without a
   * user, then the least recently used. Default: no bound, since whoever can make sessions could push out others'.
   */
  max?: number | undefined
  /** How sessions become text. Default: JSON. */
  serializer?: Serializer | undefined
}

const OPTIONS: Record<keyof MemoryStoreOptions, Check> = {
  ttl: a('a positive number of ms', isPositive),
  max: a('a whole number of at least 1', (value) => typeof value === 'number' && value >= 1),
  serializer: aSerializer,
}

/**
 * Keeps sessions in this process: fast, gone at a restart, not shared with other processes. Expired sessions leave by
 * themselves, by a timer that does not keep the process alive.
 */
export interface MemoryStore extends RecordStore {
  readonly max: number
  /** A view of the stored sessions: JSON texts by ID. */
  sessions: { [id: string]: string }
  read(id: string): SessionRecord | null
  write(id: string, text: string, expires: number, condition: WriteCondition): string | null
  renew(id: string, expires: number): boolean
  remove(id: string, version?: Version): boolean
  scan(cursor: string | null, limit: number): RecordPage
  /** `void`, as classes of other packages that extend this one answer nothing. */
  prune(limit: number): number | void
  removeAll(): void
  count(): number
  link(user: string, id: string, expires?: number): void
  unlink(user: string, id: string): void
  linked(user: string): string[]
}

export interface MemoryStoreConstructor {
  new (options?: MemoryStoreOptions): MemoryStore
  (this: unknown, options?: MemoryStoreOptions): void
  readonly prototype: MemoryStore
}

/** `expires` and `queuedFor` are ms since START: V8 stores such small numbers without allocating an object for each. */
class Entry implements Ending {
  queuedFor = 0
  place = -1

  constructor(
    readonly id: string,
    public text: string,
    public expires: number,
  ) {}
}

const START = Date.now()
const PRUNE_BATCH = 500
const MIN_PRUNE_DELAY = 1000
/** In ms. A session stored later may end sooner than all that are there. */
const MAX_PRUNE_DELAY = 60_000
const MAX_OPEN_SCANS = 16

/** Entries in the order of their last use. One iterator is kept: a new one would walk over the gaps of all deletions. */
class Recency {
  readonly #entries = new Set<Entry>()
  #oldest = this.#entries.values()

  use(entry: Entry): void {
    this.#entries.delete(entry)
    this.#entries.add(entry)
  }

  delete(entry: Entry): void {
    this.#entries.delete(entry)
  }

  /** Takes out the entry that was used longest ago. */
  take(): Entry | undefined {
    let next = this.#oldest.next()
    if (next.done) {
      this.#oldest = this.#entries.values()
      next = this.#oldest.next()
    }
    if (next.value) this.#entries.delete(next.value)
    return next.value
  }
}

/** The state of one store, kept off the store itself, so that subclasses can use any name. */
class Memory {
  readonly entries = new ShardedMap<Entry>()
  readonly queue = new ExpiryQueue<Entry>()
  /** The IDs of each user's sessions, and the user of each session that has one. */
  readonly users = new Map<string, Set<string>>()
  readonly userOf = new Map<string, string>()
  /** Placeholders in the queue for sessions that are linked and not stored yet, until their links end. */
  readonly awaited = new Map<string, Entry>()
  /** Scans under way; the oldest is given up when there are too many. */
  readonly scans = new Map<string, Iterator<Entry>>()
  scanCount = 0
  timer: NodeJS.Timeout | undefined
  /** The order of use, only kept when the store has a `max`. */
  readonly anonymous = new Recency()
  readonly signedIn = new Recency()

  constructor(
    readonly max: number,
    readonly ttl: number,
  ) {}

  get bounded(): boolean {
    return this.max !== Infinity
  }

  /** The live entry with this ID; an expired one is dropped. */
  find(id: string): Entry | undefined {
    const entry = this.entries.get(id)
    if (!entry) return undefined
    if (entry.expires <= Date.now() - START) {
      this.drop(entry)
      return undefined
    }
    if (this.bounded) this.recencyOf(entry).use(entry)
    return entry
  }

  add(entry: Entry): void {
    this.stopAwaiting(entry.id)
    while (this.entries.size >= this.max) this.makeRoom()
    this.entries.set(entry.id, entry)
    this.enqueue(entry)
    if (this.bounded) this.recencyOf(entry).use(entry)
  }

  awaitSession(id: string, until: number): void {
    const awaited = this.awaited.get(id)
    this.stopAwaiting(id)
    const entry = new Entry(id, '', Math.max(until, awaited?.expires ?? until))
    this.awaited.set(id, entry)
    this.enqueue(entry)
  }

  stopAwaiting(id: string): void {
    const awaited = this.awaited.get(id)
    if (!awaited) return
    this.awaited.delete(id)
    this.queue.remove(awaited)
  }

  enqueue(entry: Entry): void {
    this.queue.add(entry)
    if (!this.timer) this.schedulePrune()
  }

  drop(entry: Entry): void {
    this.entries.delete(entry.id)
    this.awaited.delete(entry.id)
    this.queue.remove(entry)
    if (this.bounded) this.recencyOf(entry).delete(entry)
    this.forgetUser(entry.id)
  }

  recencyOf(entry: Entry): Recency {
    return this.userOf.has(entry.id) ? this.signedIn : this.anonymous
  }

  makeRoom(): void {
    const entry = this.queue.ended(Date.now() - START) ?? this.anonymous.take() ?? this.signedIn.take()
    if (entry) this.drop(entry)
  }

  /** Notes whose session it is, or with `undefined` that it is nobody's. */
  setUser(id: string, user: string | undefined): void {
    if (this.userOf.get(id) === user) return
    const entry = this.bounded ? this.find(id) : undefined
    if (entry) this.recencyOf(entry).delete(entry)
    this.forgetUser(id)
    if (user !== undefined) {
      this.userOf.set(id, user)
      const ids = this.users.get(user)
      if (ids) ids.add(id)
      else this.users.set(user, new Set([id]))
    }
    if (entry) this.recencyOf(entry).use(entry)
  }

  forgetUser(id: string): void {
    const user = this.userOf.get(id)
    if (user === undefined) return
    this.userOf.delete(id)
    const ids = this.users.get(user)
    ids?.delete(id)
    if (ids?.size === 0) this.users.delete(user)
  }

  prune(limit: number): number {
    const now = Date.now() - START
    let pruned = 0
    for (let entry; pruned < limit && (entry = this.queue.ended(now)); pruned++) this.drop(entry)
    return pruned
  }

  /** The timer holds the store only weakly, and the process not at all. */
  schedulePrune(full = false): void {
    const { next } = this.queue
    this.timer = undefined
    if (next === undefined) return
    const delay = full ? 0 : Math.min(Math.max(next + START - Date.now(), MIN_PRUNE_DELAY), MAX_PRUNE_DELAY)
    const weak = new WeakRef(this)
    this.timer = setTimeout(() => {
      const memory = weak.deref()
      if (memory) memory.schedulePrune(memory.prune(PRUNE_BATCH) === PRUNE_BATCH)
    }, delay)
    this.timer.unref()
  }
}

const memories = hiddenSlot<Memory>()

function memoryOf(store: object): Memory {
  let memory = memories.get(store)
  if (!memory) memories.set(store, (memory = new Memory(Infinity, DEFAULT_TTL)))
  return memory
}

/**
 * A store in memory. A function and not a class: packages call it on themselves.
 * @throws OptionError when an option cannot be used
 */
export const MemoryStore = function MemoryStore(this: MemoryStore, options?: MemoryStoreOptions): void {
  ;(Store as unknown as (this: object) => void).call(this)
  const { ttl = DEFAULT_TTL, max = Infinity, serializer } = optionsOf(this, MemoryStore, options, OPTIONS)
  if (serializer) this.serializer = serializer
  memories.set(this, new Memory(max, ttl))
} as unknown as MemoryStoreConstructor

Object.setPrototypeOf(MemoryStore.prototype, RecordStore.prototype)
Object.setPrototypeOf(MemoryStore, RecordStore)

Object.defineProperty(MemoryStore.prototype, 'inProcess', { value: true })

// A subclass may set a `ttl` of its own, usually in seconds, which must not become this one.
Object.defineProperty(MemoryStore.prototype, 'ttl', {
  configurable: true,
  get(this: MemoryStore) {
    return memoryOf(this).ttl
  },
  set(this: MemoryStore, value: unknown) {
    Object.defineProperty(this, 'ttl', { value, configurable: true, enumerable: true, writable: true })
  },
})

/** Lifetime, in ms, of a session in this store whose cookie has no expiry. */
export function ttlOf(store: RecordStore): number {
  return memories.get(store)?.ttl ?? store.ttl
}

const methods: Partial<MemoryStore> & ThisType<MemoryStore> = {
  expiresOf(data) {
    const { cookie } = data as Partial<typeof data>
    return cookie?.expires ? RecordStore.prototype.expiresOf.call(this, data) : Date.now() + memoryOf(this).ttl
  },

  read(id) {
    const entry = memoryOf(this).find(id)
    return entry ? recordOf(entry) : null
  },

  write(id, text, expires, condition) {
    const memory = memoryOf(this)
    const entry = memory.find(id)
    if (entry ? condition === 'absent' : condition !== 'always' && condition !== 'absent') return null
    if (entry && typeof condition === 'object' && condition.version !== entry.text) return null
    if (entry && expires <= Date.now()) memory.drop(entry)
    else if (entry) {
      entry.text = inOnePiece(text)
      entry.expires = expires - START
      memory.queue.hasten(entry)
    } else if (expires > Date.now()) {
      memory.add(new Entry(id, inOnePiece(text), expires - START))
    }
    return text
  },

  renew(id, expires) {
    const memory = memoryOf(this)
    const entry = memory.find(id)
    if (!entry) return false
    entry.expires = expires - START
    memory.queue.hasten(entry)
    return true
  },

  remove(id, version) {
    const memory = memoryOf(this)
    const entry = memory.find(id)
    if (!entry || (version !== undefined && version !== entry.text)) return false
    memory.drop(entry)
    return true
  },

  scan(cursor, limit) {
    const memory = memoryOf(this)
    const { scans, entries } = memory
    const key = cursor ?? String(++memory.scanCount)
    const scan = scans.get(key) ?? entries.values()
    const page: RecordPage = { records: [], cursor: key }
    const now = Date.now() - START
    while (page.records.length < limit) {
      const { value, done } = scan.next() as IteratorResult<Entry, undefined>
      if (done) {
        scans.delete(key)
        return { records: page.records, cursor: null }
      }
      if (value.expires > now) page.records.push({ id: value.id, ...recordOf(value) })
    }
    scans.set(key, scan)
    if (scans.size > MAX_OPEN_SCANS) scans.delete(scans.keys().next().value as string)
    return page
  },

  prune(limit) {
    return memoryOf(this).prune(limit)
  },

  removeAll() {
    const memory = memoryOf(this)
    clearTimeout(memory.timer)
    memories.set(this, new Memory(memory.max, memory.ttl))
  },

  count() {
    const memory = memoryOf(this)
    memory.prune(Infinity)
    return memory.entries.size
  },

  link(user, id, expires = Date.now() + DEFAULT_TTL) {
    const memory = memoryOf(this)
    const entry = memory.find(id)
    memory.setUser(id, user)
    if (!entry) memory.awaitSession(id, expires - START)
  },

  unlink(user, id) {
    const memory = memoryOf(this)
    if (memory.userOf.get(id) !== user) return
    memory.stopAwaiting(id)
    memory.setUser(id, undefined)
  },

  linked(user) {
    return [...(memoryOf(this).users.get(user) ?? [])]
  },
}

for (const [name, value] of Object.entries(methods)) {
  Object.defineProperty(MemoryStore.prototype, name, { value, writable: true, configurable: true })
}

/**
 * V8 keeps the results of JSON.stringify and `+` in pieces until a character is read. In one piece a text takes a fifth
 * less memory, and the next request need not copy it.
 */
function inOnePiece(text: string): string {
  // Both answers are the same text; a comparison whose result is not used would be optimised away.
  return text.charCodeAt(0) > 0 ? text : text.toString()
}

/** The version is the text itself: comparing it with itself costs nothing, and an equal text means that nothing was lost. */
function recordOf(entry: Entry): SessionRecord {
  return { text: entry.text, expires: entry.expires + START, version: entry.text }
}

Object.defineProperty(MemoryStore.prototype, 'sessions', {
  configurable: true,
  get(this: MemoryStore) {
    return viewOf(this)
  },
  set(this: MemoryStore, sessions: { [id: string]: string }) {
    this.removeAll()
    Object.assign(viewOf(this), sessions)
  },
})

/** The stored texts by ID, as express-session's MemoryStore has them in `sessions`. */
function viewOf(store: MemoryStore): { [id: string]: string } {
  const textOf = (id: string | symbol): string | undefined => {
    const record = typeof id === 'string' ? store.read(id) : null
    return record ? store.serializer.stringify(store.parse(id as string, record)) : undefined
  }
  return new Proxy(Object.create(null) as { [id: string]: string }, {
    get: (_, id) => textOf(id),
    has: (_, id) => textOf(id) !== undefined,
    ownKeys: () => store.scan(null, Infinity).records.map((record) => record.id),
    getOwnPropertyDescriptor: (_, id) => {
      const value = textOf(id)
      return value === undefined ? undefined : { value, enumerable: true, configurable: true, writable: true }
    },
    set: (_, id, text: string) => {
      const data = store.serializer.parse(text) as { cookie: { expires?: unknown } }
      return store.write(id as string, text, store.expiresOf(data), 'always') !== null
    },
    deleteProperty: (_, id) => store.remove(id as string) || true,
  })
}
