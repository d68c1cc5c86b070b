import {
  a,
  aFlag,
  aFunction,
  aName,
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

/** What the store asks of a `pg` Pool or Client. */
export interface PostgresQueryable {
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[]; rowCount: number | null }>
}

export interface PostgresStoreOptions {
  /** A Pool or a connected Client of `pg`. It stays yours to end. */
  pool?: PostgresQueryable | undefined
  /**
   * In place of `pool`: where to connect, as a URL or as the settings of a Pool. The store ends what it opens. Default:
   * the URL in the environment variable `DATABASE_URL`.
   */
  conString?: string | undefined
  conObject?: object | undefined
  /** The name of the table. Default: `'session'`. The option `user` needs a second one, with `_user` after this name. */
  tableName?: string | undefined
  /** The schema of the table. Default: by the connection's search path. */
  schemaName?: string | undefined
  /** Makes a missing table when it is first used. Default: `false`. */
  createTableIfMissing?: boolean | undefined
  /** Lifetime in seconds of a session whose cookie has no expiry, or a function of the session. Default: 86,400. */
  ttl?: number | ((session: object) => number) | undefined
  /** About how often, in seconds, expired sessions are deleted, by one process at a time; `false` for never. Default: 900. */
  pruneSessionInterval?: number | false | undefined
  /**
   * A function from `pruneSessionInterval` in ms to the next pause in ms; `false` for always the same pause. Default: a
   * random one, between half and one and a half times as long.
   */
  pruneSessionRandomizedInterval?: false | ((interval: number) => number) | undefined
  /** Called with what fails in the background. Default: `console.error`. */
  errorLog?: ((...message: unknown[]) => void) | undefined
  /** How sessions become text; it has to be JSON text, as the column is. Default: JSON. */
  serializer?: Serializer | undefined
}

const OPTIONS: Record<keyof PostgresStoreOptions | 'pgPromise' | 'disableTouch', Check> = {
  pool: a('a Pool or a Client of pg', (value) => has(value, 'query')),
  conString: aName,
  conObject: a('the settings of a Pool of pg', (value) => typeof value === 'object'),
  tableName: aName,
  schemaName: aName,
  createTableIfMissing: aFlag,
  ttl: a('a positive number of seconds, or a function', (value) => typeof value === 'function' || isPositive(value)),
  pruneSessionInterval: a(
    'a positive number of seconds, or false for never',
    (value) => value === false || isPositive(value),
  ),
  pruneSessionRandomizedInterval: a(
    'a function from ms to ms, or false',
    (value) => value === false || typeof value === 'function',
  ),
  errorLog: aFunction,
  serializer: aSerializer,
  pgPromise: unsupported('; give its Pool as pool: db.$pool'),
  disableTouch: unsupported('; give the middleware the option touchAfter: Infinity'),
}

interface Row {
  sid: string
  text: string
  expires: number
  version: string
}

const PRUNE_INTERVAL = 900
const UNDEFINED_TABLE = '42P01'
/** A serialization failure, where transactions are isolated more than by default, and a deadlock. */
const ROLLED_BACK = ['40001', '40P01']
const TRANSACTION_ABORTED = '25P02'
/**
 * What PostgreSQL answers, despite `IF NOT EXISTS`, to one of two clients that make a table at the same time: a name is
 * taken in a unique index of its catalogue, by a relation, or by the type of a relation's rows.
 */
const MADE_MEANWHILE = ['23505', '42P07', '42710']

/**
 * Sessions in PostgreSQL, in the table of connect-pg-simple, whose column `sess` may be `json` or `jsonb` (`jsonb` refuses
 * the character U+0000). The version of a record is a hash of its text, made by the server, so that writes of other
 * software change it, too. Statements have no names, so that PgBouncer may pool by transaction. A read never renews, as
 * the request would then wait for the disk.
 */
export class PostgresStore extends RecordStore {
  readonly #pool: PostgresQueryable
  readonly #ownPool: { end(): Promise<void> } | undefined
  readonly #sql: ReturnType<typeof statements>
  readonly #createTable: boolean
  readonly #ttlOf: (session: object) => number
  readonly #pruning: Pruning
  /** Tables being made, by the SQL that makes them. */
  readonly #making = new Map<string, Promise<void>>()
  #closing: Promise<void> | undefined

