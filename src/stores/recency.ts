/** What stands in an order of use. */
export class Used {
  /** Its neighbours; those of an item that stands nowhere are the item itself. */
  older: Used = this
  newer: Used = this
}

/**
 * Items in the order of their last use: a list through the items themselves. (The order of a Set would do, but for
 * finding the first one: a new iterator walks over the gaps of all deletions, and one that is kept keeps alive every table that the
 * Set has ever had.)
 */
export class Recency<Item extends Used> {
  /** Where the two ends of the list meet. */
  readonly #ends = new Used()

  use(item: Item): void {
    leave(item)
    const newest = this.#ends.older
    item.older = newest
    item.newer = this.#ends
    newest.newer = this.#ends.older = item
  }

  /** What was used longest ago. */
  get oldest(): Item | undefined {
    const { newer } = this.#ends
    return newer === this.#ends ? undefined : (newer as Item)
  }
}

/** Takes an item out of the order in which it stands, if it does. */
export function leave(item: Used): void {
  item.older.newer = item.newer
  item.newer.older = item.older
  item.older = item.newer = item
}
