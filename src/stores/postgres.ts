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

/** What the store asks of a `pg` Pool or Client. */
export interface PostgresQueryable {
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[]; rowCount: number | null }>
}

export interface PostgresStoreOptions {
  /** A Pool or a connected Client of `pg`. It stays yours to end. */
  pool?: PostgresQueryable | undefined
  /** In place of `pool`: where to connect, as a URL or as the settings of a Pool. The store ends what it opens. */
  conString?: string | undefined
  conObject?: object | undefined
  /** Default: `'session'`. */
  tableName?: string | undefined
  /** Default: the connection's search path. */
  schemaName?: string | undefined
  /** Makes the table at the first use, when it is missing. Default: `false`. */
  createTableIfMissing?: boolean | undefined
  /** Lifetime in seconds of a session whose cookie has no expiry, or a function of the session. Default: 86,400. */
  ttl?: number | ((session: object) => number) | undefined
  /** About how often, in seconds, expired sessions are deleted, by one process at a time; `false` for never. Default: 900. */
  pruneSessionInterval?: number | false | undefined
  /** Is told of what fails in the background. Default: `console.error`. */
  errorLog?: ((...message: unknown[]) => void) | undefined
  /** How sessions become text; it has to be JSON text, as the column is. Default: JSON. */
  serializer?: Serializer | undefined
}

interface Row {
  sid: string
  text: string
  expires: number
  version: string
}

const PRUNE_INTERVAL = 900

/**
 * Sessions in PostgreSQL, in the table of connect-pg-simple, whose column `sess` may be `json` or `jsonb`. The version of
 * a record is the MD5 of its text, made by the server, so that what other software writes counts. Statements are not
 * named, so that PgBouncer may pool by transaction.
 */
export class PostgresStore extends RecordStore {
  readonly #pool: PostgresQueryable
  readonly #ownPool: { end(): Promise<void> } | undefined
  readonly #sql: ReturnType<typeof statements>
  readonly #createTable: boolean
  readonly #ttlOf: (session: object) => number
  readonly #pruning: Pruning
  readonly #tables = new Map<string, Promise<void>>()

  /** @throws SessionError when an option cannot be used, or `pg` is to be loaded and is not installed */
  constructor(options: PostgresStoreOptions) {
    super()
    const {
      pool,
      conString,
      conObject,
      tableName = 'session',
      schemaName,
      createTableIfMissing = false,
    } = options ?? {}
    const {
      ttl = DEFAULT_TTL / 1000,
      pruneSessionInterval = PRUNE_INTERVAL,
      errorLog = console.error,
      serializer,
    } = options ?? {}
    if (pool && typeof pool.query !== 'function') throw invalid('option pool must be a Pool or a Client of pg')
    if (!pool && !conString && !conObject) throw invalid('needs the option pool, conString or conObject')
    if (typeof ttl === 'number' && !(ttl > 0))
      throw invalid('option ttl must be a positive number of seconds, or a function')
    if (pool) this.#pool = pool
    else this.#pool = this.#ownPool = openPool(conObject ?? { connectionString: conString }, errorLog)
    if (typeof ttl === 'number') this.ttl = ttl * 1000
    this.#ttlOf = typeof ttl === 'function' ? ttl : () => ttl
    if (serializer) this.serializer = serializer
    this.#createTable = createTableIfMissing
    this.#sql = statements(schemaName, tableName)
    const report = (error: unknown): void => errorLog('sessile/postgres: expired sessions could not be deleted:', error)
    this.#pruning = new Pruning((limit) => this.prune(limit), (pruneSessionInterval || 0) * 1000, report)
  }

  override expiresOf(data: { cookie: { expires?: unknown } }): number {
    return data.cookie.expires ? super.expiresOf(data) : Date.now() + this.#ttlOf(data) * 1000
  }

  async read(id: string): Promise<SessionRecord | null> {
    const [row] = await this.#query(this.#sql.read, [id, Date.now()])
    return row ? toRecord(row) : null
  }