  /** @throws OptionError when an option cannot be used, or `pg` is to be loaded and is not installed */
  constructor(options?: PostgresStoreOptions) {
    super()
    const given = optionsOf(this, PostgresStore, options, OPTIONS)
    const { tableName = 'session', schemaName, createTableIfMissing = false, serializer } = given
    const { ttl = DEFAULT_TTL / 1000, errorLog = console.error } = given
    if (given.pool) this.#pool = given.pool
    else this.#pool = this.#ownPool = openPool(settingsOf(given))
    surviveLostConnections(this.#pool, (error) => errorLog('sessile/postgres: an idle connection was lost:', error))
    if (typeof ttl === 'number') this.ttl = ttl * 1000
    this.#ttlOf = typeof ttl === 'function' ? ttl : () => ttl
    if (serializer) this.serializer = serializer
    this.#createTable = createTableIfMissing
    this.#sql = statements(schemaName, tableName)
    const report = (error: unknown): void => errorLog('sessile/postgres: expired sessions could not be deleted:', error)
    this.#pruning = new Pruning((limit) => this.prune(limit), pruneInterval(given), report)
  }

  override expiresOf(data: { cookie: { expires?: unknown } }): number {
    if (data.cookie.expires) return super.expiresOf(data)
    const ttl: unknown = this.#ttlOf(data)
    if (typeof ttl === 'number' && !Number.isNaN(ttl)) return Date.now() + ttl * 1000
    throw invalid(`option ttl must return a number of seconds; it returned ${String(ttl)}`)
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

  async remove(id: string, version?: Version): Promise<boolean> {
    const { remove, removeVersion } = this.#sql
    const [row] = await (version === undefined ? this.#query(remove, [id]) : this.#query(removeVersion, [id, version]))
    return row !== undefined && row.expires > Date.now()
  }

  async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    const rows = await this.#query(this.#sql.scan, [cursor ?? '', Date.now(), limit])
    return { records: rows.map(toRecord), cursor: rows.length < limit ? null : (rows.at(-1) as Row).sid }
  }

  override async prune(limit: number): Promise<number> {
    const pruned = (await this.#query(this.#sql.prune, [Date.now(), limit])).length
    if (pruned < limit && (await this.#query(this.#sql.hasUserTable, [])).length > 0) {
      await this.#query(this.#sql.pruneUsers, [Date.now()])
    }
    return pruned
  }

  override async removeAll(): Promise<void> {
    await this.#query(this.#sql.removeAll, [])
  }

  override async count(): Promise<number> {
    const [row] = await this.#query(this.#sql.count, [Date.now()])
    return Number((row as unknown as { count: string }).count)
  }

  override async link(user: string, id: string, expires: number): Promise<void> {
    await this.#queryUsers(this.#sql.link, [user, id, expires])
  }

  override async unlink(user: string, id: string): Promise<void> {
    await this.#queryUsers(this.#sql.unlink, [user, id])
  }

  override async linked(user: string): Promise<string[]> {
    const rows = await this.#queryUsers(this.#sql.linked, [user, Date.now()])
    return rows.map(({ sid }) => sid)
  }

  override close(): Promise<void> {
    return (this.#closing ??= this.#pruning.stop().then(() => this.#ownPool?.end()))
  }

  /** Makes missing tables only after an error: the database user may have no rights but to the rows of existing ones. */
  async #query(text: string, values: unknown[], creations = [this.#sql.createTable]): Promise<Row[]> {
    this.#pruning.start()
    for (const creation of creations) {
      try {
        return await this.#issue(text, values)
      } catch (error) {
        if (codeOf(error) !== UNDEFINED_TABLE) throw error
        if (!this.#createTable) throw missing(creations, error)
        await this.#made(creation)
      }
    }
    return this.#issue(text, values)
  }

  #issue(text: string, values?: unknown[]): Promise<Row[]> {
    const issue = async (): Promise<Row[]> => (await this.#pool.query(text, values)).rows as Row[]
    return issueAgain(issue, ROLLED_BACK, TRANSACTION_ABORTED)
  }

  #queryUsers(text: string, values: unknown[]): Promise<Row[]> {
    return this.#query(text, values, [this.#sql.createUserTable, this.#sql.createTable])
  }

  /** All callers share one attempt, and after a failure the next one tries again. */
  #made(creation: string): Promise<void> {
    let making = this.#making.get(creation)
    if (!making) {
      making = this.#create(creation).finally(() => this.#making.delete(creation))
      this.#making.set(creation, making)
    }
    return making
  }

  async #create(creation: string): Promise<void> {
    try {
      await this.#issue(creation)
    } catch (error) {
      if (!MADE_MEANWHILE.includes(codeOf(error))) throw error
      await this.#issue(creation)
    }
  }
}

function toRecord({ sid, text, expires, version }: Row): SessionRecord & { id: string } {
  return { id: sid, text, expires: Number(expires), version }
}

function codeOf(error: unknown): string {
  return (error as { code?: string }).code ?? ''
}

/**
 * Times are compared and stored as connect-pg-simple does, in the time zone of the connection. A DELETE repeats the
 * condition on `expire` outside of its subquery, as PostgreSQL checks only that again for a row that was renewed meanwhile. A
 * link without a session is kept until its own `expire`, as the session may be about to be written; one with a session
 * lives as long.
 */
function statements(schemaName: string | undefined, tableName: string) {
  const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`
  const inSchema = (name: string): string => (schemaName === undefined ? '' : `${quoted(schemaName)}.`) + quoted(name)
  const string = (value: string): string => `'${value.replaceAll("'", "''")}'`
  const table = inSchema(tableName)
  const userTable = inSchema(`${tableName}_user`)
  const time = (parameter: string): string => `to_timestamp(${parameter}::double precision / 1000)`
  const version = `encode(sha256(convert_to(sess::text, 'UTF8')), 'hex')`
  const expires = 'round(extract(epoch from expire::timestamptz) * 1000)::double precision AS expires'
  const columns = `sid, sess::text AS text, ${version} AS version, ${expires}`
  const insert = `INSERT INTO ${table} AS t (sid, sess, expire) VALUES ($1, $2, ${time('$3')})`
  const overwrite = 'ON CONFLICT (sid) DO UPDATE SET sess = excluded.sess, expire = excluded.expire'
  const update = `UPDATE ${table} SET sess = $2, expire = ${time('$3')} WHERE sid = $1 AND expire > ${time('$4')}`
  const returning = `RETURNING ${version} AS version`
  const ended = (now: string): string =>
    `u.expire <= ${time(now)} AND NOT EXISTS (SELECT FROM ${table} t WHERE t.sid = u.sid)`
  const alone = `(SELECT pg_try_advisory_xact_lock(hashtext('sessile'), hashtext(${string(table)})))`
  return {
    read: `SELECT ${columns} FROM ${table} WHERE sid = $1 AND expire > ${time('$2')}`,
    writeAlways: `${insert} ${overwrite} ${returning}`,
    writeAbsent: `${insert} ${overwrite} WHERE t.expire <= ${time('$4')} ${returning}`,
    writePresent: `${update} ${returning}`,
    writeVersion: `${update} AND ${version} = $5 ${returning}`,
    renew: `UPDATE ${table} SET expire = ${time('$2')} WHERE sid = $1 AND expire > ${time('$3')} RETURNING sid`,
    remove: `DELETE FROM ${table} WHERE sid = $1 RETURNING ${expires}`,
    removeVersion: `DELETE FROM ${table} WHERE sid = $1 AND ${version} = $2 RETURNING ${expires}`,
    scan: `SELECT ${columns} FROM ${table} WHERE sid > $1 AND expire > ${time('$2')} ORDER BY sid LIMIT $3`,
    prune: `DELETE FROM ${table} WHERE ${alone} AND expire <= ${time('$1')}
      AND sid IN (SELECT sid FROM ${table} WHERE expire <= ${time('$1')} ORDER BY expire LIMIT $2) RETURNING sid`,
    removeAll: `DELETE FROM ${table}`,
    count: `SELECT count(*) FROM ${table} WHERE expire > ${time('$1')}`,
    link: `INSERT INTO ${userTable} AS u (user_id, sid, expire) VALUES ($1, $2, ${time('$3')})
      ON CONFLICT (user_id, sid) DO UPDATE SET expire = greatest(u.expire, excluded.expire)`,
    unlink: `DELETE FROM ${userTable} WHERE user_id = $1 AND sid = $2`,
    linked: `WITH gone AS (DELETE FROM ${userTable} u WHERE user_id = $1 AND ${ended('$2')} RETURNING sid)
      SELECT sid FROM ${userTable} WHERE user_id = $1 AND sid NOT IN (SELECT sid FROM gone)`,
    hasUserTable: `SELECT FROM to_regclass(${string(userTable)}) AS found WHERE found IS NOT NULL`,
    pruneUsers: `DELETE FROM ${userTable} u WHERE ${alone} AND ${ended('$1')}`,
    createTable: `CREATE TABLE IF NOT EXISTS ${table} (
  sid varchar NOT NULL COLLATE "default" PRIMARY KEY, sess json NOT NULL, expire timestamp(6) NOT NULL
);
CREATE INDEX IF NOT EXISTS ${quoted(`IDX_${tableName}_expire`)} ON ${table} (expire);`,
    createUserTable: `CREATE TABLE IF NOT EXISTS ${userTable} (
  user_id text NOT NULL, sid varchar NOT NULL, expire timestamp(6) NOT NULL, PRIMARY KEY (user_id, sid)
);`,
  }
}

/** The pause between two prunings in ms, as `Pruning` takes it. */
function pruneInterval(options: PostgresStoreOptions): number | (() => number) {
  const { pruneSessionInterval: seconds = PRUNE_INTERVAL, pruneSessionRandomizedInterval: pauseFrom } = options
  if (seconds === false) return 0
  const interval = seconds * 1000
  if (pauseFrom === undefined) return interval
  return pauseFrom === false ? () => interval : () => pauseFrom(interval)
}

function settingsOf({ conObject, conString = process.env['DATABASE_URL'] }: PostgresStoreOptions): object {
  if (conObject) return conObject
  if (conString) return { connectionString: conString }
  throw invalid('needs the option pool, conString or conObject, or the environment variable DATABASE_URL')
}

function openPool(settings: object): PostgresQueryable & { end(): Promise<void> } {
  let pg: { Pool: new (settings: object) => PostgresQueryable & { end(): Promise<void> } }
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- loaded only by those who use it
    pg = require('pg') as typeof pg
  } catch (cause) {
    throw invalid('needs the package pg for conString and conObject: npm install pg', cause)
  }
  return new pg.Pool(settings)
}

function missing(creations: string[], cause: unknown): OptionError {
  return invalid(`a table is missing; set the option createTableIfMissing, or run:\n${creations.join('\n')}`, cause)
}

function invalid(what: string, cause?: unknown): OptionError {
  return new OptionError(`PostgresStore: ${what}`, { cause })
}
