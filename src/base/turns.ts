import { isPromise, type MaybePromise } from './maybe-promise'

/** How long, in ms, one waits for another at most: a store that never answers must not block a session for ever. */
const LONGEST_TURN = 10_000

/** What a Map and a WeakMap have in common. */
interface Ends<K> {
  get(key: K): Promise<void> | undefined
  set(key: K, end: Promise<void>): unknown
  delete(key: K): unknown
}

/** Work that goes one after the other, for each key. */
export class Turns<K> {
  readonly #ends: Ends<K>

  /** @param ends a Map, or a WeakMap, for the ends of what is under way; it keeps nothing of the work itself */
  constructor(ends: Ends<K>) {
    this.#ends = ends
  }

  /** Does some work after all that came before it; at once, and synchronously, if there is none. */
  take<T>(key: K, work: () => MaybePromise<T>): MaybePromise<T> {
    const before = this.#ends.get(key)
    const turn = before ? before.then(work) : work()
    if (!isPromise(turn)) return turn
    let tell: () => void
    const end = new Promise<void>((resolve) => (tell = resolve))
    this.#ends.set(key, end)
    const over = (): void => {
      clearTimeout(timer)
      if (this.#ends.get(key) === end) this.#ends.delete(key)
      tell()
    }
    const timer = setTimeout(over, LONGEST_TURN)
    timer.unref()
    turn.then(over, over)
    return turn
  }

  /** Resolves when what is under way has ended, however, or after ten seconds; `undefined` when nothing is. */
  underWay(key: K): Promise<void> | undefined {
    return this.#ends.get(key)
  }
}