  async write(id: string, text: string, expires: number, condition: WriteCondition): Promise<string | null> {
    const values = [id, text, expires]
    const [row] = await (condition === 'always'
      ? this.#query(this.#sql.writeAlways, values)
      : condition === 'absent'
        ? this.#query(this.#sql.writeAbsent, [...values, Date.now()])
        : condition === 'present'
          ? this.#query(this.#sql.writePresent, [...values, Date.now()])
          : this.#query(this.#sql.writeVersion, [...values, Date.now(), condition.version]))
    return row?.version ?? null
  }

  async renew(id: string, expires: number): Promise<boolean> {
    return (await this.#query(this.#sql.renew, [id, expires, Date.now()])).length > 0
  }

  async remove(id: string): Promise<boolean> {
    const [row] = await this.#query(this.#sql.remove, [id])
    return row !== undefined && row.expires > Date.now()
  }

  async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    const rows = await this.#query(this.#sql.scan, [cursor ?? '', Date.now(), limit])
    return { records: rows.map(toRecord), cursor: rows.length < limit ? null : (rows.at(-1) as Row).sid }
  }

  override async prune(limit: number): Promise<number> {
    const pruned = await this.#query(this.#sql.prune, [Date.now(), limit])
    if (pruned.length < limit && this.#tables.has(this.#sql.createUserTable))
      await this.#query(this.#sql.pruneUsers, [])
    return pruned.length
  }

  override async removeAll(): Promise<void> {
    await this.#query(this.#sql.removeAll, [])
  }

  override async count(): Promise<number> {
    const [row] = await this.#query(this.#sql.count, [Date.now()])
    return Number((row as unknown as { count: string }).count)
  }

  override async link(user: string, id: string): Promise<void> {
    await this.#queryUsers(this.#sql.link, [user, id])
  }

  override async unlink(user: string, id: string): Promise<void> {
    await this.#queryUsers(this.#sql.unlink, [user, id])
  }

  override async linked(user: string): Promise<string[]> {
    return (await this.#queryUsers(this.#sql.linked, [user])).map(({ sid }) => sid)
  }

  override async close(): Promise<void> {
    await this.#pruning.stop()
    await this.#ownPool?.end()
  }

  async #query(text: string, values: unknown[]): Promise<Row[]> {
    if (this.#createTable) await this.#made(this.#sql.createTable)
    this.#pruning.start()
    return (await this.#pool.query(text, values)).rows as Row[]
  }

  async #queryUsers(text: string, values: unknown[]): Promise<Row[]> {
    await this.#made(this.#sql.createUserTable)
    return this.#query(text, values)
  }

  /** All callers share one attempt to make a table, and after a failure the next one tries again. */
  #made(sql: string): Promise<void> {
    let made = this.#tables.get(sql)
    if (!made) {
      made = this.#create(sql)
      this.#tables.set(sql, made)
      made.catch(() => this.#tables.delete(sql))
    }
    return made
  }

  /** Several processes may do so at once: `IF NOT EXISTS` does not keep PostgreSQL from failing then, once. */
  async #create(sql: string): Promise<void> {
    try {
      await this.#pool.query(sql)
    } catch (error) {
      if (!['23505', '42P07'].includes((error as { code?: string }).code ?? '')) throw error
      await this.#pool.query(sql)
    }
  }
}

function toRecord({ sid, text, expires, version }: Row): SessionRecord & { id: string } {
  return { id: sid, text, expires: Number(expires), version }
}

/** Times are compared and stored as connect-pg-simple does, in the time zone of the connection. */
function statements(schemaName: string | undefined, tableName: string) {
  const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`
  const inSchema = (name: string): string => (schemaName === undefined ? '' : `${quoted(schemaName)}.`) + quoted(name)
  const table = inSchema(tableName)
  const userTable = inSchema(`${tableName}_user`)
  const time = (parameter: string): string => `to_timestamp(${parameter}::double precision / 1000)`
  const columns = `sid, sess::text AS text, md5(sess::text) AS version,
    (extract(epoch from expire::timestamptz) * 1000)::double precision AS expires`
  const insert = `INSERT INTO ${table} AS t (sid, sess, expire) VALUES ($1, $2, ${time('$3')})`
  const overwrite = 'ON CONFLICT (sid) DO UPDATE SET sess = excluded.sess, expire = excluded.expire'
  const update = `UPDATE ${table} SET sess = $2, expire = ${time('$3')} WHERE sid = $1 AND expire > ${time('$4')}`
  return {
    read: `SELECT ${columns} FROM ${table} WHERE sid = $1 AND expire > ${time('$2')}`,
    writeAlways: `${insert} ${overwrite} RETURNING md5(sess::text) AS version`,
    writeAbsent: `${insert} ${overwrite} WHERE t.expire <= ${time('$4')} RETURNING md5(sess::text) AS version`,
    writePresent: `${update} RETURNING md5(sess::text) AS version`,
    writeVersion: `${update} AND md5(sess::text) = $5 RETURNING md5(sess::text) AS version`,
    renew: `UPDATE ${table} SET expire = ${time('$2')} WHERE sid = $1 AND expire > ${time('$3')} RETURNING sid`,
    remove: `DELETE FROM ${table} WHERE sid = $1
      RETURNING (extract(epoch from expire::timestamptz) * 1000)::double precision AS expires`,
    scan: `SELECT ${columns} FROM ${table} WHERE sid > $1 AND expire > ${time('$2')} ORDER BY sid LIMIT $3`,
    prune: `DELETE FROM ${table} WHERE (SELECT pg_try_advisory_xact_lock(hashtext('${table.replaceAll("'", "''")}')))
      AND sid IN (SELECT sid FROM ${table} WHERE expire <= ${time('$1')} ORDER BY expire LIMIT $2) RETURNING sid`,
    removeAll: `DELETE FROM ${table}`,
    count: `SELECT count(*) FROM ${table} WHERE expire > ${time('$1')}`,
    link: `INSERT INTO ${userTable} (user_id, sid) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
    unlink: `DELETE FROM ${userTable} WHERE user_id = $1 AND sid = $2`,
    linked: `SELECT sid FROM ${userTable} WHERE user_id = $1`,
    pruneUsers: `DELETE FROM ${userTable} u WHERE NOT EXISTS (SELECT 1 FROM ${table} t WHERE t.sid = u.sid)`,
    createTable: `CREATE TABLE IF NOT EXISTS ${table} (
        sid varchar NOT NULL COLLATE "default" PRIMARY KEY, sess json NOT NULL, expire timestamp(6) NOT NULL
      );
      CREATE INDEX IF NOT EXISTS ${quoted(`IDX_${tableName}_expire`)} ON ${table} (expire)`,
    createUserTable: `CREATE TABLE IF NOT EXISTS ${userTable} (
        user_id text NOT NULL, sid varchar NOT NULL, PRIMARY KEY (user_id, sid)
      )`,
  }
}

interface OwnPool extends PostgresQueryable {
  end(): Promise<void>
  on(event: 'error', listener: (error: unknown) => void): unknown
}

function openPool(settings: object, errorLog: (...message: unknown[]) => void): OwnPool {
  let pg: { Pool: new (settings: object) => OwnPool }
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- loaded only by those who use it
    pg = require('pg') as typeof pg
  } catch (cause) {
    throw invalid('needs the package pg for conString and conObject: npm install pg', cause)
  }
  const pool = new pg.Pool(settings)
  pool.on('error', (error) => errorLog('sessile/postgres: an idle connection was lost:', error))
  return pool
}

function invalid(what: string, cause?: unknown): SessionError {
  return new SessionError('ERR_SESSION_OPTION', `PostgresStore: ${what}`, { cause })
}
