import { SessionError } from '../errors'
import {
  DEFAULT_TTL,
  RecordStore,
  type RecordPage,
  type Serializer,
  type SessionRecord,
  type WriteCondition,
} from '../record-store'
import { Pruning } from './pruning'

/** What the store asks of a database: `node:sqlite`, `better-sqlite3` and `libsql` have it. */
export interface SqliteDatabase {
  exec(sql: string): unknown
  prepare(sql: string): SqliteStatement
  close(): unknown
}

interface SqliteStatement {
  get(...values: (string | number)[]): unknown
  all(...values: (string | number)[]): unknown[]
  run(...values: (string | number)[]): { changes: number | bigint }
}

export interface SqliteStoreOptions {
  /** The file to open with `node:sqlite`, which Node has from 22.5 on. The store closes it. */
  file?: string | undefined
  /** An open database in place of a file, of `node:sqlite`, `better-sqlite3` or `libsql`. It stays yours to close. */
  database?: SqliteDatabase | undefined
  /** Default: `'sessions'`. */
  tableName?: string | undefined
  /** Lifetime, in ms, of a session whose cookie has no expiry. Default: one day. */
  ttl?: number | undefined
  /** About how often, in ms, expired sessions are deleted; 0 for never. Default: 15 minutes. */
  pruneInterval?: number | undefined
  /** How sessions become text. Default: JSON. */
  serializer?: Serializer | undefined
}

interface Row {
  id: string
  text: string
  expires: number
  version: number
}

/** How long, in ms, a write waits for another process's. */
const BUSY_TIMEOUT = 5000
const PRUNE_INTERVAL = 900_000

/**
 * Sessions in a SQLite file: durable without a server, shared by the processes of one machine. Every operation is one
 * prepared statement and answers at once. In WAL mode with `synchronous = NORMAL` what was written survives the end of
 * the process, by whatever signal; after a loss of power the last moments may be missing, the file is whole.
 */
export class SqliteStore extends RecordStore {
  readonly #database: SqliteDatabase
  readonly #ownsDatabase: boolean
  readonly #sql: ReturnType<typeof prepare>
  readonly #pruning: Pruning

