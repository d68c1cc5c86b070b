import { AsyncLocalStorage } from 'node:async_hooks'
import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'

/** Where every simulation begins, in ms since the epoch. */
const BEGINNING = Date.UTC(2030, 0, 1)

/** Timers this short, in ms, are pauses between two tries: they fire by themselves, as what follows waits for the scheduler. */
const PAUSE = 100

const real = {
  now: Date.now,
  random: Math.random,
  randomBytes: crypto.randomBytes,
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setImmediate: globalThis.setImmediate,
  clearImmediate: globalThis.clearImmediate,
}

/** Whose request it is that something is done for. */
export const running = new AsyncLocalStorage<string>()

/** Timers belong to the request that has set them. */
function inContext(work: () => void): () => void {
  const actor = running.getStore()
  return actor === undefined ? work : () => running.run(actor, work)
}

class Timer {
  constructor(
    readonly at: number,
    readonly fire: () => void,
  ) {}
  ref(): this {
    return this
  }
  unref(): this {
    return this
  }
  hasRef(): boolean {
    return true
  }
}

/** Numbers that are the same for the same seed (mulberry32). */
export function numbersOf(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

/** Everything that a program could learn from outside: the time, its timers, and chance. It moves only when it is told to. */
class Clock {
  now = BEGINNING
  /** Never begins anew: no ID is made twice. */
  readonly #randomBytes = numbersOf(0)
  #random = numbersOf(0)
  #timers: Timer[] = []
  #immediates: (() => void)[] = []
  #thrown: unknown[] = []
  readonly #foreign: [event: string, listener: (...args: any[]) => void][] = []
  readonly #note = (error: unknown): void => void this.#thrown.push(error)

  /** Takes the place of the process' own clock, until `leave`. What ends a process otherwise is noted. */
  enter(): void {
    Date.now = () => this.now
    Math.random = () => this.#random()
    crypto.randomBytes = ((size: number) => this.#bytes(size)) as never
    globalThis.setTimeout = ((work: (...args: unknown[]) => void, ms = 1, ...args: unknown[]) => {
      const timer = new Timer(
        this.now + Math.max(1, ms),
        inContext(() => work(...args)),
      )
      this.#timers.push(timer)
      return timer
    }) as never
    globalThis.clearTimeout = ((timer: Timer) =>
      void (this.#timers = this.#timers.filter((one) => one !== timer))) as never
    globalThis.setImmediate = ((work: (...args: unknown[]) => void, ...args: unknown[]) => {
      const immediate = inContext(() => work(...args))
      this.#immediates.push(immediate)
      return immediate
    }) as never
    globalThis.clearImmediate = ((immediate: () => void) => {
      this.#immediates = this.#immediates.filter((one) => one !== immediate)
    }) as never
    syncBuiltinESMExports()
    for (const event of ['unhandledRejection', 'uncaughtException']) {
      for (const listener of process.listeners(event as 'exit')) {
        this.#foreign.push([event, listener])
        process.off(event, listener)
      }
      process.on(event, this.#note)
    }
  }

  leave(): void {
    const { now, random, randomBytes, ...globals } = real
    Object.assign(globalThis, globals)
    Date.now = now
    Math.random = random
    crypto.randomBytes = randomBytes
    syncBuiltinESMExports()
    for (const event of ['unhandledRejection', 'uncaughtException']) process.off(event, this.#note)
    for (const [event, listener] of this.#foreign.splice(0)) process.on(event, listener)
  }

  /** Begins anew: the same seed gives the same chance. */
  reset(seed: number): void {
    this.now = BEGINNING
    this.#random = numbersOf(seed)
    this.#timers = []
    this.#immediates = []
    this.#thrown = []
  }

  /** What was thrown or rejected so that it would have ended the process. */
  takeThrown(): unknown[] {
    return this.#thrown.splice(0)
  }

  /** Resolves when nothing goes on any more that does not wait for the time or for the scheduler. */
  async calm(): Promise<void> {
    for (;;) {
      await new Promise<void>((resolve) => void real.setImmediate(resolve))
      if (this.#immediates.length > 0) for (const work of this.#immediates.splice(0)) this.#run(work)
      else if (!this.#fire(this.now + PAUSE)) return
    }
  }

  /** Moves on to the next timer that fires before `until`; false when there is none, and the time is `until`. */
  moveOn(until: number): boolean {
    if (this.#fire(until)) return true
    this.now = Math.max(this.now, until)
    return false
  }

  #fire(until: number): boolean {
    let next: Timer | undefined
    for (const timer of this.#timers) if (timer.at <= until && !(next && next.at <= timer.at)) next = timer
    if (!next) return false
    this.#timers.splice(this.#timers.indexOf(next), 1)
    this.now = Math.max(this.now, next.at)
    this.#run(next.fire)
    return true
  }

  #run(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#thrown.push(error)
    }
  }

  #bytes(size: number): Buffer {
    const bytes = Buffer.allocUnsafe(size)
    for (let i = 0; i < size; i++) bytes[i] = this.#randomBytes() * 256
    return bytes
  }
}

export const clock = new Clock()
