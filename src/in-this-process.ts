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

/** How long, in ms, one writer waits for another: a store that never answers is not to block a session for ever. */
const LONGEST_TURN = 10_000

/**
 * What this process knows of the sessions of a store: which were destroyed or given another ID lately, so that no request
 * that loaded one before sends the browser back to it; and who is writing, so that writers go one after the other. The
 * contract of classic stores has no way to write only over what is there, so for them this also keeps a request from
 * bringing a destroyed session back, and a touch, which many stores make of a read and a write, from undoing a save.
 */
export class InThisProcess {
  static readonly #stores = new WeakMap<object, InThisProcess>()

  /** How many were destroyed or given another ID by now. */
  count = 0
  readonly #destroyed = new LastCounts()
  readonly #replaced = new LastCounts()
  readonly #turns = new Map<string, PromiseLike<unknown>>()

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

  /** Does some work on a session when all who came before are done with it. */
  inTurn<T>(id: string, work: () => MaybePromise<T>): MaybePromise<T> {
    const before = this.#turns.get(id)
    const turn = before ? endOf(before).then(work) : work()
    if (!isPromise(turn)) return turn
    this.#turns.set(id, turn)
    const leave = (): void => {
      if (this.#turns.get(id) === turn) this.#turns.delete(id)
    }
    turn.then(leave, leave)
    return turn
  }
}

/** Waits until something is over, however it ends, but not for ever. */
export function endOf(turn: PromiseLike<unknown>): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, LONGEST_TURN)
    const ended = (): void => {
      clearTimeout(timer)
      resolve()
    }
    turn.then(ended, ended)
  })
}
