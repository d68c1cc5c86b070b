import { channel } from 'node:diagnostics_channel'
import { setImmediate, setTimeout } from 'node:timers'
import type { MaybePromise } from '../base/maybe-promise'

/** What the subscribers of `sessile:batch` are told when a batch leaves. */
export interface BatchSent {
  /** The name of the store's class. */
  readonly store: string
  /** What is asked for in it: `read`, `write`, `renew` and so on. */
  readonly kind: string
  /** The number of requests in it. */
  readonly size: number
}

const BATCH = channel('sessile:batch')

export interface BatchSettings<Request, Answer> {
  /** Whose batches these are, for metrics. */
  of: Pick<BatchSent, 'store' | 'kind'>
  /** Sends requests, which come in the order of their keys, and answers them in that order. */
  send(requests: Request[]): MaybePromise<readonly Answer[]>
  /** The most requests that go together. */
  limit: number
  /** The shortest time, in ms, from one batch to the next. Default: 0, a batch leaves when its turn of the event loop ends. */
  pause?: number
  /**
   * One request that stands for two of the same key, which then share its answer. Without it, or where there is none, the
   * later one goes with the next batch.
   */
  join?(waiting: Request, later: Request): Request | undefined
  /** Whether what a single request asks for may be why a batch failed, and the others would succeed without it. */
  mayBeOnesFault?(error: unknown): boolean
}

interface Waiting<Request, Answer> {
  readonly key: string
  request: Request
  readonly answer: Promise<Answer>
  resolve(answer: Answer): void
  reject(error: unknown): void
}

/**
 * Sends what is asked for in one turn of the event loop together. A batch leaves after the last request in it has come, so
 * each one sees what was true when it was made. Keys are sorted, so that batches that lock the same rows do so in the same
 * order, and none waits for another that waits for it.
 */
export class Batches<Request, Answer> {
  readonly #settings: BatchSettings<Request, Answer>
  #waiting = new Map<string, Waiting<Request, Answer>>()
  readonly #underWay = new Set<Promise<void>>()
  #immediate: NodeJS.Immediate | undefined
  #timer: NodeJS.Timeout | undefined
  #lastLeft = -Infinity

  constructor(settings: BatchSettings<Request, Answer>) {
    this.#settings = settings
  }

