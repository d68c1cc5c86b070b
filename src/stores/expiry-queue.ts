/** Something that ends, and knows its place in the queue. */
export interface Ending {
  /** When it ends. */
  expires: number
  /** The time that it is queued by: never later than `expires`, often earlier, as renewing does not move it. */
  queuedFor: number
  /** Its index in the heap, -1 outside. */
  place: number
}

/**
 * A binary heap: the item that ends first comes first. Renewing costs nothing: an item that comes up before its time is
 * queued again for its new end.
 */
export class ExpiryQueue<T extends Ending> {
  readonly #heap: T[] = []

  add(item: T): void {
    item.queuedFor = item.expires
    item.place = this.#heap.push(item) - 1
    this.#rise(item)
  }

  /** To be called when an item ends earlier than before. */
  hasten(item: T): void {
    if (item.expires >= item.queuedFor) return
    item.queuedFor = item.expires
    this.#rise(item)
  }

  remove(item: T): void {
    if (item.place < 0) return
    const last = this.#heap.pop()
    if (last !== item && last) {
      this.#put(last, item.place)
      this.#rise(last)
      this.#sink(last)
    }
    item.place = -1
  }

  /** An item that has ended by this time, or `undefined`. It stays in the queue until it is removed. */
  ended(now: number): T | undefined {
    for (;;) {
      const first = this.#heap[0]
      if (!first || first.queuedFor > now) return undefined
      if (first.expires <= now) return first
      first.queuedFor = first.expires
      this.#sink(first)
    }
  }

  /** When the first item may end, or `undefined` for an empty queue. */
  get next(): number | undefined {
    return this.#heap[0]?.queuedFor
  }

  #put(item: T, place: number): void {
    this.#heap[place] = item
    item.place = place
  }

  #rise(item: T): void {
    while (item.place > 0) {
      const parent = this.#heap[(item.place - 1) >> 1] as T
      if (parent.queuedFor <= item.queuedFor) return
      const place = parent.place
      this.#put(parent, item.place)
      this.#put(item, place)
    }
  }

  #sink(item: T): void {
    for (;;) {
      const left = this.#heap[2 * item.place + 1]
      const right = this.#heap[2 * item.place + 2]
      const child = left && right && right.queuedFor < left.queuedFor ? right : left
      if (!child || child.queuedFor >= item.queuedFor) return
      const place = child.place
      this.#put(child, item.place)
      this.#put(item, place)
    }
  }
}
