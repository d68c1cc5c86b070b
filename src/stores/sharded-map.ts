/** Odd, so that IDs made of few different characters are spread, too. */
const SHARDS = 63

/**
 * A Map of many small ones. V8 copies a Map whole when it grows or shrinks: with a million entries that stops the
 * process for tens of ms. Entries come in the order of the shards.
 */
export class ShardedMap<V> {
  readonly #shards = Array.from({ length: SHARDS }, () => new Map<string, V>())
  size = 0

  get(key: string): V | undefined {
    return this.#shardOf(key).get(key)
  }

  set(key: string, value: V): void {
    const shard = this.#shardOf(key)
    const before = shard.size
    shard.set(key, value)
    this.size += shard.size - before
  }

  delete(key: string): void {
    if (this.#shardOf(key).delete(key)) this.size--
  }

  *values(): Generator<V, undefined, undefined> {
    for (const shard of this.#shards) yield* shard.values()
  }

  /** By the last characters, which differ from ID to ID even if a `genid` counts. */
  #shardOf(key: string): Map<string, V> {
    let hash = 0
    for (let i = Math.max(0, key.length - 4); i < key.length; i++) hash = 31 * hash + key.charCodeAt(i)
    return this.#shards[hash % SHARDS] as Map<string, V>
  }
}
