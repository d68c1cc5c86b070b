import { isPromise, type MaybePromise } from './maybe-promise'

/** How many sessions are remembered. */
const REMEMBERED = 10_000

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
  readonly #destroyed = new Map<string, number>()
  readonly #replaced = new Map<string, number>()
  readonly #touching = new Map<string, PromiseLike<void>>()

  static of(store: object): InThisProcess {
    let known = this.#stores.get(store)
    if (!known) this.#stores.set(store, (known = new InThisProcess()))
    return known
  }

  destroyed(id: string): void {
    remember(this.#destroyed, id, ++this.count)
  }

  replaced(id: string): void {
    remember(this.#replaced, id, ++this.count)
  }

  wasDestroyed(id: string, since: number): boolean {
    return this.count !== since && (this.#destroyed.get(id) ?? 0) > since
  }

  wasReplaced(id: string, since: number): boolean {
    return this.count !== since && (this.#replaced.get(id) ?? 0) > since
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

function remember(ids: Map<string, number>, id: string, count: number): void {
  ids.delete(id)
  ids.set(id, count)
  if (ids.size > REMEMBERED) ids.delete(ids.keys().next().value as string)
}
