import { a, aSerializer, isPositive, optionsOf, type Check } from '../base/checks'
import {
  DEFAULT_TTL,
  endOf,
  RecordStore,
  type RecordPage,
  type Serializer,
  type SessionRecord,
  type WriteCondition,
  type Version,
} from '../store/record-store'
import { hiddenSlot } from '../base/hidden-slot'
import { Store } from '../store/store'
import { START, Memory, type BoundedEntry, type Entry } from './memory-state'

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
  renew(id: string, expires: number, from?: number): boolean
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
    return endOf(data) ?? Date.now() + memoryOf(this).ttl
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
    if (entry && expires <= Date.now()) memory.drop(id, entry)
    else if (entry) {
      entry.text = inOnePiece(text)
      memory.entries.renew(id, entry, expires - START)
    } else if (expires > Date.now()) {
      memory.add(id, inOnePiece(text), expires - START)
    }
    return text
  },

  renew(id, expires, from) {
    const memory = memoryOf(this)
    const entry = memory.find(id)
    if (!entry || (from !== undefined && entry.expires + START !== from)) return false
    memory.entries.renew(id, entry, expires - START)
    return true
  },

  remove(id, version) {
    const memory = memoryOf(this)
    const entry = memory.find(id)
    if (!entry || (version !== undefined && version !== entry.text)) return false
    memory.drop(id, entry)
    return true
  },

  /** The cursor is a place in the map, so that a scan that is left early leaves nothing behind. */
  scan(cursor, limit) {
    const { entries, next } = memoryOf(this).entries.page(Number(cursor), limit)
    const now = Date.now() - START
    const live = entries.filter(([, entry]) => entry.expires > now)
    return {
      records: live.map(([id, entry]) => ({ id, ...recordOf(entry) })),
      cursor: next === undefined ? null : String(next),
    }
  },

  prune(limit) {
    return memoryOf(this).prune(limit)
  },

  removeAll() {
    const memory = memoryOf(this)
    memory.stopTimer()
    memories.set(this, new Memory(memory.max, memory.ttl))
  },

  count() {
    const memory = memoryOf(this)
    memory.prune(Infinity)
    return memory.entries.size
  },

  link(user, id, expires = Date.now() + DEFAULT_TTL) {
    memoryOf(this).link(user, id, expires - START)
  },

  unlink(user, id) {
    memoryOf(this).unlink(user, id)
  },

  linked(user) {
    return memoryOf(this).links.sessionsOf(user)
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
function recordOf(entry: Entry | BoundedEntry): SessionRecord {
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
