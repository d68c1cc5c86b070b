import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import type { RecordStore } from '../store/record-store'
import { RedisStore } from '../stores/redis'
import { PostgresStore, type PostgresQueryable } from '../stores/postgres'
import { MysqlStore } from '../stores/mysql'
import { SqliteStore, type SqliteDatabase } from '../stores/sqlite'

export interface StoreOptions {
  prefix?: string | undefined
  table?: string | undefined
  /** Makes what is missing. Else that is an error, as a name may be wrong. */
  create?: boolean
}

/** A store as the command line opens it: without timers, and with no errors but those that are thrown. */
export interface OpenedStore {
  readonly store: RecordStore
  /** What it is called in what is printed, without its password. */
  readonly name: string
  /** The server's clock, in ms since the epoch, and its version; a file has neither. */
  clock?(): Promise<number>
  version?(): Promise<string>
  close(): Promise<void>
}

export class UsageError extends Error {}

/**
 * Opens a store by its URL, with the client that the project in the working directory has.
 * @throws UsageError when there is no such kind of store, or no client for it
 */
export async function openStore(url: string, options: StoreOptions): Promise<OpenedStore> {
  const [, scheme] = /^([a-z]+):\/\//.exec(url) ?? []
  if (scheme === 'redis' || scheme === 'rediss') return openRedis(url, options)
  if (scheme === 'postgres' || scheme === 'postgresql') return openPostgres(url, options)
  if (scheme === 'mysql' || scheme === 'mariadb') return openMysql(url, options)
  if (scheme === 'dynamodb') return openDynamoDB(url, options)
  if (scheme !== undefined && scheme !== 'file') {
    throw new UsageError(
      `no store has URLs of ${scheme}://; there are redis, rediss, postgres, mysql, dynamodb, and files`,
    )
  }
  return openSqlite(url.replace(/^file:\/\//, ''), options)
}

async function openRedis(url: string, { prefix, table }: StoreOptions): Promise<OpenedStore> {
  refuse(table, '--table is for databases; Redis has --prefix')
  const { createClient } = load<typeof import('redis')>('redis')
  const client = createClient({ url, socket: { reconnectStrategy: false } })
  client.on('error', () => undefined)
  await client.connect()
  return {
    store: new RedisStore({ client, prefix }),
    name: shown(url),
    async clock() {
      const [seconds, microseconds] = (await client.sendCommand(['TIME'])) as unknown as string[]
      return Number(seconds) * 1000 + Number(microseconds) / 1000
    },
    async version() {
      const info = String(await client.sendCommand(['INFO', 'server']))
      return `Redis ${/redis_version:(\S+)/.exec(info)?.[1]}`
    },
    close: () => client.close(),
  }
}

function openPostgres(url: string, { prefix, table, create = false }: StoreOptions): OpenedStore {
  refuse(prefix, '--prefix is for Redis and DynamoDB; PostgreSQL has --table')
  const { Pool } = load<{ Pool: new (settings: object) => PostgresQueryable & { end(): Promise<void> } }>('pg')
  const pool = new Pool({ connectionString: url, max: 4 })
  const store = new PostgresStore({ pool, tableName: table, pruneSessionInterval: false, createTableIfMissing: create })
  const one = async (sql: string): Promise<unknown> => ((await pool.query(sql)).rows[0] as { value: unknown }).value
  return {
    store,
    name: shown(url),
    clock: async () => Number(await one('SELECT extract(epoch FROM clock_timestamp()) * 1000 AS value')),
    version: async () => `PostgreSQL ${String(await one(`SELECT current_setting('server_version') AS value`))}`,
    close: async () => {
      await store.close()
      await pool.end()
    },
  }
}

function openMysql(url: string, { prefix, table, create = false }: StoreOptions): OpenedStore {
  refuse(prefix, '--prefix is for Redis and DynamoDB; MySQL has --table')
  const mysql = load<typeof import('mysql2')>('mysql2')
  const pool = mysql.createPool({ uri: url.replace(/^mariadb:/, 'mysql:'), connectionLimit: 4 })
  const store = new MysqlStore({
    pool,
    clearExpired: false,
    createDatabaseTable: create,
    ...(table !== undefined && { schema: { tableName: table } }),
  })
  const one = async (sql: string): Promise<unknown> => {
    const [rows] = await pool.promise().query(sql)
    return (rows as { value: unknown }[])[0]?.value
  }
  return {
    store,
    name: shown(url),
    clock: async () => Number(await one('SELECT unix_timestamp(now(3)) * 1000 AS value')),
    version: async () => `MySQL ${String(await one('SELECT version() AS value'))}`,
    close: async () => {
      await store.close()
      await pool.promise().end()
    },
  }
}

/** `dynamodb://sessions`, with a region and credentials from the environment. */
function openDynamoDB(url: string, { prefix, table, create = false }: StoreOptions): OpenedStore {
  load('@aws-sdk/client-dynamodb')
  // Only then, as it loads the client at once.
  const { DynamoDBStore } = createRequire(__filename)('../stores/dynamodb.js') as typeof import('../stores/dynamodb')
  const store = new DynamoDBStore({
    table: table ?? (new URL(url).host || undefined),
    prefix,
    createTableIfMissing: create,
  })
  return { store, name: url, close: () => store.close() }
}

function openSqlite(file: string, { prefix, table, create = false }: StoreOptions): OpenedStore {
  refuse(prefix, '--prefix is for Redis and DynamoDB; SQLite has --table')
  if (!create && !existsSync(file)) throw new UsageError(`there is no file ${file}`)
  const database = openFile(path.resolve(file))
  database.exec('PRAGMA busy_timeout = 5000')
  const store = new SqliteStore({ database, tableName: table, pruneInterval: 0 })
  return {
    store,
    name: file,
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
  const sqlite = getBuiltinModule?.('node:sqlite')
  if (sqlite) return new sqlite.DatabaseSync(file)
  const Database = tryLoad<OpenFile>('better-sqlite3') ?? tryLoad<OpenFile>('libsql')
  if (Database) return new Database(file)
  throw new UsageError('a file needs Node 22.13 or later, or the package better-sqlite3 or libsql')
}

function load<T>(name: string): T {
  const loaded = tryLoad<T>(name)
  if (loaded) return loaded
  throw new UsageError(`this store needs the package ${name}: npm install ${name}`)
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

function refuse(option: string | undefined, why: string): void {
  if (option !== undefined) throw new UsageError(why)
}

function shown(url: string): string {
  const parsed = new URL(url)
  parsed.password = ''
  return parsed.href
}
