import { ExpiringMap, type Ending } from './expiring-map'
import { leave, Recency, Used } from './recency'
import { UserLinks } from './user-links'

/** `expires` is in ms since START: V8 stores such small numbers without allocating an object for each. */
export class Entry implements Ending {
  constructor(
    public text: string,
    public expires: number,
  ) {}
}

/** An entry of a store with a `max`, which also keeps the order of use. */
export class BoundedEntry extends Used implements Ending {
  constructor(
    readonly id: string,
    public text: string,
    public expires: number,
  ) {
    super()
  }
}

export const START = Date.now()
/** How many sessions a step of the timer deletes, and about how many it looks at for that. */
const PRUNE_BATCH = 500
const PRUNE_LOOKS = 5000
/** The pauses of the timer, in ms: at least a second, and so long that looking at all sessions takes little of the time. */
const MIN_PAUSE = 1000
const PAUSE_PER_SESSION = 0.01
/** A session stored later may end sooner than all that are there. */
const MAX_PAUSE = 60_000

/** The state of one store, kept off the store itself, so that subclasses can use any name. */
export class Memory {
  readonly entries = new ExpiringMap<Entry | BoundedEntry>()
  readonly links = new UserLinks()
  readonly #anonymous = new Recency<BoundedEntry>()
  readonly #signedIn = new Recency<BoundedEntry>()
  #timer: NodeJS.Timeout | undefined

  constructor(
    readonly max: number,
    readonly ttl: number,
  ) {}

  /** The live entry with this ID; an expired one is dropped. */
  find(id: string): Entry | BoundedEntry | undefined {
    const entry = this.entries.get(id)
    if (!entry) return undefined
    if (entry.expires <= Date.now() - START) {
      this.drop(id, entry)
      return undefined
    }
    if (entry instanceof BoundedEntry) this.#use(entry)
    return entry
  }

  add(id: string, text: string, expires: number): void {
    this.links.stopAwaiting(id)
    if (this.max === Infinity) {
      this.entries.add(id, new Entry(text, expires))
    } else {
      while (this.entries.size >= this.max) this.#makeRoom()
      const entry = new BoundedEntry(id, text, expires)
      this.entries.add(id, entry)
      this.#use(entry)
    }
    this.startTimer()
  }

  drop(id: string, entry: Entry | BoundedEntry): void {
    this.entries.delete(id)
    this.links.forget(id)
    if (entry instanceof BoundedEntry) leave(entry)
  }

  #use(entry: BoundedEntry): void {
    ;(this.links.has(entry.id) ? this.#signedIn : this.#anonymous).use(entry)
  }

  #makeRoom(): void {
    if (this.#pruneEntries(1) > 0) return
    const entry = this.#anonymous.oldest ?? this.#signedIn.oldest
    if (entry) this.drop(entry.id, entry)
  }

  link(user: string, id: string, expires: number): void {
    const entry = this.find(id)
    this.links.add(user, id)
    if (!entry) this.links.await(id, expires)
    else if (entry instanceof BoundedEntry) this.#use(entry)
    this.startTimer()
  }

  unlink(user: string, id: string): void {
    if (!this.links.delete(user, id)) return
    // It is used, as by every call that names it.
    this.find(id)
  }

  prune(limit: number, looks?: number): number {
    const pruned = this.#pruneEntries(limit, looks)
    return pruned + this.links.prune(Date.now() - START, limit - pruned)
  }

  #pruneEntries(limit: number, looks?: number): number {
    let pruned = 0
    for (const [id, entry] of this.entries.ended(Date.now() - START, looks)) {
      this.drop(id, entry)
      if (++pruned >= limit) break
    }
    return pruned
  }

  /** Has what ends leave by itself, as long as anything is there. */
  startTimer(): void {
    if (!this.#timer) this.#setTimer()
  }

  stopTimer(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /** The timer holds the store only weakly, and the process not at all. */
  #setTimer(pause = this.#pause, began?: number): void {
    const weak = new WeakRef(this)
    this.#timer = setTimeout(() => {
      const memory = weak.deref()
      if (memory) memory.#pruneStep(began)
    }, pause)
    this.#timer.unref()
  }

  /** A round of pruning goes on by steps until nothing is left that had ended when it began. */
  #pruneStep(began = Date.now() - START): void {
    this.#timer = undefined
    this.prune(PRUNE_BATCH, PRUNE_LOOKS)
    if (this.#firstEnd <= began) this.#setTimer(0, began)
    else if (this.entries.size > 0 || this.links.firstEnd < Infinity) this.#setTimer()
  }

  get #pause(): number {
    const untilFirstEnd = this.#firstEnd + START - Date.now()
    return Math.max(Math.min(untilFirstEnd, MAX_PAUSE), MIN_PAUSE, this.entries.size * PAUSE_PER_SESSION)
  }

  get #firstEnd(): number {
    return Math.min(this.entries.firstEnd, this.links.firstEnd)
  }
}
