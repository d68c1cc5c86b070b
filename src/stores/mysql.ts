import { createHash } from 'node:crypto'
import {
  a,
  aFlag,
  aFunction,
  anything,
  aSerializer,
  has,
  isPositive,
  optionsOf,
  unsupported,
  type Check,
} from '../base/checks'
import { OptionError } from '../base/errors'
import {
  DEFAULT_TTL,
  RecordStore,
  type RecordPage,
  type Serializer,
  type SessionRecord,
  type WriteCondition,
  type Version,
} from '../store/record-store'
import { issueAgain } from './issue-again'
import { surviveLostConnections } from './lost-connections'
import { Pruning } from './pruning'

export interface MysqlStoreOptions {
  /** A pool or connection of `mysql2`, with callbacks or promises. It stays yours to end. */
  pool?: object | undefined
  /** In place of `pool`: where to connect. The store ends what it opens. For other settings, make a pool yourself. */
  host?: string | undefined
  port?: number | undefined
  user?: string | undefined
  password?: string | undefined
  database?: string | undefined
  /** Settings of the pool that the store opens, as mysql2 has them. */
  waitForConnections?: boolean | undefined
  connectionLimit?: number | undefined
  maxIdle?: number | undefined
  idleTimeout?: number | undefined
  queueLimit?: number | undefined
  /** Whether `close` ends the connections. Default: those that the store opened. */
  endConnectionOnClose?: boolean | undefined
  /** Makes a missing table when it is first used. Default: `true`. */
  createDatabaseTable?: boolean | undefined
  /**
   * The names of the table (also `database.table`) and of its columns. Default: `sessions` with `session_id`, `expires`,
   * `data`. The option `user` needs a second table, with `_user` after the name of this one.
   */
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
  /** About how often expired sessions are deleted, in ms. Default: 15 minutes. */
  checkExpirationInterval?: number | undefined
  /** Called with what fails in the background. Default: `console.error`. */
  errorLog?: ((...message: unknown[]) => void) | undefined
  /** How sessions become text. Default: JSON. */
  serializer?: Serializer | undefined
}

/** `charset` is accepted and ignored: express-mysql-session makes its column with it, ours has utf8mb4 in any case. */
const OPTIONS: Record<keyof MysqlStoreOptions | 'charset' | 'disableTouch', Check> = {
  pool: a('a pool or a connection of mysql2', (value) => has(value, 'execute')),
  host: anything,
  port: anything,
  user: anything,
  password: anything,
  database: anything,
  waitForConnections: anything,
  connectionLimit: anything,
  maxIdle: anything,
  idleTimeout: anything,
  queueLimit: anything,
  endConnectionOnClose: aFlag,
  createDatabaseTable: aFlag,
  schema: anything,
  expiration: a('a positive number of ms', isPositive),
  clearExpired: aFlag,
  checkExpirationInterval: a('a positive number of ms; clearExpired: false is for never', isPositive),
  errorLog: aFunction,
  serializer: aSerializer,
  charset: anything,
  disableTouch: unsupported('; give the middleware the option touchAfter: Infinity'),
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
  execute(
    query: { sql: string; rowsAsArray: false; nestTables: false; typeCast: true },
    values: unknown[],
  ): Promise<[unknown, unknown]>
  end(): Promise<void>
  /** What a pool has. */
  getConnection?: unknown
}

const CHECK_INTERVAL = 900_000
/** The bytes that a MEDIUMTEXT holds; a server that is not in strict mode would truncate a longer text. */
const LONGEST = 16_777_215
/** The last second that an unsigned INT holds, in the year 2106. */
const LAST_SECOND = 2 ** 32 - 1
const LARGEST_PRUNING = 1000
const ROLLED_BACK = ['ER_LOCK_DEADLOCK']