  /** @param isAlone whether it is to be sent at once by itself, as what is large would only keep others waiting */
  ask(key: string, request: Request, isAlone = false): Promise<Answer> {
    if (isAlone) {
      const alone = waitingFor<Request, Answer>(key, request)
      this.#send([alone])
      return alone.answer
    }
    const waiting = this.#waiting.get(key)
    if (waiting) {
      const joined = this.#settings.join?.(waiting.request, request)
      if (joined) {
        waiting.request = joined
        return waiting.answer
      }
      this.#leave()
    }
    const added = waitingFor<Request, Answer>(key, request)
    this.#waiting.set(key, added)
    if (this.#waiting.size >= this.#settings.limit) this.#leave()
    else this.#schedule()
    return added.answer
  }

  /** Answers what waits for a key, if it is such a request, without sending it. */
  withdraw(key: string, answer: Answer, isSuch: (request: Request) => boolean): void {
    const waiting = this.#waiting.get(key)
    if (!waiting || !isSuch(waiting.request)) return
    this.#waiting.delete(key)
    waiting.resolve(answer)
  }

  /** Has what waits leave when this turn of the event loop ends, without the rest of the pause. */
  hurry(): void {
    if (!this.#timer) return
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#immediate = setImmediate(() => this.#leave())
  }

  /** Sends what waits, and resolves when everything that was sent has been answered, or has failed. */
  async flush(): Promise<void> {
    this.#leave()
    await Promise.all(this.#underWay)
  }

  /** The timer keeps the process alive, so that one that comes to its end by itself still sends what waits. */
  #schedule(): void {
    if (this.#timer || this.#immediate) return
    const pause = this.#lastLeft + (this.#settings.pause ?? 0) - performance.now()
    if (pause > 0) this.#timer = setTimeout(() => this.#leave(), pause)
    else this.#immediate = setImmediate(() => this.#leave())
  }

  #leave(): void {
    clearTimeout(this.#timer)
    clearImmediate(this.#immediate)
    this.#timer = this.#immediate = undefined
    if (this.#waiting.size === 0) return
    const batch = [...this.#waiting.values()]
    if (batch.length > 1) batch.sort((a, b) => (a.key < b.key ? -1 : 1))
    this.#waiting = new Map()
    this.#lastLeft = performance.now()
    this.#send(batch)
  }

  #send(batch: readonly Waiting<Request, Answer>[]): void {
    if (BATCH.hasSubscribers) BATCH.publish({ ...this.#settings.of, size: batch.length } satisfies BatchSent)
    const sent: Promise<void> = this.#answer(batch).finally(() => this.#underWay.delete(sent))
    this.#underWay.add(sent)
  }

  /** Never rejects: each failure goes to those who asked. */
  async #answer(batch: readonly Waiting<Request, Answer>[]): Promise<void> {
    try {
      const answers = await this.#settings.send(batch.map(({ request }) => request))
      for (const [n, waiting] of batch.entries()) waiting.resolve(answers[n] as Answer)
    } catch (error) {
      if (batch.length > 1 && this.#settings.mayBeOnesFault?.(error)) {
        const half = batch.length >> 1
        await Promise.all([this.#answer(batch.slice(0, half)), this.#answer(batch.slice(half))])
      } else {
        for (const waiting of batch) waiting.reject(error)
      }
    }
  }
}

function waitingFor<Request, Answer>(key: string, request: Request): Waiting<Request, Answer> {
  let resolve!: (answer: Answer) => void
  let reject!: (error: unknown) => void
  const answer = new Promise<Answer>((resolved, rejected) => {
    resolve = resolved
    reject = rejected
  })
  return { key, request, answer, resolve, reject }
}

/** Moves the end of a record from the one that was read to a later one; both in ms since the epoch. */
export interface Renewal {
  readonly id: string
  readonly from: number
  readonly expires: number
}

/** The most renewals in a batch, and the shortest time, in ms, from one batch to the next. */
const LARGEST_RENEWAL = 100
const RENEWAL_PAUSE = 100
/** Records that end within so many ms are not kept waiting: they might have ended before their renewal leaves. */
const ENDS_SOON = 5000

/**
 * The renewals of a store. Nobody needs to wait for one, so they leave at most ten times a second, together. Each answer says
 * whether the record had the end that was read, and has the new one now.
 */
export class Renewals {
  readonly #batches: Batches<Renewal, boolean>

  /**
   * @param store the name of the store's class
   * @param send moves the ends that are still `from`, of live records, in one step, and answers which
   * @param limit the most renewals that `send` takes
   */
  constructor(
    store: string,
    send: (renewals: Renewal[]) => MaybePromise<readonly boolean[]>,
    mayBeOnesFault?: (error: unknown) => boolean,
    limit = LARGEST_RENEWAL,
  ) {
    this.#batches = new Batches({
      of: { store, kind: 'renew' },
      send,
      limit,
      pause: RENEWAL_PAUSE,
      // Two requests have read the same end: the later renewal is what both want.
      join: (waiting, later) =>
        waiting.from !== later.from ? undefined : waiting.expires > later.expires ? waiting : later,
      ...(mayBeOnesFault && { mayBeOnesFault }),
    })
  }

  renew(renewal: Renewal): Promise<boolean> {
    const renewed = this.#batches.ask(renewal.id, renewal)
    if (renewal.from - Date.now() < ENDS_SOON) this.#batches.hurry()
    return renewed
  }

  /** To be called when a record is known to have been written, with its new end: a renewal of its former one is void. */
  written(id: string, expires: number): void {
    this.#batches.withdraw(id, false, ({ from }) => from !== expires)
  }

  /** To be called when a record is known to have been removed. */
  removed(id: string): void {
    this.#batches.withdraw(id, false, () => true)
  }

  /** Sends what waits, and resolves when all of it is done or has failed. */
  flush(): Promise<void> {
    return this.#batches.flush()
  }
}
