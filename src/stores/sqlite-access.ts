import { setTimeout } from 'node:timers'
import type { MaybePromise } from '../base/maybe-promise'

/** What the store asks of a database: `node:sqlite`, `better-sqlite3` and `libsql` have it. */
export interface SqliteDatabase {
  exec(sql: string): unknown
  prepare(sql: string): SqliteStatement
  close(): unknown
  /** What `better-sqlite3` and `libsql` call it. */
  readonly inTransaction?: boolean
  /** What `node:sqlite` calls it. */
  readonly isTransaction?: boolean
}

export interface SqliteStatement {
  get(...values: (string | number)[]): unknown
  all(...values: (string | number)[]): unknown[]
  run(...values: (string | number)[]): { changes: number | bigint }
}

/** How long, in ms, work waits for a file that is locked elsewhere before it fails, and the longest pause between tries. */
const LONGEST_WAIT = 5000
const LONGEST_PAUSE = 20

interface Waiting {
  readonly work: () => unknown
  readonly until: number
  resolve(result: unknown): void
  reject(error: unknown): void
}

/**
 * Access to a file that others may have locked. What finds it so waits, in order, while the event loop runs: SQLite itself
 * would wait in the middle of the process, for as long as the busy timeout of the connection says.
 */
export class SqliteAccess {
  readonly #waiting: Waiting[] = []
  readonly #busyTimeout: number
  readonly #readsWait: boolean
  readonly #leavesUnfinished: boolean
  #pause = 1
  #whenIdle: (() => void)[] = []

  constructor(private readonly database: SqliteDatabase) {
    this.#busyTimeout = Number(this.pragma('busy_timeout'))
    // In WAL mode writers keep no reader waiting.
    this.#readsWait = this.pragma('journal_mode') !== 'wal'
    this.#leavesUnfinished = 'syncUntil' in database
  }

  pragma(name: string): unknown {
    const [row] = this.database.prepare(`PRAGMA ${name}`).all() as [Record<string, unknown>]
    return Object.entries(row).find(([column]) => column !== '_metadata')?.[1]
  }

  read<T>(work: () => T): MaybePromise<T> {
    return this.#do(this.#readsWait ? () => this.#atOnce(work) : work)
  }

  /** Work of one statement, or of several that may be begun again. It comes after what waits. */
  write<T>(work: () => T): MaybePromise<T> {
    const write = (): T => this.#atOnce(this.#leavesUnfinished ? () => this.#locked(work) : work)
    return this.#waiting.length > 0 ? this.#wait(write) : this.#do(write)
  }

  /** Resolves when nothing waits any more. */
  idle(): Promise<void> | undefined {
    if (this.#waiting.length > 0) return new Promise((resolve) => this.#whenIdle.push(resolve))
    return undefined
  }

  #do<T>(work: () => T): MaybePromise<T> {
    this.#demandOpen()
    try {
      return work()
    } catch (error) {
      // In a transaction of the application's own, all of it has to be tried again.
      if (!isLocked(error) || this.database.inTransaction || this.database.isTransaction) throw error
      return this.#wait(work)
    }
  }

  /** libsql goes on reading from a database that is closed, and ends the process when something else is asked of it. */
  #demandOpen(): void {
    if ((this.database as { open?: unknown }).open === false) throw new Error('the database is closed')
  }

  #wait<T>(work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const waiting = { work, until: performance.now() + LONGEST_WAIT, resolve, reject } as Waiting
      if (this.#waiting.push(waiting) === 1) this.#tryLater()
    })
  }

  #tryLater(): void {
    setTimeout(() => this.#tryAgain(), this.#pause * (0.5 + Math.random() / 2))
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE)
  }

  /** Only the first asks whether the file is still locked: however many wait, that takes no time. */
  #tryAgain(): void {
    for (let first = this.#waiting[0]; first; first = this.#waiting[0]) {
      try {
        this.#demandOpen()
        first.resolve(first.work())
      } catch (error) {
        if (isLocked(error) && performance.now() < first.until) return this.#tryLater()
        first.reject(error)
      }
      this.#waiting.shift()
      this.#pause = 1
    }
    for (const resolve of this.#whenIdle.splice(0)) resolve()
  }

  #atOnce<T>(work: () => T): T {
    if (this.#busyTimeout === 0) return work()
    this.database.exec('PRAGMA busy_timeout = 0')
    try {
      return work()
    } finally {
      this.database.exec(`PRAGMA busy_timeout = ${this.#busyTimeout}`)
    }
  }

  /**
   * libsql leaves a statement unfinished that finds the file locked; from then on SQLite silently commits nothing on that
   * connection. So the lock is taken first, except in a transaction of the application's own, which has to take it itself.
   */
  #locked<T>(work: () => T): T {
    const { database } = this
    if (database.inTransaction) return work()
    database.exec('BEGIN IMMEDIATE')
    try {
      const result = work()
      database.exec('COMMIT')
      return result
    } finally {
      if (database.inTransaction) database.exec('ROLLBACK')
    }
  }
}

/** The code is a text of `better-sqlite3` and `libsql`, and a number, in its lowest byte, of `node:sqlite`. */
function isLocked(error: unknown): boolean {
  const { code, errcode = 0 } = error as { code?: unknown; errcode?: number }
  return String(code).startsWith('SQLITE_BUSY') || (errcode & 0xff) === 5
}