const CONNECTION_SETTINGS = ['host', 'port', 'user', 'password', 'database'] as const
const POOL_SETTINGS = ['waitForConnections', 'connectionLimit', 'maxIdle', 'idleTimeout', 'queueLimit'] as const

/**
 * Sessions in MySQL 8 or MariaDB 10.6 and later, in the table of express-mysql-session. It has ends in whole seconds, so a
 * session lives up to a second longer. The version of a record is a hash of its text, which the server computes to compare.
 * All statements are prepared, so nothing depends on how a server reads quotes.
 */
export class MysqlStore extends RecordStore {
  readonly #connection: Connection
  readonly #endOnClose: boolean
  readonly #sql: ReturnType<typeof statements>
  readonly #createTable: boolean
  readonly #pruning: Pruning
  /** Tables being made, by the SQL that makes them. */
  readonly #making = new Map<string, Promise<unknown>>()
  /** The ID up to which this run has pruned: there is no index by end, and a step must not search the table from its start. */
  #prunedTo = ''
  #charsetChecked: Promise<void> | undefined
  #closing: Promise<void> | undefined

  /** @throws OptionError when an option cannot be used, or `mysql2` is to be loaded and is not installed */
  constructor(options: MysqlStoreOptions) {
    super()
    const given = optionsOf(this, MysqlStore, options, OPTIONS)
    const { pool, schema = {}, expiration = DEFAULT_TTL, createDatabaseTable = true, serializer } = given
    const { clearExpired = true, checkExpirationInterval = CHECK_INTERVAL, errorLog = console.error } = given
    this.#sql = statements(schema)
    this.#connection = pool ? withPromises(pool) : openPool(given)
    surviveLostConnections(pool ?? this.#connection, (error) =>
      errorLog('sessile/mysql: a connection was lost:', error),
    )
    this.#endOnClose = given.endConnectionOnClose ?? !pool
    this.ttl = expiration
    if (serializer) this.serializer = serializer
    this.#createTable = createDatabaseTable
    const report = (error: unknown): void => errorLog('sessile/mysql: expired sessions could not be deleted:', error)
    this.#pruning = new Pruning((limit) => this.prune(limit), clearExpired ? checkExpirationInterval : 0, report)
  }

  async read(id: string): Promise<SessionRecord | null> {
    const [row] = await this.#rows(this.#sql.read, [id, now()])
    return row ? toRecord(row) : null
  }

  async write(id: string, text: string, expires: number, condition: WriteCondition): Promise<string | null> {
    const bytes = Buffer.byteLength(text)
    if (bytes > LONGEST) throw new RangeError(`session ${id} has ${bytes} bytes, and the column holds ${LONGEST}`)
    const end = seconds(expires)
    const written = await (condition === 'always'
      ? this.#overwrite(id, end, text)
      : condition === 'absent'
        ? this.#insert(id, end, text)
        : condition === 'present'
          ? this.#change(this.#sql.writePresent, [text, end, id, now()])
          : this.#change(this.#sql.writeVersion, [text, end, id, now(), condition.version]))
    return written ? createHash('sha256').update(text).digest('hex') : null
  }

  async #overwrite(id: string, end: number, text: string): Promise<boolean> {
    await this.#query(this.#sql.writeAlways, [id, end, text])
    return true
  }

