import { existsSync } from 'node:fs'
import { a, aFunction, aName, aSerializer, has, isPositive, optionsOf, type Check } from '../base/checks'
import { OptionError } from '../base/errors'
import { afterwards, type MaybePromise } from '../base/maybe-promise'
import {
  DEFAULT_TTL,
  RecordStore,
  type RecordPage,
  type Serializer,
  type SessionRecord,
  type WriteCondition,
  type Version,
} from '../store/record-store'
import { Renewals, type Renewal } from './batches'
import { Pruning } from './pruning'
import { SqliteAccess, type SqliteDatabase } from './sqlite-access'
import { prepare } from './sqlite-statements'

export type { SqliteDatabase }

export interface SqliteStoreOptions {
  /**
   * The file to open with `node:sqlite`, which Node has from 22.13 on: in WAL mode, with `synchronous = NORMAL`.
   * The store closes it.
   */
  file?: string | undefined
  /**
   * An open database in place of a file, of `node:sqlite`, `better-sqlite3` or `libsql`. It stays yours to set up and to
   * close.
   */
  database?: SqliteDatabase | undefined
  /** The name of the table, which is made when it is missing. Default: `'sessions'`. */
  tableName?: string | undefined
  /** Lifetime, in ms, of a session whose cookie has no expiry. Default: one day. */
  ttl?: number | undefined
  /** About how often, in ms, expired sessions are deleted; 0 for never. Default: 15 minutes. */
  pruneInterval?: number | undefined
  /** Called with what fails in the background. Default: `console.error`. */
  errorLog?: ((...message: unknown[]) => void) | undefined
  /** How sessions become text. Default: JSON. */
  serializer?: Serializer | undefined
}

const OPTIONS: Record<keyof SqliteStoreOptions, Check> = {
  file: aName,
  database: a('an open database, with exec and prepare; the option file takes a path', (value) =>
    has(value, 'exec', 'prepare'),
  ),
  tableName: aName,
  ttl: a('a positive number of ms', isPositive),
  pruneInterval: a('a number of ms, 0 for never', (value) => value === 0 || isPositive(value)),
  errorLog: aFunction,
  serializer: aSerializer,
}

interface Row {
  id: string
  text: string
  expires: number
  version: number
}

const PRUNE_INTERVAL = 900_000

/**
 * Sessions in a SQLite file: durable without a server, shared by the processes of one machine. What is written survives the
 * end of the process, by whatever signal. After a loss of power, in WAL mode with `synchronous = NORMAL`, the last writes may be
 * missing, but the file is intact. Renewals are written together, at most a tenth of a second later.
 *
 * Answers at once, unless the file is locked by another process: then it waits for up to 5 seconds, and the event loop runs.
 */
export class SqliteStore extends RecordStore {
  readonly #database: SqliteDatabase
  readonly #ownsDatabase: boolean
  readonly #sql: ReturnType<typeof prepare>
  readonly #access: SqliteAccess
  readonly #renewals = new Renewals('SqliteStore', (renewals) => this.#renewMany(renewals))
  readonly #pruning: Pruning
  #closing: Promise<void> | undefined

  /** @throws OptionError when an option cannot be used, or this Node has no `node:sqlite` to open a file with */
  constructor(options: SqliteStoreOptions) {
    super()
    const given = optionsOf(this, SqliteStore, options, OPTIONS)
    const { file, database, tableName = 'sessions', ttl, serializer } = given
    const { pruneInterval = PRUNE_INTERVAL, errorLog = console.error } = given
    if ((file === undefined) === (database === undefined)) throw invalid('needs the option file or the option database')
    this.#ownsDatabase = file !== undefined
    this.#database = database ?? open(file as string)
    this.ttl = ttl ?? DEFAULT_TTL
    if (serializer) this.serializer = serializer
    this.#sql = prepare(this.#database, tableName)
    if (!has(this.#sql.read, 'get', 'all', 'run')) {
      throw invalid('option database must answer synchronously: libsql and not libsql/promise')
    }
    if (this.#ownsDatabase) this.#database.exec('PRAGMA busy_timeout = 0')
    this.#access = new SqliteAccess(this.#database)
    const report = (error: unknown): void => errorLog('sessile/sqlite: expired sessions could not be deleted:', error)
    this.#pruning = new Pruning(async (limit) => this.prune(limit), pruneInterval, report)
  }

  read(id: string): MaybePromise<SessionRecord | null> {
    this.#pruning.start()
    return this.#access.read(() => {
      const row = this.#sql.read.get(id, Date.now()) as Row | undefined
      return row ? toRecord(row) : null
    })
  }

