import { isPromise, type MaybePromise } from './maybe-promise'

/** How many IDs a generation of what is remembered has. */
const GENERATION = 5_000

/** At which count something was last noted of an ID. Two generations bound it: to take out the oldest alone is slow. */
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
 * What this process knows of the sessions of a store: which were destroyed or given another ID lately, so that no request
 * that loaded one before sends the browser back to it. The contract of classic stores has no way to write only over what
 * is there, so for them this also keeps such a request from bringing the session back; and which sessions are being
 * touched: no response waits for a touch, and many stores make it of a read and a write, so what comes next waits for it.
 */
export class InThisProcess {
  static readonly #stores = new WeakMap<object, InThisProcess>()

  /** How many were destroyed or given another ID by now. */
  count = 0
  readonly #destroyed = new LastCounts()
  readonly #replaced = new LastCounts()
  readonly #touching = new Map<string, PromiseLike<void>>()

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

  touching(id: string, touched: MaybePromise<void>): MaybePromise<void> {
    if (!isPromise(touched)) return
    this.#touching.set(id, touched)
    const ended = (): void => {
      if (this.#touching.get(id) === touched) this.#touching.delete(id)
    }
    touched.then(ended, ended)
    return touched
  }

  afterTouch<T>(id: string, next: () => MaybePromise<T>): MaybePromise<T> {
    const touched = this.#touching.get(id)
    return touched ? touched.then(next, next) : next()
  }
}
