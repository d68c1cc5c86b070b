import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import type { RecordStore } from '../store/record-store'
import type { PostgresQueryable } from '../stores/postgres'
import type { SqliteDatabase } from '../stores/sqlite'

export interface StoreOptions {
  prefix?: string | undefined
  table?: string | undefined
  /** Makes what is missing. Else that is an error, as a name may be wrong. */
  create?: boolean
}

/** A store as the command line opens it: nothing happens in the background, and it gives up where an app would wait. */
export interface OpenedStore {
  readonly store: RecordStore
  /** What it is called in what is printed, without a password. */
  readonly name: string
  /** The server's software and its version. */
  readonly version: string
  close(): unknown
}

/** What the operator has given cannot be done; the message says what to do. */
export class UsageError extends Error {}

/** The two stores of a move. */
export interface BothOptions {
  from: string
  to: string
  fromPrefix?: string | undefined
  fromTable?: string | undefined
  toPrefix?: string | undefined
  toTable?: string | undefined
}

type Opening = Omit<OpenedStore, 'name'>

const KINDS: { [scheme: string]: { open(url: string, options: StoreOptions): Promise<Opening>; takes: string[] } } = {
  redis: { open: openRedis, takes: ['prefix'] },
  rediss: { open: openRedis, takes: ['prefix'] },
  postgres: { open: openPostgres, takes: ['table'] },
  postgresql: { open: openPostgres, takes: ['table'] },
  mysql: { open: openMysql, takes: ['table'] },
  mariadb: { open: openMysql, takes: ['table'] },
  dynamodb: { open: openDynamoDB, takes: ['prefix'] },
  file: { open: openSqlite, takes: ['table'] },
}

/** In ms: whoever waits for the command line wants to know. */
const PATIENCE = 5000

/**
 * Opens a store by its URL, with the client that the project in the working directory has.
 * @throws UsageError when there is no such kind of store, no client for it, no such file, or it cannot be reached
 */
export async function openStore(url: string, options: StoreOptions): Promise<OpenedStore> {
  const [, scheme = 'file'] = /^(\w+):\/\//.exec(url) ?? []
  const kind = KINDS[scheme]
  if (!kind) throw new UsageError(`no store has URLs of ${scheme}://; there are ${Object.keys(KINDS).join(', ')}`)
  for (const option of ['prefix', 'table'] as const) {
    if (options[option] !== undefined && !kind.takes.includes(option)) {
      throw new UsageError(`${scheme} takes --${kind.takes.join()}, not --${option}`)
    }
  }
  if (scheme !== 'file' && !URL.canParse(url)) {
    throw new UsageError("the store's URL cannot be parsed: are special characters of its password percent-encoded?")
  }
  const name = scheme === 'file' ? url : shown(url)
  try {
    return { name, ...(await kind.open(url, options)) }
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError(`cannot open ${name}: ${messageOf(error)}`)
  }
}

/**
 * Opens the stores of a move. Without `create`, what the new one lacks is an error.
 * @throws UsageError as `openStore` does
 */
export async function openBoth(options: BothOptions, create = false): Promise<{ from: OpenedStore; to: OpenedStore }> {
  const { fromPrefix, fromTable, toPrefix, toTable } = options
  const from = await openStore(options.from, { prefix: fromPrefix, table: fromTable })
  try {
    return { from, to: await openStore(options.to, { prefix: toPrefix, table: toTable, create }) }
  } catch (error) {
    await from.close()
    throw error
  }
}

/** The stores of a move as the app has them meanwhile. */
export async function openMoving(options: BothOptions): Promise<OpenedStore> {
  const { from, to } = await openBoth(options)
  const { MovingStore } = await import('../stores/moving.js')
  return {
    store: new MovingStore({ from: from.store, to: to.store }),
    name: `${from.name} and ${to.name}`,
    version: `${from.version} and ${to.version}`,
    async close() {
      await from.close()
      await to.close()
    },
  }
}

