import type { PostgresQueryable } from './postgres-options'
import { creations, indexCreations, type Names } from './postgres-sql'

/** What a server says of itself, and of the tables. */
export interface Facts {
  readonly version: number
  readonly encoding: string
  readonly isReadOnly: boolean
  readonly maxConnections: number
  readonly zone: string
  /** In ms since the epoch. */
  readonly now: number
  readonly sessions: Table | null
  readonly users: Table | null
}

interface Table {
  /** Types by name. */
  readonly columns: Record<string, string>
  readonly indexes: { isUnique: boolean; columns: string[] }[] | null
  /** The rights that the role does not have. */
  readonly lacking: string[] | null
}

/** Asks for the facts. */
export function factsOf({ tableString, usersString }: Names): string {
  const table = (name: string): string => `(SELECT json_build_object(
    'columns', (SELECT json_object_agg(attname, format_type(atttypid, atttypmod)) FROM pg_attribute
      WHERE attrelid = found AND attnum > 0 AND NOT attisdropped),
    'indexes', (SELECT json_agg(json_build_object('isUnique', indisunique AND indpred IS NULL, 'columns', (
        SELECT array_agg(attname ORDER BY n) FROM unnest(indkey) WITH ORDINALITY AS k (num, n)
        JOIN pg_attribute ON attrelid = found AND attnum = k.num))) FROM pg_index WHERE indrelid = found AND indisvalid),
    'lacking', (SELECT json_agg(wanted) FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS wanted
      WHERE NOT has_table_privilege(found, wanted)))
    FROM to_regclass(${name}) AS found WHERE found IS NOT NULL)`
  return `SELECT current_setting('server_version_num')::int AS version, current_setting('server_encoding') AS encoding,
    current_setting('transaction_read_only') = 'on' AS "isReadOnly",
    current_setting('max_connections')::int AS "maxConnections", current_setting('TimeZone') AS zone,
    round(extract(epoch FROM clock_timestamp()) * 1000)::double precision AS now,
    ${table(tableString)} AS sessions, ${table(usersString)} AS users`
}

/** PostgreSQL 12 has all that the statements need. */
const OLDEST_VERSION = 120_000
/** How far, in ms, clocks may be apart. */
const CLOCKS_APART = 2000
/** What the ID of a session may have: those of sessile have 32 characters, or 46 as hashes. */
const LONGEST_ID = 64
const UTC = /^(Etc\/)?(UTC|UCT|GMT|Zulu|Universal)$/i

/** What an operator should know; `asked` and `answered` are the moments, in ms since the epoch, between which the facts came. */
export function findings(
  facts: Facts,
  names: Names,
  pool: PostgresQueryable,
  asked: number,
  answered: number,
): string[] {
  return [
    ...ofServer(facts, asked, answered),
    ...ofPool(pool as object, facts),
    ...(facts.sessions
      ? ofSessions(facts.sessions, facts.zone, names)
      : [missing(names.table, creations(names).sessions)]),
    ...(facts.users
      ? ofTable(facts.users, ['user_id', 'sid'], facts.zone, names.users, indexCreations(names).users)
      : []),
  ]
}

function missing(table: string, sql: string): string {
  return `the table ${table} is missing: set the option createTableIfMissing, or run: ${sql}`
}

function* ofServer(facts: Facts, asked: number, answered: number): Generator<string> {
  const { encoding, isReadOnly, now, version } = facts
  if (version < OLDEST_VERSION) yield 'the server is older than PostgreSQL 12: some statements will fail; update it'
  if (isReadOnly) yield 'the server only reads (a standby, or default_transaction_read_only): connect to the primary'
  if (encoding !== 'UTF8')
    yield `the database is encoded as ${encoding}: sessions with other characters are refused; use one with UTF8`
  const apart = now < asked ? now - asked : Math.max(0, now - answered)
  if (Math.abs(apart) > CLOCKS_APART) {
    const seconds = Math.round(Math.abs(apart) / 1000)
    yield `the server's clock is ${seconds} s ${apart < 0 ? 'behind' : 'ahead of'} this machine's: the processes that share the sessions have to agree on the time, so have all of them synchronise their clocks (NTP)`
  }
}

/** A Pool or Client of `pg`, as far as its settings can be seen. */
interface Pool {
  readonly options?: { max?: number; query_timeout?: number; connectionTimeoutMillis?: number }
  readonly _connected?: boolean
}

function* ofPool({ options, _connected: isConnected }: Pool, { maxConnections }: Facts): Generator<string> {
  if (isConnected !== undefined)
    yield 'pool is a single Client: once its connection is lost, every request fails until the process is restarted; give a Pool'
  if (!options) return
  if (!options.query_timeout)
    yield 'the pool has no query_timeout: a connection that the network has dropped silently is waited for, and used again, for ever; set query_timeout: 5000 (ms), say'
  if (!options.connectionTimeoutMillis)
    yield 'the pool has no connectionTimeoutMillis: when no connection can be had, requests wait for ever; set connectionTimeoutMillis: 5000 (ms), say'
  if ((options.max ?? 0) > maxConnections)
    yield `the pool may open ${options.max} connections, and the server allows ${maxConnections} for all of its clients (max_connections): give the pool a smaller max`
}

function* ofSessions(table: Table, zone: string, names: Names): Generator<string> {
  const { sid = '', sess = '' } = table.columns
  const length = Number(/\d+/.exec(sid)?.[0] ?? LONGEST_ID)
  if (!/^(character varying|text)/.test(sid) || length < LONGEST_ID)
    yield `the column sid of ${names.table} is ${sid || 'missing'}: IDs may not fit; ALTER TABLE ${names.table} ALTER sid TYPE varchar`
  if (!/^(jsonb?|text|character varying)$/.test(sess))
    yield `the column sess of ${names.table} is ${sess || 'missing'}: sessions may not fit; ALTER TABLE ${names.table} ALTER sess TYPE json USING sess::json`
  yield* ofTable(table, ['sid'], zone, names.table, indexCreations(names).sessions)
}

function* ofTable(table: Table, key: string[], zone: string, name: string, indexCreation: string): Generator<string> {
  const { columns, indexes, lacking } = table
  if (lacking) yield `the role lacks rights: GRANT ${lacking.join(', ')} ON ${name} TO the role`
  const isKey = (index: { columns: string[] }): boolean => String([...index.columns].sort()) === String([...key].sort())
  if (!indexes?.some((index) => index.isUnique && isKey(index)))
    yield `${name} has no unique index on ${key.join(', ')}, so that nothing can be stored: ALTER TABLE ${name} ADD PRIMARY KEY (${key.join(', ')})`
  if (!indexes?.some((index) => index.columns[0] === 'expire'))
    yield `${name} has no index on expire, so that the whole table is read whenever what has ended is deleted: ${indexCreation}`
  if (/without time zone$/.test(columns['expire'] ?? '') && !UTC.test(zone))
    yield `the column expire of ${name} has no time zone, and the connections have ${zone}: lifetimes shift by hours when that changes, with summer time or by a setting; give all connections TimeZone=UTC, or ALTER TABLE ${name} ALTER expire TYPE timestamptz USING expire AT TIME ZONE '${zone.replaceAll("'", "''")}'`
}
