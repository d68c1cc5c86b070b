import type { MaybePromise } from '../base/maybe-promise'
import type { SqliteDatabase } from './sqlite'

interface Waiting {
  attempt: () => void
  fail: (error: unknown) => void
  /** When it has waited long enough, in ms since the epoch. */
  until: number
}

/** The pauses between two tries, in ms. */
const FIRST_PAUSE = 2
const LONGEST_PAUSE = 50

/**
 * The writes of a database. SQLite waits for the lock of another process by stopping this one, for as long as its busy timeout
 * says. Here that timeout is how long a write is tried again, and the event loop runs in between. A write that
 * finds no lock is made at once. What waits is done in the order in which it came.
 */
export class WriteLock {
  readonly #database: SqliteDatabase
  /** How long a write waits, in ms. */
  readonly patience: number
  readonly #waiting: Waiting[] = []
  #isScheduled = false
  #pause = FIRST_PAUSE
  #emptied: (() => void)[] = []

  constructor(database: SqliteDatabase) {
    this.#database = database
    const { timeout } = database.prepare('PRAGMA busy_timeout').get() as { timeout: number | bigint }
    this.patience = Number(timeout)
  }

  /** @throws what the driver throws when the lock is not to be had in time */
  write<T>(work: () => T): MaybePromise<T> {
    // It is part of the application's own transaction, and must be done within that.
    if (isInTransaction(this.#database)) return work()
    if (this.#waiting.length === 0) {
      try {
        return this.#attempt(work)
      } catch (error) {
        if (!isLocked(error) || this.patience === 0) throw error
      }
    }
    return new Promise<T>((resolve, reject) => {
      const attempt = (): void => resolve(this.#attempt(work))
      this.#waiting.push({ attempt, fail: reject, until: Date.now() + this.patience })
      this.#schedule()
    })
  }

  /** Resolves when nothing waits any more. */
  async flush(): Promise<void> {
    if (this.#waiting.length > 0) await new Promise<void>((resolve) => this.#emptied.push(resolve))
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setTimeout(() => {
      this.#isScheduled = false
      this.#tryAgain()
    }, this.#pause)
  }

  #tryAgain(): void {
    for (let first; (first = this.#waiting[0]);) {
      try {
        first.attempt()
        this.#pause = FIRST_PAUSE
      } catch (error) {
        if (isLocked(error) && Date.now() < first.until) {
          this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE)
          return this.#schedule()
        }
        first.fail(error)
      }
      this.#waiting.shift()
    }
    for (const tell of this.#emptied.splice(0)) tell()
  }

  #attempt<T>(work: () => T): T {
    const database = this.#database
    // A driver that has closed its database ends the process when it is asked for more.
    if (database.open === false) throw new Error('The database connection is not open')
    if (this.patience > 0) database.exec('PRAGMA busy_timeout = 0')
    try {
      return 'syncUntil' in database ? inTransaction(database, work) : work()
    } finally {
      if (this.patience > 0) database.exec(`PRAGMA busy_timeout = ${this.patience}`)
    }
  }
}

/**
 * libsql leaves a statement unfinished that finds the file locked; from then on SQLite silently commits nothing on that
 * connection. So the lock is taken first.
 */
function inTransaction<T>(database: SqliteDatabase, work: () => T): T {
  database.exec('BEGIN IMMEDIATE')
  try {
    const result = work()
    database.exec('COMMIT')
    return result
  } finally {
    if (database.inTransaction) database.exec('ROLLBACK')
  }
}

/** `better-sqlite3` and `libsql` say it by the one name, `node:sqlite` by the other, in its newer versions. */
function isInTransaction(database: SqliteDatabase): boolean {
  if (database.open === false) return false
  return database.inTransaction ?? database.isTransaction ?? false
}

const SQLITE_BUSY = 5

export function isLocked(error: unknown): boolean {
  const { code, errcode } = error as { code?: unknown; errcode?: unknown }
  if (typeof errcode === 'number') return (errcode & 0xff) === SQLITE_BUSY
  return typeof code === 'string' && code.startsWith('SQLITE_BUSY')
}