/** What has gone wrong, in a line: the errors of a connection that was tried at several addresses have no message. */
export function messageOf(error: unknown): string {
  const { message, code, errors, cause } = error as Error & { code?: string; errors?: unknown[] }
  if (message === 'fetch failed' && cause) return messageOf(cause)
  return message || (errors?.[0] ? messageOf(errors[0]) : code) || String(error)
}

/** Whether a store has no table, which it then tells how to make. */
export function isTableMissing(error: unknown): boolean {
  const { code, name } = ((error as Error).cause ?? {}) as { code?: string; name?: string }
  return ['42P01', 'ER_NO_SUCH_TABLE'].includes(code ?? '') || name === 'ResourceNotFoundException'
}

/** What `redis` and `ioredis` have in common. */
interface RedisClient {
  on(event: 'error', listener: () => void): unknown
  connect(): Promise<unknown>
  disconnect(): unknown
}

async function openRedis(url: string, { prefix }: StoreOptions): Promise<Opening> {
  const { RedisStore } = await import('../stores/redis.js')
  let client = await connectToRedis(url, false)
  const { info } = client as unknown as { info(section: string): Promise<string> }
  const about = await info.call(client, 'server').catch(() => '') // its user may not ask
  if (about.includes('redis_mode:cluster')) {
    client.disconnect()
    client = await connectToRedis(url, true)
  }
  const [, software, version] = /^(redis|valkey)_version:(\S+)/m.exec(about) ?? []
  return {
    store: new RedisStore({ client, prefix }),
    version: software === undefined ? 'a server that does not tell its version' : `${software} ${version}`,
    close: () => client.disconnect(),
  }
}

async function connectToRedis(url: string, isCluster: boolean): Promise<RedisClient> {
  const client = redisClient(url, isCluster)
  client.on('error', () => undefined) // what is under way fails, too
  try {
    await client.connect()
    return client
  } catch (error) {
    client.disconnect()
    throw error
  }
}

/** Of the package that the project has. The other servers of a cluster are not in the URL, its user and password are theirs, too. */
function redisClient(url: string, isCluster: boolean): RedisClient {
  const { protocol, username, password } = new URL(url)
  const user = { username: decodeURIComponent(username), password: decodeURIComponent(password) }
  const known = Object.fromEntries(Object.entries(user).filter(([, value]) => value !== ''))
  const redis = tryLoad<typeof import('redis')>('redis')
  if (redis) {
    const socket = { reconnectStrategy: false, connectTimeout: PATIENCE } as const
    if (!isCluster) return redis.createClient({ url, socket })
    const tls = protocol === 'rediss:' ? { tls: true } : {}
    return redis.createCluster({ rootNodes: [{ url }], defaults: { ...known, socket: { ...socket, ...tls } } })
  }
  const { Redis, Cluster } = load<typeof import('ioredis')>('ioredis', 'redis')
  const redisOptions = {
    lazyConnect: true,
    connectTimeout: PATIENCE,
    socketTimeout: PATIENCE,
    retryStrategy: () => null,
    reconnectOnError: () => false,
  }
  if (!isCluster) return new Redis(url, redisOptions)
  const tls = protocol === 'rediss:' ? { tls: {} } : {}
  return new Cluster([url], {
    lazyConnect: true,
    clusterRetryStrategy: () => null,
    redisOptions: { ...redisOptions, ...known, ...tls },
  })
}

async function openPostgres(url: string, { table, create = false }: StoreOptions): Promise<Opening> {
  const { PostgresStore } = await import('../stores/postgres.js')
  const { Pool } = load<{ Pool: new (settings: object) => PostgresQueryable & { end(): Promise<void> } }>('pg')
  const pool = new Pool({ connectionString: url, connectionTimeoutMillis: PATIENCE, query_timeout: 12 * PATIENCE })
  const [tableName, schemaName] = table?.split('.').reverse() ?? []
  const settings = { pool, tableName, schemaName, createTableIfMissing: create }
  const store = new PostgresStore({ ...settings, pruneSessionInterval: false })
  const { rows } = await pool.query(`SELECT current_setting('server_version') AS version`)
  return {
    store,
    version: `PostgreSQL ${(rows as [{ version: string }])[0].version}`,
    close: async () => {
      await store.close()
      await pool.end()
    },
  }
}

