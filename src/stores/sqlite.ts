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
import { findingsOf } from './sqlite-check'
import { isLocked, WriteLock } from './sqlite-lock'

/** What the store asks of a database: `node:sqlite`, `better-sqlite3` and `libsql` have it. */
export interface SqliteDatabase {
  exec(sql: string): unknown
  prepare(sql: string): SqliteStatement
  close(): unknown
  readonly open?: boolean
  readonly inTransaction?: boolean
  readonly isTransaction?: boolean
}

interface SqliteStatement {
  get(...values: (string | number)[]): unknown
  all(...values: (string | number)[]): unknown[]
  run(...values: (string | number)[]): { changes: number | bigint }
}

export interface SqliteStoreOptions {
  /**
   * The file to open with `node:sqlite`, which Node has from 22.13 on: in WAL mode, with `synchronous = NORMAL` and a
   * busy timeout of 5 seconds. The store closes it.
   */
  file?: string | undefined
  /**
   * An open database in place of a file, of `node:sqlite`, `better-sqlite3` or `libsql`. It stays yours to set up and to
   * close. Its busy timeout is how long a write waits for another process, and does so without stopping this one. Set
   * it before the store is made.
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
/** A session that ends within so many ms is renewed at once. */
const ENDING = 1000

/**
 * Sessions in a SQLite file: durable without a server, shared by the processes of one machine. Reading answers
 * synchronously, and so does writing, unless another process has the lock; renewals go together, up to a tenth of a second
 * later. What was written survives the end of the process, by whatever signal. After
 * a loss of power, in WAL mode with `synchronous = NORMAL`, the last writes may be missing, but the file is intact.
 */
export class SqliteStore extends RecordStore {
  readonly #database: SqliteDatabase
  readonly #ownsDatabase: boolean
  readonly #tableName: string
  readonly #sql: ReturnType<typeof prepare>
  readonly #lock: WriteLock
  readonly #renewals = new Renewals((renewals) => this.#renewAll(renewals))
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
    if (!has(this.#database.prepare('SELECT 1'), 'get', 'all', 'run')) {
      throw invalid('needs in the option database a driver that answers at once, as libsql and not libsql/promise')
    }
    this.ttl = ttl ?? DEFAULT_TTL
    if (serializer) this.serializer = serializer
    this.#tableName = tableName
    this.#sql = prepare(this.#database, tableName)
    this.#lock = new WriteLock(this.#database)
    const report = (error: unknown): void => errorLog('sessile/sqlite: expired sessions could not be deleted:', error)
    this.#pruning = new Pruning((limit) => this.prune(limit), pruneInterval, report)
  }

  read(id: string): SessionRecord | null {
    this.#pruning.start()
    const row = this.#sql.read.get(id, Date.now()) as Row | undefined
    return row ? toRecord(row) : null
  }

