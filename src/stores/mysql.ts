import { createHash } from 'node:crypto'
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

export interface MysqlStoreOptions {
  /** A pool or connection of `mysql2`, with callbacks or promises. It stays yours to end. */
  pool?: object | undefined
  /** In place of `pool`: where to connect, as the settings of a mysql2 pool. The store ends what it opens. */
  connection?: object | undefined
  /** Makes the table at the first use, when it is missing. Default: `true`. */
  createDatabaseTable?: boolean | undefined
  /** The names of the table and its columns. Default: `sessions` with `session_id`, `expires`, `data`. */
  schema?:
    | {
        tableName?: string | undefined
        columnNames?: { session_id?: string; expires?: string; data?: string } | undefined
      }
    | undefined
  /** Lifetime, in ms, of a session whose cookie has no expiry. Default: one day. */
  expiration?: number | undefined
  /** Whether expired sessions are deleted. Default: `true`. */
  clearExpired?: boolean | undefined
  /** About how often, in ms. Default: 15 minutes. */
  checkExpirationInterval?: number | undefined
  /** Is told of what fails in the background. Default: `console.error`. */
  errorLog?: ((...message: unknown[]) => void) | undefined
  /** How sessions become text. Default: JSON. */
  serializer?: Serializer | undefined
}

interface Row {
  id: string
  text: string
  expires: number
  version: string
}

interface Changed {
  affectedRows: number
  info?: string
}

/** What the store asks of mysql2, in the flavour with promises. */
interface Connection {
  query(sql: string, values: unknown[]): Promise<[unknown, unknown]>
  end(): Promise<void>
}

const CHECK_INTERVAL = 900_000
/** What a MEDIUMTEXT holds, in bytes; a server that is not strict would cut what is longer. */
const LONGEST = 16_777_215

/**
 * Sessions in MySQL 8 or MariaDB 10.6 and later, in the table of express-mysql-session. It keeps ends in whole seconds,
 * so a session lives up to a second longer. The version of a record is the MD5 of its text.
 */
export class MysqlStore extends RecordStore {
  readonly #connection: Connection
  readonly #ownsConnection: boolean
  readonly #sql: ReturnType<typeof statements>
  readonly #createTable: boolean
  readonly #pruning: Pruning
  readonly #tables = new Map<string, Promise<unknown>>()

  /** @throws SessionError when an option cannot be used, or `mysql2` is to be loaded and is not installed */
  constructor(options: MysqlStoreOptions) {
    super()
    const { pool, connection, createDatabaseTable = true, schema = {}, expiration = DEFAULT_TTL } = options ?? {}
    const { clearExpired = true, checkExpirationInterval = CHECK_INTERVAL, errorLog = console.error } = options ?? {}
    if (!pool && !connection) throw invalid('needs the option pool or connection')
    if (!(expiration > 0)) throw invalid('option expiration must be a positive number of ms')
    this.#connection = pool ? withPromises(pool) : openPool(connection as object)
    this.#ownsConnection = !pool
    this.ttl = expiration
    if (options.serializer) this.serializer = options.serializer
    this.#createTable = createDatabaseTable
    this.#sql = statements(schema.tableName ?? 'sessions', schema.columnNames ?? {})
    const report = (error: unknown): void => errorLog('sessile/mysql: expired sessions could not be deleted:', error)
    this.#pruning = new Pruning((limit) => this.prune(limit), clearExpired ? checkExpirationInterval : 0, report)
  }

  async read(id: string): Promise<SessionRecord | null> {
    const [row] = await this.#rows(this.#sql.read, [id, now()])
    return row ? toRecord(row) : null
  }

  async write(id: string, text: string, expires: number, condition: WriteCondition): Promise<string | null> {
    if (Buffer.byteLength(text) > LONGEST) {
      throw new RangeError(`session ${id} has ${Buffer.byteLength(text)} bytes, and the column holds ${LONGEST}`)
    }
    const end = seconds(expires)
    const written = await (condition === 'always'
      ? this.#change(this.#sql.writeAlways, [id, end, text])
      : condition === 'absent'
        ? this.#insert(id, end, text)
        : condition === 'present'
          ? this.#change(this.#sql.writePresent, [text, end, id, now()])
          : this.#change(this.#sql.writeVersion, [text, end, id, now(), condition.version]))
    return written ? createHash('md5').update(text).digest('hex') : null
  }

  /** Inserts, or takes the place of an expired record. */
  async #insert(id: string, end: number, text: string): Promise<boolean> {
    try {
      return await this.#change(this.#sql.insert, [id, end, text])
    } catch (error) {
      if ((error as { code?: string }).code !== 'ER_DUP_ENTRY') throw error
      return this.#change(this.#sql.writeExpired, [text, end, id, now()])
    }
  }

  async renew(id: string, expires: number): Promise<boolean> {
    return this.#change(this.#sql.renew, [seconds(expires), id, now()])
  }

  /** What has expired is left to pruning. */
  async remove(id: string): Promise<boolean> {
    return this.#change(this.#sql.remove, [id, now()])
  }