  /** Inserts, or takes the place of an expired record. */
  async #insert(id: string, end: number, text: string): Promise<boolean> {
    try {
      return await this.#change(this.#sql.insert, [id, end, text])
    } catch (error) {
      if (codeOf(error) !== 'ER_DUP_ENTRY') throw error
      return this.#change(this.#sql.writeExpired, [text, end, id, now()])
    }
  }

  async renew(id: string, expires: number): Promise<boolean> {
    return this.#change(this.#sql.renew, [seconds(expires), id, now()])
  }

  /** Leaves an expired record to pruning. */
  async remove(id: string, version?: Version): Promise<boolean> {
    const { remove, removeVersion } = this.#sql
    return version === undefined ? this.#change(remove, [id, now()]) : this.#change(removeVersion, [id, now(), version])
  }

  async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    const rows = await this.#rows(this.#sql.scan(limit), [cursor ?? '', now()])
    return { records: rows.map(toRecord), cursor: rows.length < limit ? null : (rows.at(-1) as Row).id }
  }

  /**
   * Looks for expired records first, which locks none, and deletes by ID, which locks no others, so several processes may
   * prune at the same time. The list of IDs is padded with the last one, so that the prepared statement stays the same.
   */
  override async prune(limit: number): Promise<number> {
    const most = Math.min(limit, LARGEST_PRUNING)
    const ids = (await this.#rows(this.#sql.ended(most), [this.#prunedTo, now()])).map(({ id }) => id)
    const last = ids.at(-1) ?? ''
    this.#prunedTo = ids.length < most ? '' : last
    const list = [...ids, ...Array<string>(most - ids.length).fill(last)]
    const pruned = ids.length ? (await this.#query<Changed>(this.#sql.prune(most), [now(), ...list])).affectedRows : 0
    if (ids.length < most) await this.#pruneUsers()
    return pruned
  }

  /** The table may be missing, as it is made with the first link; a database user with few rights is then denied access. */
  async #pruneUsers(): Promise<void> {
    try {
      await this.#execute(this.#sql.pruneUsers, [now()])
    } catch (error) {
      if (!isTableMissing(error) && codeOf(error) !== 'ER_TABLEACCESS_DENIED_ERROR') throw error
    }
  }

  override async removeAll(): Promise<void> {
    await this.#query(this.#sql.removeAll, [])
  }

  override async count(): Promise<number> {
    const [row] = await this.#query<[{ count: number }]>(this.#sql.count, [now()])
    return Number(row.count)
  }

  override async link(user: string, id: string, expires: number): Promise<void> {
    await this.#queryUsers(this.#sql.link, [user, id, seconds(expires)])
  }

  override async unlink(user: string, id: string): Promise<void> {
    await this.#queryUsers(this.#sql.unlink, [user, id])
  }

  override async linked(user: string): Promise<string[]> {
    const rows = await this.#queryUsers<{ id: string; gone: number }[]>(this.#sql.linked, [now(), user])
    if (rows.some(({ gone }) => gone)) await this.#query(this.#sql.unlinkGone, [now(), user])
    return rows.filter(({ gone }) => !gone).map(({ id }) => id)
  }

  override close(): Promise<void> {
    return (this.#closing ??= this.#pruning.stop().then(() => (this.#endOnClose ? this.#connection.end() : undefined)))
  }

  #rows(sql: string, values: unknown[]): Promise<Row[]> {
    return this.#query<Row[]>(sql, values)
  }

  /** Whether a row was found; a client without the flag FOUND_ROWS counts only rows whose values have changed. */
  async #change(sql: string, values: unknown[]): Promise<boolean> {
    const { affectedRows, info } = await this.#query<Changed>(sql, values)
    return affectedRows > 0 || Number(/matched: (\d+)/.exec(info ?? '')?.[1]) > 0
  }

  #queryUsers<T>(sql: string, values: unknown[]): Promise<T> {
    return this.#query<T>(sql, values, [this.#sql.createUserTable, this.#sql.createTable])
  }

  /** Makes missing tables only after an error: the database user may have no rights but to the rows of existing ones. */
  async #query<T>(sql: string, values: unknown[], creations = [this.#sql.createTable]): Promise<T> {
    this.#pruning.start()
    await (this.#charsetChecked ??= this.#checkCharset())
    for (const creation of creations) {
      try {
        return (await this.#execute(sql, values)) as T
      } catch (error) {
        if (!isTableMissing(error)) throw error
        if (!this.#createTable) throw missing(creations, error)
        await this.#made(creation)
      }
    }
    return (await this.#execute(sql, values)) as T
  }

  /**
   * On a connection with the charset latin1, mysql2 sends only the low byte of each character, which may be a quote: what a
   * visitor types could then change the JSON of the session.
   */
  async #checkCharset(): Promise<void> {
    try {
      const rows = await this.#execute('SELECT @@character_set_client AS charset', [])
      const charset = String((rows as [{ charset: unknown }])[0].charset)
      if (!charset.startsWith('utf8')) {
        throw invalid(`the connections of pool must have the charset utf8mb4, the default of mysql2, not ${charset}`)
      }
    } catch (error) {
      this.#charsetChecked = undefined
      throw error
    }
  }

  /** All callers share one attempt, and after a failure the next one tries again. */
  #made(creation: string): Promise<unknown> {
    let making = this.#making.get(creation)
    if (!making) {
      making = this.#execute(creation, []).finally(() => this.#making.delete(creation))
      this.#making.set(creation, making)
    }
    return making
  }

  /**
   * Rows come as objects, whatever the pool is configured to return. On a single connection no statement is issued again: a
   * deadlock rolls back the whole transaction that the application may have open, so it has to get the error.
   */
  #execute(sql: string, values: unknown[]): Promise<unknown> {
    const query = { sql, rowsAsArray: false, nestTables: false, typeCast: true } as const
    const issue = async (): Promise<unknown> => (await this.#connection.execute(query, values))[0]
    return this.#connection.getConnection ? issueAgain(issue, ROLLED_BACK) : issue()
  }
}