  write(id: string, text: string, expires: number, condition: WriteCondition): MaybePromise<number | null> {
    this.#pruning.start()
    const rows = this.#lock.write(() => {
      const now = Date.now()
      if (condition === 'always') return this.#sql.writeAlways.all(id, text, expires)
      if (condition === 'absent') return this.#sql.writeAbsent.all(id, text, expires, now)
      if (condition === 'present') return this.#sql.writePresent.all(text, expires, id, now)
      return this.#sql.writeVersion.all(text, expires, id, now, condition.version)
    })
    return afterwards(rows as MaybePromise<Row[]>, ([row]) => {
      if (!row) return null
      this.#renewals.written(id, expires)
      return Number(row.version)
    })
  }

  /** Given `from`, it may wait a tenth of a second for others to go with, unless the session would end meanwhile. */
  renew(id: string, expires: number, from?: number): MaybePromise<boolean> {
    if (from !== undefined && from > Date.now() + ENDING) return this.#renewals.renew({ id, expires, from })
    if (from !== undefined) return afterwards(this.#renewAll([{ id, expires, from }]), ([renewed]) => renewed === true)
    const changes = this.#lock.write(() => this.#sql.renew.run(expires, id, Date.now()).changes)
    return afterwards(changes, (changed) => Number(changed) > 0)
  }

  #renewAll(renewals: Renewal[]): MaybePromise<boolean[]> {
    const rows = JSON.stringify(renewals.map(({ id, from, expires }) => [id, from, expires]))
    const renewed = this.#lock.write(() => this.#sql.renewAll.all(rows, Date.now()) as Row[])
    return afterwards(renewed, (found) => {
      const ids = new Set(found.map(({ id }) => id))
      return renewals.map(({ id }) => ids.has(id))
    })
  }

  remove(id: string, version?: Version): MaybePromise<boolean> {
    const { remove, removeVersion } = this.#sql
    const rows = this.#lock.write(() => (version === undefined ? remove.all(id) : removeVersion.all(id, version)))
    return afterwards(rows as MaybePromise<Row[]>, ([row]) => {
      if (row) this.#renewals.removed(id)
      return row !== undefined && row.expires > Date.now()
    })
  }

  scan(cursor: string | null, limit: number): RecordPage {
    const rows = this.#sql.scan.all(cursor ?? '', Date.now(), limit) as Row[]
    return { records: rows.map(toRecord), cursor: rows.length < limit ? null : (rows.at(-1) as Row).id }
  }

  /** Links count as records: one that has ended is deleted, or, if its session lives on, set to end with it. */
  override prune(limit: number): MaybePromise<number> {
    return this.#lock.write(() => {
      const now = Date.now()
      let pruned = 0
      for (const step of [this.#sql.prune, this.#sql.pruneLinks, this.#sql.renewLinks]) {
        if (pruned < limit) pruned += Number(step.run(now, limit - pruned).changes)
      }
      return pruned
    })
  }

  /** Links first, so that a session that is linked and written meanwhile is not left without its link. */
  override removeAll(): MaybePromise<void> {
    return this.#lock.write(() => {
      this.#sql.removeLinks.run()
      this.#sql.removeAll.run()
    })
  }

  override count(): number {
    return Number((this.#sql.count.get(Date.now()) as { count: number | bigint }).count)
  }

  override link(user: string, id: string, expires: number): MaybePromise<void> {
    return this.#lock.write(() => void this.#sql.link.run(user, id, expires))
  }

  override unlink(user: string, id: string): MaybePromise<void> {
    return this.#lock.write(() => void this.#sql.unlink.run(user, id))
  }

  override linked(user: string): string[] {
    return (this.#sql.linked.all(user, Date.now()) as Row[]).map(({ id }) => id)
  }

  override async check(): Promise<string[]> {
    const tables = { sessions: this.#tableName, users: `${this.#tableName}_user` }
    const findings = findingsOf(this.#database, tables)
    const { patience } = this.#lock
    if (patience === 0) {
      findings.push(
        'The busy timeout is 0, so that a write fails while another process writes: run PRAGMA busy_timeout = 5000 ' +
          'before the store is made.',
      )
    }
    if (findings.some((finding) => finding.startsWith('The table'))) return findings
    try {
      await this.#lock.write(() => this.#sql.writeNothing.run())
    } catch (error) {
      findings.push(
        isLocked(error)
          ? `Another process has kept the file locked for ${patience} ms: end its transaction.`
          : `The file cannot be written: ${String(error)}. See to its rights and to the space on its disk.`,
      )
    }
    return findings
  }

  override close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    await this.#pruning.stop()
    await this.#renewals.flush()
    await this.#lock.flush()
    if (this.#ownsDatabase) this.#database.close()
  }
}

/** Drivers may be configured to return BigInts. */
function toRecord({ id, text, expires, version }: Row): SessionRecord & { id: string } {
  return { id, text, expires: Number(expires), version: Number(version) }
}

/**
 * Versions continue when a new record replaces an expired one, so that none stands for two contents. Statements with
 * RETURNING have to be run by `all`: `get` may leave a statement before it commits, and hide that it fails. A link without a
 * session is kept until its own `expires`, as the session may be about to be written; one with a session lives as long.
 */
function prepare(database: SqliteDatabase, tableName: string) {
  const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`
  const table = quoted(tableName)
  const links = quoted(`${tableName}_user`)
  database.exec(`
    CREATE TABLE IF NOT EXISTS ${table} (
      id TEXT PRIMARY KEY, text TEXT NOT NULL, expires INTEGER NOT NULL, version INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS ${quoted(`${tableName}_expires`)} ON ${table} (expires);
    CREATE TABLE IF NOT EXISTS ${links} (
      user TEXT NOT NULL, id TEXT NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY (user, id)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS ${quoted(`${tableName}_user_expires`)} ON ${links} (expires)`)
  const statement = (sql: string): SqliteStatement => database.prepare(sql)
  // Not `get`: see above.
  const writing = (sql: string): Omit<SqliteStatement, 'get'> => statement(sql)
  const insert = `INSERT INTO ${table} (id, text, expires, version) VALUES (?, ?, ?, abs(random() >> 11))`
  const overwrite = `ON CONFLICT (id) DO UPDATE SET text = excluded.text, expires = excluded.expires, version = version + 1`
  const update = `UPDATE ${table} SET text = ?, expires = ?, version = version + 1 WHERE id = ? AND expires > ?`
  const end = `(SELECT s.expires FROM ${table} s WHERE s.id = ${links}.id)`
  const endedLink = `(user, id) IN (SELECT user, id FROM ${links} WHERE expires <= ? ORDER BY expires LIMIT ?)`
  return {
    read: statement(`SELECT id, text, expires, version FROM ${table} WHERE id = ? AND expires > ?`),
    writeAlways: writing(`${insert} ${overwrite} RETURNING version`),
    writeAbsent: writing(`${insert} ${overwrite} WHERE expires <= ? RETURNING version`),
    writePresent: writing(`${update} RETURNING version`),
    writeVersion: writing(`${update} AND version = ? RETURNING version`),
    renew: writing(`UPDATE ${table} SET expires = ? WHERE id = ? AND expires > ?`),
    renewAll: writing(`UPDATE ${table} SET expires = json_extract(r.value, '$[2]') FROM json_each(?) r
      WHERE ${table}.id = json_extract(r.value, '$[0]') AND expires = json_extract(r.value, '$[1]') AND expires > ?
      RETURNING id`),
    writeNothing: writing(`DELETE FROM ${table} WHERE id = '' AND expires < 0`),
    remove: writing(`DELETE FROM ${table} WHERE id = ? RETURNING expires`),
    removeVersion: writing(`DELETE FROM ${table} WHERE id = ? AND version = ? RETURNING expires`),
    scan: statement(`SELECT id, text, expires, version FROM ${table} WHERE id > ? AND expires > ? ORDER BY id LIMIT ?`),
    prune: writing(
      `DELETE FROM ${table} WHERE id IN (SELECT id FROM ${table} WHERE expires <= ? ORDER BY expires LIMIT ?)`,
    ),
    removeAll: writing(`DELETE FROM ${table}`),
    count: statement(`SELECT count(*) AS count FROM ${table} WHERE expires > ?`),
    link: writing(`INSERT INTO ${links} (user, id, expires) VALUES (?, ?, ?)
      ON CONFLICT (user, id) DO UPDATE SET expires = max(expires, excluded.expires)`),
    unlink: writing(`DELETE FROM ${links} WHERE user = ? AND id = ?`),
    linked: statement(`SELECT id FROM ${links} WHERE user = ? AND (expires > ? OR ${end} IS NOT NULL)`),
    pruneLinks: writing(`DELETE FROM ${links} WHERE ${endedLink} AND ${end} IS NULL`),
    renewLinks: writing(`UPDATE ${links} SET expires = ${end} WHERE ${endedLink} AND ${end} IS NOT NULL`),
    removeLinks: writing(`DELETE FROM ${links}`),
  }
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
