import { Turns } from '../base/turns'

/** How many IDs a generation of `LastCounts` has. */
const GENERATION = 5_000

/** The count at which something was last noted of an ID. Two generations bound it: removing the oldest one by one is slow. */
class LastCounts {
  #recent = new Map<string, number>()
  #older = new Map<string, number>()

  set(id: string, count: number): void {
    if (this.#recent.size >= GENERATION) {
      this.#older = this.#recent
      this.#recent = new Map()
    }
    this.#recent.set(id, count)
  }

  get(id: string): number {
    return this.#recent.get(id) ?? this.#older.get(id) ?? 0
  }
}

/**
 * What this process knows of the sessions in a store:
 * - which ones were destroyed or given a new ID lately, so that a request that loaded one before does not set its cookie;
 * - who is writing, so that writers of one session take turns.
 * Classic stores have no conditional write. For them this also keeps a slow request from bringing a destroyed session back,
 * and a touch, which many stores make of a read and a write, from undoing a save.
 */
export class InThisProcess {
  static readonly #stores = new WeakMap<object, InThisProcess>()

  /** How many sessions were destroyed or given a new ID so far: the clock of what is noted here. */
  count = 0
  readonly #destroyed = new LastCounts()
  readonly #replaced = new LastCounts()
  /** The writers of each session, by its ID. */
  readonly turns = new Turns<string>(new Map())

  static of(store: object): InThisProcess {
    let known = this.#stores.get(store)
    if (!known) this.#stores.set(store, (known = new InThisProcess()))
    return known
  }

  destroyed(id: string): void {
    this.#destroyed.set(id, ++this.count)
  }

  replaced(id: string): void {
    this.#replaced.set(id, ++this.count)
  }

  wasDestroyed(id: string, since: number): boolean {
    return this.count !== since && this.#destroyed.get(id) > since
  }

  wasReplaced(id: string, since: number): boolean {
    return this.count !== since && this.#replaced.get(id) > since
  }
}
