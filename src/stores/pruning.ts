/** How many records a step deletes, and how long, in ms, it rests before the next. */
const BATCH = 500
const REST = 50
/** The longest pause, in ms, that a timer of Node can make. */
const LONGEST = 2 ** 31 - 1

/**
 * Deletes expired records from time to time, in small steps, by a timer that does not keep the process alive. A run begins
 * only after the one before has ended. Errors go to `onError`, and the next run tries again.
 */
export class Pruning {
  #timer: NodeJS.Timeout | undefined
  #stopped = false
  #running: Promise<void> | undefined

  /**
   * @param interval the mean pause in ms, 0 for never; pauses vary by half, so that the processes of a fleet do not
   * prune together. A function gives each pause itself.
   */
  constructor(
    private readonly prune: (limit: number) => number | PromiseLike<number>,
    private readonly interval: number | (() => number),
    private readonly onError: (error: unknown) => void,
  ) {}

  /** Starts the timer; called whenever the store is used, so that one that is never used has none. */
  start(): void {
    if (this.#timer || this.#stopped || this.interval === 0) return
    const pause = typeof this.interval === 'function' ? this.interval() : this.interval * (0.5 + Math.random())
    this.#timer = setTimeout(
      () => {
        // Nobody waits for a run, so no rejection may leave it: not even that of `onError` itself.
        this.#running = this.#run()
          .catch(this.onError)
          .catch(() => undefined)
      },
      Math.min(pause, LONGEST),
    )
    this.#timer.unref()
  }

  /** Stops the timer, and waits for the run under way. */
  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    await this.#running
  }

  async #run(): Promise<void> {
    try {
      while (!this.#stopped && (await this.prune(BATCH)) >= BATCH) {
        await new Promise((resolve) => setTimeout(resolve, REST).unref())
      }
    } finally {
      this.#timer = undefined
      this.start()
    }
  }
}