async function openMysql(url: string, { table: tableName, create = false }: StoreOptions): Promise<Opening> {
  const { MysqlStore } = await import('../stores/mysql.js')
  const mysql = load<typeof import('mysql2')>('mysql2')
  const pool = mysql.createPool({ uri: url.replace(/^mariadb:/, 'mysql:'), connectTimeout: PATIENCE })
  const schema = tableName === undefined ? undefined : { tableName }
  const store = new MysqlStore({ pool, schema, clearExpired: false, createDatabaseTable: create })
  const [rows] = await pool.promise().query('SELECT version() AS version')
  const { version } = (rows as [{ version: string }])[0]
  return {
    store,
    version: `${version.includes('MariaDB') ? 'MariaDB' : 'MySQL'} ${version}`,
    close: async () => {
      await store.close()
      await pool.promise().end()
    },
  }
}

/** `dynamodb://sessions`, with the region and the credentials that the AWS CLI would take. */
async function openDynamoDB(url: string, { prefix, create = false }: StoreOptions): Promise<Opening> {
  load('@aws-sdk/client-dynamodb')
  const { DynamoDBStore } = await import('../stores/dynamodb.js')
  const store = new DynamoDBStore({ table: new URL(url).host || undefined, prefix, createTableIfMissing: create })
  return { store, version: 'DynamoDB', close: () => store.close() }
}

async function openSqlite(
  url: string,
  { table: tableName = 'sessions', create = false }: StoreOptions,
): Promise<Opening> {
  const file = url.replace(/^file:\/\//, '')
  if (!create && !existsSync(file)) throw new UsageError(`there is no file ${file}`)
  const database = openFile(path.resolve(file))
  const one = (sql: string, ...values: string[]): unknown => database.prepare(sql).get(...values)
  const { version } = one('SELECT sqlite_version() AS version') as { version: string }
  // The store would make it.
  if (!create && !one(`SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?`, tableName)) {
    throw new UsageError(`there is no table ${tableName} in ${file}`)
  }
  const { SqliteStore } = await import('../stores/sqlite.js')
  const store = new SqliteStore({ database, tableName, pruneInterval: 0 })
  return {
    store,
    version: `SQLite ${version}`,
    close: async () => {
      await store.close()
      database.close()
    },
  }
}

type OpenFile = new (file: string) => SqliteDatabase

function openFile(file: string): SqliteDatabase {
  const { getBuiltinModule } = process as {
    getBuiltinModule?: (name: string) => { DatabaseSync: OpenFile } | undefined
  }
  const Database =
    getBuiltinModule?.('node:sqlite')?.DatabaseSync ??
    tryLoad<OpenFile>('better-sqlite3') ??
    tryLoad<OpenFile>('libsql')
  if (Database) return new Database(file)
  throw new UsageError('a file needs Node 22.13 or later, or the package better-sqlite3 or libsql')
}

function load<T>(name: string, wanted = name): T {
  const loaded = tryLoad<T>(name)
  if (loaded) return loaded
  throw new UsageError(`this store needs the package ${wanted}: npm install ${wanted}`)
}

/** Of the project in the working directory first: `npx` may run this from a folder of its own. */
function tryLoad<T>(name: string): T | undefined {
  for (const from of [path.join(process.cwd(), 'package.json'), __filename]) {
    try {
      return createRequire(from)(name) as T
    } catch (error) {
      if ((error as { code?: string }).code !== 'MODULE_NOT_FOUND') throw error
    }
  }
  return undefined
}

/** Without the password, and without parameters, which may have one. */
function shown(url: string): string {
  const { protocol, username, host, pathname } = new URL(url)
  return `${protocol}//${username && `${username}@`}${host}${pathname}`
}