  /** @throws SessionError when an option cannot be used, or this Node has no `node:sqlite` */
  constructor(options: SqliteStoreOptions) {
    super()
    const { file, database, tableName = 'sessions', ttl, pruneInterval = PRUNE_INTERVAL, serializer } = options ?? {}
    if ((file === undefined) === (database === undefined)) throw invalid('needs the option file or the option database')
    if (!(ttl === undefined || ttl > 0)) throw invalid('option ttl must be a positive number of ms')
    if (!(pruneInterval >= 0)) throw invalid('option pruneInterval must be a number of ms, 0 for never')
    this.#ownsDatabase = file !== undefined
    this.#database = database ?? open(file as string)
    this.ttl = ttl ?? DEFAULT_TTL
    if (serializer) this.serializer = serializer
    const table = `"${tableName.replaceAll('"', '""')}"`
    const userTable = `"${tableName.replaceAll('"', '""')}_user"`
    this.#database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT}`)
    this.#database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
    this.#database.exec(`
      CREATE TABLE IF NOT EXISTS ${table} (
        id TEXT PRIMARY KEY, text TEXT NOT NULL, expires INTEGER NOT NULL, version INTEGER NOT NULL
      ) WITHOUT ROWID;
      CREATE INDEX IF NOT EXISTS "${tableName.replaceAll('"', '""')}_expires" ON ${table} (expires);
      CREATE TABLE IF NOT EXISTS ${userTable} (
        user TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (user, id)
      ) WITHOUT ROWID`)
    this.#sql = prepare(this.#database, table, userTable)
    this.#pruning = new Pruning(
      (limit) => this.prune(limit),
      pruneInterval,
      () => undefined,
    )
  }

  read(id: string): SessionRecord | null {
    this.#pruning.start()
    const row = this.#sql.read.get(id, Date.now()) as Row | undefined
    return row ? { text: row.text, expires: row.expires, version: row.version } : null
  }

  write(id: string, text: string, expires: number, condition: WriteCondition): number | null {
    this.#pruning.start()
    const now = Date.now()
    const row = (
      condition === 'always'
        ? this.#sql.writeAlways.get(id, text, expires)
        : condition === 'absent'
          ? this.#sql.writeAbsent.get(id, text, expires, now)
          : condition === 'present'
            ? this.#sql.writePresent.get(text, expires, id, now)
            : this.#sql.writeVersion.get(text, expires, id, now, condition.version)
    ) as Row | undefined
    return row?.version ?? null
  }

  renew(id: string, expires: number): boolean {
    return Number(this.#sql.renew.run(expires, id, Date.now()).changes) > 0
  }

  remove(id: string): boolean {
    const row = this.#sql.remove.get(id) as Row | undefined
    return row !== undefined && row.expires > Date.now()
  }

  scan(cursor: string | null, limit: number): RecordPage {
    const rows = this.#sql.scan.all(cursor ?? '', Date.now(), limit) as Row[]
    const records = rows.map(({ id, text, expires, version }) => ({ id, text, expires, version }))
    return { records, cursor: rows.length < limit ? null : (rows.at(-1) as Row).id }
  }

  override prune(limit: number): number {
    const { changes } = this.#sql.prune.run(Date.now(), limit)
    if (Number(changes) < limit) this.#sql.pruneUsers.run()
    return Number(changes)
  }

  override removeAll(): void {
    this.#sql.removeAll.run()
    this.#sql.pruneUsers.run()
  }

  override count(): number {
    return (this.#sql.count.get(Date.now()) as { count: number }).count
  }

  override link(user: string, id: string): void {
    this.#sql.link.run(user, id)
  }

  override unlink(user: string, id: string): void {
    this.#sql.unlink.run(user, id)
  }

  override linked(user: string): string[] {
    return (this.#sql.linked.all(user) as Row[]).map(({ id }) => id)
  }

  override async close(): Promise<void> {
    await this.#pruning.stop()
    if (this.#ownsDatabase) this.#database.close()
  }
}

/** Versions go on counting when an expired record makes room, so that none names two contents. */
function prepare(database: SqliteDatabase, table: string, userTable: string) {
  const statement = (sql: string): SqliteStatement => database.prepare(sql)
  const insert = `INSERT INTO ${table} (id, text, expires, version) VALUES (?, ?, ?, abs(random() >> 11))`
  const overwrite = `ON CONFLICT (id) DO UPDATE SET text = excluded.text, expires = excluded.expires, version = version + 1`
  const update = `UPDATE ${table} SET text = ?, expires = ?, version = version + 1 WHERE id = ? AND expires > ?`
  return {
    read: statement(`SELECT text, expires, version FROM ${table} WHERE id = ? AND expires > ?`),
    writeAlways: statement(`${insert} ${overwrite} RETURNING version`),
    writeAbsent: statement(`${insert} ${overwrite} WHERE expires <= ? RETURNING version`),
    writePresent: statement(`${update} RETURNING version`),
    writeVersion: statement(`${update} AND version = ? RETURNING version`),
    renew: statement(`UPDATE ${table} SET expires = ? WHERE id = ? AND expires > ?`),
    remove: statement(`DELETE FROM ${table} WHERE id = ? RETURNING expires`),
    scan: statement(`SELECT id, text, expires, version FROM ${table} WHERE id > ? AND expires > ? ORDER BY id LIMIT ?`),
    prune: statement(
      `DELETE FROM ${table} WHERE id IN (SELECT id FROM ${table} WHERE expires <= ? ORDER BY expires LIMIT ?)`,
    ),
    removeAll: statement(`DELETE FROM ${table}`),
    count: statement(`SELECT count(*) AS count FROM ${table} WHERE expires > ?`),
    link: statement(`INSERT OR IGNORE INTO ${userTable} (user, id) VALUES (?, ?)`),
    unlink: statement(`DELETE FROM ${userTable} WHERE user = ? AND id = ?`),
    linked: statement(`SELECT id FROM ${userTable} WHERE user = ?`),
    pruneUsers: statement(`DELETE FROM ${userTable} WHERE id NOT IN (SELECT id FROM ${table})`),
  }
}

function open(file: string): SqliteDatabase {
  const { getBuiltinModule } = process as { getBuiltinModule?: (name: string) => unknown }
  const sqlite = getBuiltinModule?.('node:sqlite') as { DatabaseSync: new (file: string) => SqliteDatabase } | undefined
  if (sqlite) return new sqlite.DatabaseSync(file)
  throw invalid(
    `cannot open a file, as Node ${process.versions.node} has no node:sqlite; take Node 22.5 or later, ` +
      `or npm install better-sqlite3 (or libsql) and give the option database: new Database(file)`,
  )
}

function invalid(what: string): SessionError {
  return new SessionError('ERR_SESSION_OPTION', `SqliteStore: ${what}`)
}