  override readMany(ids: readonly string[]): MaybePromise<Array<SessionRecord | null>> {
    return this.#access.read(() => {
      const rows = this.#sql.readMany.all(JSON.stringify(ids), Date.now()) as Row[]
      const records = new Map(rows.map((row) => [row.id, toRecord(row)]))
      return ids.map((id) => records.get(id) ?? null)
    })
  }

  write(id: string, text: string, expires: number, condition: WriteCondition): MaybePromise<number | null> {
    this.#pruning.start()
    const { writeAlways, writeAbsent, writePresent, writeVersion } = this.#sql
    const written = this.#access.write(() => {
      const now = Date.now()
      return (
        condition === 'always'
          ? writeAlways.all(id, text, expires)
          : condition === 'absent'
            ? writeAbsent.all(id, text, expires, now)
            : condition === 'present'
              ? writePresent.all(text, expires, id, now)
              : writeVersion.all(text, expires, id, now, condition.version)
      ) as [Row?]
    })
    return afterwards(written, ([row]) => {
      if (!row) return null
      this.#renewals.written(id, expires)
      return Number(row.version)
    })
  }

  /** Given `from`, it may wait a tenth of a second for others to go with. */
  renew(id: string, expires: number, from?: number): MaybePromise<boolean> {
    if (from !== undefined) return this.#renewals.renew({ id, from, expires })
    const renewed = this.#access.write(() => this.#sql.renew.run(expires, id, Date.now()))
    return afterwards(renewed, ({ changes }) => {
      this.#renewals.written(id, expires)
      return Number(changes) > 0
    })
  }

  #renewMany(renewals: Renewal[]): MaybePromise<boolean[]> {
    const renewed = this.#access.write(() => this.#sql.renewMany.all(JSON.stringify(renewals), Date.now()) as Row[])
    return afterwards(renewed, (rows) => {
      const ids = new Set(rows.map(({ id }) => id))
      return renewals.map(({ id }) => ids.has(id))
    })
  }

  remove(id: string, version?: Version): MaybePromise<boolean> {
    const { remove, removeVersion } = this.#sql
    const removed = this.#access.write(
      () => (version === undefined ? remove.all(id) : removeVersion.all(id, version)) as [Row?],
    )
    return afterwards(removed, ([row]) => {
      if (row) this.#renewals.removed(id)
      return row !== undefined && row.expires > Date.now()
    })
  }

  scan(cursor: string | null, limit: number): MaybePromise<RecordPage> {
    return this.#access.read(() => {
      const rows = this.#sql.scan.all(cursor ?? '', Date.now(), limit) as Row[]
      return { records: rows.map(toRecord), cursor: rows.length < limit ? null : (rows.at(-1) as Row).id }
    })
  }

  /** Links count as records: one that has ended is deleted, or, if its session lives on, set to end with it. */
  override prune(limit: number): MaybePromise<number> {
    const { prune, pruneLinks, renewLinks } = this.#sql
    return this.#access.write(() => {
      const now = Date.now()
      let pruned = 0
      for (const step of [prune, pruneLinks, renewLinks]) {
        if (pruned < limit) pruned += Number(step.run(now, limit - pruned).changes)
      }
      return pruned
    })
  }

  /** Links first, so that a session that is linked and written meanwhile is not left without its link. */
  override removeAll(): MaybePromise<void> {
    return this.#access.write(() => {
      this.#sql.removeLinks.run()
      this.#sql.removeAll.run()
    })
  }

  override count(): MaybePromise<number> {
    return this.#access.read(() => Number((this.#sql.count.get(Date.now()) as { count: number | bigint }).count))
  }

  override link(user: string, id: string, expires: number): MaybePromise<void> {
    return this.#access.write(() => void this.#sql.link.run(user, id, expires))
  }

  override unlink(user: string, id: string): MaybePromise<void> {
    return this.#access.write(() => void this.#sql.unlink.run(user, id))
  }

  override linked(user: string): MaybePromise<string[]> {
    return this.#access.read(() => (this.#sql.linked.all(user, Date.now()) as Row[]).map(({ id }) => id))
  }

  override removeLinked(user: string, ids: readonly string[]): MaybePromise<boolean[]> {
    const { removeMany, unlinkMany } = this.#sql
    const removed = this.#access.write(() => removeMany.all(JSON.stringify(ids), Date.now()) as Row[])
    return afterwards(removed, (rows) => {
      const gone = new Set(rows.map(({ id }) => id))
      for (const id of gone) this.#renewals.removed(id)
      const unlinked = this.#access.write(() => unlinkMany.run(JSON.stringify([...gone]), user))
      return afterwards(unlinked, () => ids.map((id) => gone.has(id)))
    })
  }

  /** Looks at the settings that decide whether others wait and what a loss of power costs, and whether the file can be written. */
  override async check(): Promise<string[]> {
    const access = this.#access
    const findings: string[] = []
    const mode = access.pragma('journal_mode')
    const [main] = this.#database.prepare('PRAGMA database_list').all() as [{ file: string | null }]
    if (main.file && !existsSync(main.file)) {
      findings.push(
        `The file ${main.file} is gone: what is written now is lost. Restart the process, and restore the file.`,
      )
    }
    if (main.file && mode !== 'wal') {
      findings.push(
        `The journal mode is ${String(mode)}, in which readers and writers wait for each other: PRAGMA journal_mode = WAL`,
      )
    }
    if (Number(access.pragma('synchronous')) === 0) {
      findings.push('A loss of power may corrupt the file, as synchronous is OFF: PRAGMA synchronous = NORMAL')
    }
    try {
      await access.write(() => this.#sql.unlink.run('', ''))
    } catch (error) {
      findings.push(`Nothing can be written: ${(error as Error).message}. See the rights on the file and its folder.`)
    }
    return findings
  }

  override close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    await Promise.all([this.#pruning.stop(), this.#renewals.flush()])
    await this.#access.idle()
    if (this.#ownsDatabase) this.#database.close()
  }
}

/** Drivers may be configured to return BigInts. */
function toRecord({ id, text, expires, version }: Row): SessionRecord & { id: string } {
  return { id, text, expires: Number(expires), version: Number(version) }
}

function open(file: string): SqliteDatabase {
  const { getBuiltinModule } = process as { getBuiltinModule?: (name: string) => unknown }
  const sqlite = getBuiltinModule?.('node:sqlite') as { DatabaseSync: new (file: string) => SqliteDatabase } | undefined
  if (!sqlite) {
    throw invalid(
      `cannot open a file, as this Node ${process.versions.node} has no node:sqlite: Node 22.13 and later have it, 22.5 ` +
        'with the flag --experimental-sqlite; or npm install libsql, or better-sqlite3 (better-sqlite3@12 for Node 20), ' +
        'and give the option database: new Database(file)',
    )
  }
  const database = new sqlite.DatabaseSync(file)
  database.exec('PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
  return database
}

function invalid(what: string): OptionError {
  return new OptionError(`SqliteStore: ${what}`)
}
