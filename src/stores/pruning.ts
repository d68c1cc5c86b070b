/** How many records a step deletes, and how long, in ms, it rests before the next. */
const BATCH = 500
const REST = 50
/** The longest pause, in ms, that a timer of Node can make. */
const LONGEST = 2 ** 31 - 1

/**
 * Deletes expired records from time to time, in small steps, by a timer that keeps no process alive. A run begins only
 * when the one before has ended. What fails is told, and tried again the next time.
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

  /** Begins; called at the first use of a store, so that one that is made and not used has no timer. */
  start(): void {
    if (this.#timer || this.#stopped || this.interval === 0) return
    const pause = typeof this.interval === 'function' ? this.interval() : this.interval * (0.5 + Math.random())
    this.#timer = setTimeout(
      () => {
        // Nobody waits for a run: what failed here would end the process, be it the callback itself.
        this.#running = this.#run()
          .catch(this.onError)
          .catch(() => undefined)
      },
      Math.min(pause, LONGEST),
    )
    this.#timer.unref()
  }

  /** Ends it, and waits for a step under way. */
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