  async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    const rows = await this.#rows(this.#sql.scan, [cursor ?? '', now(), limit])
    return { records: rows.map(toRecord), cursor: rows.length < limit ? null : (rows.at(-1) as Row).id }
  }

  override async prune(limit: number): Promise<number> {
    const [{ affectedRows }] = (await this.#query(this.#sql.prune, [now(), limit])) as unknown as [Changed]
    if (affectedRows < limit && this.#tables.has(this.#sql.createUserTable)) await this.#query(this.#sql.pruneUsers, [])
    return affectedRows
  }

  override async removeAll(): Promise<void> {
    await this.#query(this.#sql.removeAll, [])
  }

  override async count(): Promise<number> {
    const [row] = await this.#rows(this.#sql.count, [now()])
    return Number((row as unknown as { count: number }).count)
  }

  override async link(user: string, id: string): Promise<void> {
    await this.#made(this.#sql.createUserTable)
    await this.#query(this.#sql.link, [user, id])
  }

  override async unlink(user: string, id: string): Promise<void> {
    await this.#made(this.#sql.createUserTable)
    await this.#query(this.#sql.unlink, [user, id])
  }

  override async linked(user: string): Promise<string[]> {
    await this.#made(this.#sql.createUserTable)
    return (await this.#rows(this.#sql.linked, [user])).map(({ id }) => id)
  }

  override async close(): Promise<void> {
    await this.#pruning.stop()
    if (this.#ownsConnection) await this.#connection.end()
  }

  async #rows(sql: string, values: unknown[]): Promise<Row[]> {
    return (await this.#query(sql, values))[0] as Row[]
  }

  /** Whether a row was met; a client without the flag FOUND_ROWS counts only those that got other values. */
  async #change(sql: string, values: unknown[]): Promise<boolean> {
    const [{ affectedRows, info }] = (await this.#query(sql, values)) as unknown as [Changed]
    return affectedRows > 0 || Number(/matched: (\d+)/.exec(info ?? '')?.[1]) > 0
  }

  async #query(sql: string, values: unknown[]): Promise<[unknown, unknown]> {
    if (this.#createTable) await this.#made(this.#sql.createTable)
    this.#pruning.start()
    return this.#connection.query(sql, values)
  }

  /** All callers share one attempt to make a table, and after a failure the next one tries again. */
  #made(sql: string): Promise<unknown> {
    let made = this.#tables.get(sql)
    if (!made) {
      made = this.#connection.query(sql, [])
      this.#tables.set(sql, made)
      made.catch(() => this.#tables.delete(sql))
    }
    return made
  }
}

function toRecord({ id, text, expires, version }: Row): SessionRecord & { id: string } {
  return { id, text, expires: expires * 1000, version }
}

function now(): number {
  return Math.floor(Date.now() / 1000)
}

/** Rounded up, so that nothing ends early. */
function seconds(expires: number): number {
  return Math.max(0, Math.ceil(expires / 1000))
}

function statements(tableName: string, names: { session_id?: string; expires?: string; data?: string }) {
  const quoted = (name: string): string => '`' + name.replaceAll('`', '``') + '`'
  const table = quoted(tableName)
  const userTable = quoted(`${tableName}_user`)
  const id = quoted(names.session_id ?? 'session_id')
  const expires = quoted(names.expires ?? 'expires')
  const data = quoted(names.data ?? 'data')
  const columns = `${id} AS id, ${data} AS text, ${expires} AS expires, MD5(${data}) AS version`
  const insert = `INSERT INTO ${table} (${id}, ${expires}, ${data}) VALUES (?, ?, ?)`
  const update = `UPDATE ${table} SET ${data} = ?, ${expires} = ? WHERE ${id} = ?`
  return {
    read: `SELECT ${columns} FROM ${table} WHERE ${id} = ? AND ${expires} > ?`,
    insert,
    writeAlways: `${insert} ON DUPLICATE KEY UPDATE ${expires} = VALUES(${expires}), ${data} = VALUES(${data})`,
    writeExpired: `${update} AND ${expires} <= ?`,
    writePresent: `${update} AND ${expires} > ?`,
    writeVersion: `${update} AND ${expires} > ? AND MD5(${data}) = ?`,
    renew: `UPDATE ${table} SET ${expires} = ? WHERE ${id} = ? AND ${expires} > ?`,
    remove: `DELETE FROM ${table} WHERE ${id} = ? AND ${expires} > ?`,
    scan: `SELECT ${columns} FROM ${table} WHERE ${id} > ? AND ${expires} > ? ORDER BY ${id} LIMIT ?`,
    prune: `DELETE FROM ${table} WHERE ${expires} <= ? LIMIT ?`,
    removeAll: `DELETE FROM ${table}`,
    count: `SELECT count(*) AS count FROM ${table} WHERE ${expires} > ?`,
    link: `INSERT IGNORE INTO ${userTable} (user_id, session_id) VALUES (?, ?)`,
    unlink: `DELETE FROM ${userTable} WHERE user_id = ? AND session_id = ?`,
    linked: `SELECT session_id AS id FROM ${userTable} WHERE user_id = ?`,
    pruneUsers: `DELETE u FROM ${userTable} u LEFT JOIN ${table} s ON s.${id} = u.session_id WHERE s.${id} IS NULL`,
    createTable: `CREATE TABLE IF NOT EXISTS ${table} (
        ${id} varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
        ${expires} int(11) unsigned NOT NULL,
        ${data} mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
        PRIMARY KEY (${id})
      ) ENGINE=InnoDB`,
    createUserTable: `CREATE TABLE IF NOT EXISTS ${userTable} (
        user_id varchar(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
        session_id varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
        PRIMARY KEY (user_id, session_id)
      ) ENGINE=InnoDB`,
  }
}

function withPromises(pool: object): Connection {
  const given = pool as Partial<Connection> & { promise?: () => Connection }
  if (typeof given.promise === 'function') return given.promise()
  if (typeof given.query === 'function') return given as Connection
  throw invalid('option pool must be a pool or a connection of mysql2')
}

function openPool(settings: object): Connection {
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- loaded only by those who use it
    return (require('mysql2/promise') as { createPool(settings: object): Connection }).createPool(settings)
  } catch (cause) {
    throw invalid('needs the package mysql2 for the option connection: npm install mysql2', cause)
  }
}

function invalid(what: string, cause?: unknown): SessionError {
  return new SessionError('ERR_SESSION_OPTION', `MysqlStore: ${what}`, { cause })
}
