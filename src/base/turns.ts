import { isPromise, type MaybePromise } from './maybe-promise'

/** How long, in ms, one waits for another at most: a store that never answers must not block a session for ever. */
const LONGEST_TURN = 10_000

/** What a Map and a WeakMap have in common. */
interface LatestWork<K> {
  get(key: K): PromiseLike<unknown> | undefined
  set(key: K, work: PromiseLike<unknown>): unknown
  delete(key: K): unknown
}

/** Work that goes one after the other, for each key. */
export class Turns<K> {
  readonly #last: LatestWork<K>

  /** @param last a Map, or a WeakMap, for the work of each key that is under way */
  constructor(last: LatestWork<K>) {
    this.#last = last
  }

  /** Does some work after all that came before it; at once, and synchronously, if there is none. */
  take<T>(key: K, work: () => MaybePromise<T>): MaybePromise<T> {
    const before = this.underWay(key)
    const turn = before ? before.then(work) : work()
    if (!isPromise(turn)) return turn
    this.#last.set(key, turn)
    const leave = (): void => {
      if (this.#last.get(key) === turn) this.#last.delete(key)
    }
    turn.then(leave, leave)
    return turn
  }

  /** Resolves when what is under way has ended, however, or after ten seconds; `undefined` when nothing is. */
  underWay(key: K): Promise<void> | undefined {
    const turn = this.#last.get(key)
    if (!turn) return undefined
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, LONGEST_TURN)
      const ended = (): void => {
        clearTimeout(timer)
        resolve()
      }
      turn.then(ended, ended)
    })
  }
}