function toRecord({ id, text, expires, version }: Row): SessionRecord & { id: string } {
  return { id, text, expires: expires * 1000, version }
}

function codeOf(error: unknown): string | undefined {
  return (error as { code?: string }).code
}

function isTableMissing(error: unknown): boolean {
  return codeOf(error) === 'ER_NO_SUCH_TABLE'
}

function now(): number {
  return Math.floor(Date.now() / 1000)
}

/** Rounded up, so that nothing ends early. */
function seconds(expires: number): number {
  return Math.min(Math.max(0, Math.ceil(expires / 1000)), LAST_SECOND)
}

/**
 * A link without a session is kept until its own `expires`, as the session may be about to be written; one with a session
 * lives as long. Users are stored as bytes, as the collations of text take `ada` and `ada ` for the same.
 */
function statements({ tableName = 'sessions', columnNames = {} }: NonNullable<MysqlStoreOptions['schema']>) {
  const quoted = (name: string): string => {
    if (typeof name === 'string' && name !== '') return '`' + name.replaceAll('`', '``') + '`'
    throw invalid('option schema must have names that are strings and not empty')
  }
  const inDatabase = (name: string): string => name.split('.').map(quoted).join('.')
  const table = inDatabase(tableName)
  const userTable = inDatabase(`${tableName}_user`)
  for (const name of Object.keys(columnNames)) {
    if (!['session_id', 'expires', 'data'].includes(name)) {
      throw invalid(`option schema.columnNames has session_id, expires and data, and no ${name}`)
    }
  }
  const id = quoted(columnNames.session_id ?? 'session_id')
  const expires = quoted(columnNames.expires ?? 'expires')
  const data = quoted(columnNames.data ?? 'data')
  const text = `CONVERT(${data} USING utf8mb4)`
  const version = `SHA2(${text}, 256)`
  const columns = `${id} AS id, ${text} AS text, ${expires} AS expires, ${version} AS version`
  const insert = `INSERT INTO ${table} (${id}, ${expires}, ${data}) VALUES (?, ?, ?)`
  const update = `UPDATE ${table} SET ${data} = ?, ${expires} = ? WHERE ${id} = ?`
  const gone = `expires <= ? AND NOT EXISTS (SELECT 1 FROM ${table} s WHERE s.${id} = ${userTable}.session_id)`
  const idType = 'varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL'
  return {
    read: `SELECT ${columns} FROM ${table} WHERE ${id} = ? AND ${expires} > ?`,
    insert,
    writeAlways: `${insert} ON DUPLICATE KEY UPDATE ${expires} = VALUES(${expires}), ${data} = VALUES(${data})`,
    writeExpired: `${update} AND ${expires} <= ?`,
    writePresent: `${update} AND ${expires} > ?`,
    writeVersion: `${update} AND ${expires} > ? AND ${version} = ?`,
    renew: `UPDATE ${table} SET ${expires} = ? WHERE ${id} = ? AND ${expires} > ?`,
    remove: `DELETE FROM ${table} WHERE ${id} = ? AND ${expires} > ?`,
    removeVersion: `DELETE FROM ${table} WHERE ${id} = ? AND ${expires} > ? AND ${version} = ?`,
    scan: (limit: number) =>
      `SELECT ${columns} FROM ${table} WHERE ${id} > ? AND ${expires} > ? ORDER BY ${id} LIMIT ${limit}`,
    ended: (limit: number) =>
      `SELECT ${id} AS id FROM ${table} WHERE ${id} > ? AND ${expires} <= ? ORDER BY ${id} LIMIT ${limit}`,
    prune: (count: number) =>
      `DELETE FROM ${table} WHERE ${expires} <= ? AND ${id} IN (${Array(count).fill('?').join()})`,
    removeAll: `DELETE FROM ${table}`,
    count: `SELECT count(*) AS count FROM ${table} WHERE ${expires} > ?`,
    link: `INSERT INTO ${userTable} (user_id, session_id, expires) VALUES (?, ?, ?)
      ON DUPLICATE KEY UPDATE expires = GREATEST(expires, VALUES(expires))`,
    unlink: `DELETE FROM ${userTable} WHERE user_id = ? AND session_id = ?`,
    linked: `SELECT session_id AS id, ${gone} AS gone FROM ${userTable} WHERE user_id = ?`,
    unlinkGone: `DELETE FROM ${userTable} WHERE ${gone} AND user_id = ?`,
    pruneUsers: `DELETE FROM ${userTable} WHERE ${gone} LIMIT ${LARGEST_PRUNING}`,
    createTable: `CREATE TABLE IF NOT EXISTS ${table} (
  ${id} ${idType},
  ${expires} int(11) unsigned NOT NULL,
  ${data} mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
  PRIMARY KEY (${id})
) ENGINE=InnoDB;`,
    createUserTable: `CREATE TABLE IF NOT EXISTS ${userTable} (
  user_id varbinary(767) NOT NULL,
  session_id ${idType},
  expires int unsigned NOT NULL,
  PRIMARY KEY (user_id, session_id),
  KEY (expires)
) ENGINE=InnoDB;`,
  }
}

function withPromises(pool: object): Connection {
  const given = pool as Connection & { promise?: () => Connection }
  return typeof given.promise === 'function' ? given.promise() : given
}

function openPool(options: MysqlStoreOptions): Connection {
  if (!CONNECTION_SETTINGS.some((name) => options[name] !== undefined)) {
    throw invalid('needs the option pool, or where to connect: host, port, user, password, database')
  }
  const settings: Record<string, unknown> = {}
  for (const name of [...CONNECTION_SETTINGS, ...POOL_SETTINGS]) {
    if (options[name] !== undefined) settings[name] = options[name]
  }
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- loaded only by those who use it
    return (require('mysql2/promise') as { createPool(settings: object): Connection }).createPool(settings)
  } catch (cause) {
    throw invalid('needs the package mysql2 to connect: npm install mysql2', cause)
  }
}

function missing(creations: string[], cause: unknown): OptionError {
  return invalid(`a table is missing; set the option createDatabaseTable, or run:\n${creations.join('\n')}`, cause)
}

function invalid(what: string, cause?: unknown): OptionError {
  return new OptionError(`MysqlStore: ${what}`, { cause })
}
