/** A prime, so that IDs made of few different characters are spread, too. */
const SHARDS = 1087

/** What ends at a known time. */
export interface Ending {
  /** Brought nearer or put off by `renew` of the map alone. */
  expires: number
}

/**
 * Entries by ID, each with an end. Many small Maps, as V8 copies a Map whole when it grows or shrinks, which with a million
 * entries stops the process for tens of ms. Of each Map is known before when nothing in it ends: so an entry need not
 * stand in a queue of ends, which would take more memory than the entry itself, and renewing it costs nothing.
 */
export class ExpiringMap<E extends Ending> {
  readonly #shards = new Array<Map<string, E> | undefined>(SHARDS).fill(undefined)
  /** By shard, a time that is not later than any end in it. */
  readonly #firstEnds = new Float64Array(SHARDS).fill(Infinity)
  #firstEnd = Infinity
  #size = 0

  get size(): number {
    return this.#size
  }

  get(id: string): E | undefined {
    return this.#shards[shardOf(id)]?.get(id)
  }

  /** Adds an entry whose ID has none. */
  add(id: string, entry: E): void {
    const shard = shardOf(id)
    const entries = (this.#shards[shard] ??= new Map<string, E>())
    entries.set(id, entry)
    this.#size++
    this.#hasten(shard, entry.expires)
  }

  /** Moves the end of an entry that is here. */
  renew(id: string, entry: E, expires: number): void {
    if (expires < entry.expires) this.#hasten(shardOf(id), expires)
    entry.expires = expires
  }

  delete(id: string): void {
    const shard = shardOf(id)
    const entries = this.#shards[shard]
    if (!entries?.delete(id)) return
    this.#size--
    if (entries.size > 0) return
    this.#shards[shard] = undefined
    this.#firstEnds[shard] = Infinity
  }

  /** A time before which nothing ends. */
  get firstEnd(): number {
    return this.#firstEnd
  }

  /**
   * What has ended by a time, to be deleted as it comes. Stops soon after having looked at so many entries; unless it was
   * stopped, `firstEnd` is later than that time then.
   */
  *ended(by: number, looks = Infinity): Generator<[id: string, entry: E], void, undefined> {
    if (this.#firstEnd > by) return
    let firstOfAll = Infinity
    for (let shard = 0; shard < SHARDS; shard++) {
      const entries = this.#shards[shard]
      if (entries && (this.#firstEnds[shard] as number) <= by) {
        if (looks <= 0) return
        looks -= entries.size
        let first = Infinity
        for (const [id, entry] of entries) {
          if (entry.expires <= by) yield [id, entry]
          else if (entry.expires < first) first = entry.expires
        }
        this.#firstEnds[shard] = first
      }
      firstOfAll = Math.min(firstOfAll, this.#firstEnds[shard] as number)
    }
    this.#firstEnd = firstOfAll
  }

  /** A page of about so many entries, and where the next one begins, or `undefined` after the last. */
  page(from: number, limit: number): { entries: [id: string, entry: E][]; next: number | undefined } {
    const entries: [id: string, entry: E][] = []
    for (let shard = from; shard < SHARDS; shard++) {
      if (entries.length >= limit) return { entries, next: shard }
      for (const entry of this.#shards[shard] ?? []) entries.push(entry)
    }
    return { entries, next: undefined }
  }

  #hasten(shard: number, end: number): void {
    if (end < (this.#firstEnds[shard] as number)) this.#firstEnds[shard] = end
    if (end < this.#firstEnd) this.#firstEnd = end
  }
}

/** By the last characters, which differ from ID to ID even if a `genid` counts. */
function shardOf(id: string): number {
  let hash = 0
  for (let i = Math.max(0, id.length - 5); i < id.length; i++) hash = 31 * hash + id.charCodeAt(i)
  return hash % SHARDS
}
