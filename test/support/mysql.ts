import { randomBytes } from 'node:crypto'
// @ts-expect-error it has no types
import expressMysqlSession from 'express-mysql-session'
import expressSession from 'express-session'
import mysql, {
  type Connection,
  type Pool,
  type PoolOptions,
  type ResultSetHeader,
  type RowDataPacket,
} from 'mysql2/promise'

const SERVER = { host: '127.0.0.1', user: 'root' }

export const unique = (): string => 't' + randomBytes(6).toString('hex')

/** A database of the test's own. */
export interface Database {
  readonly name: string
  readonly pool: Pool
  /** Settings for connections of its own. */
  settings(more?: PoolOptions): PoolOptions
  /** A pool that is ended when the database is dropped. */
  newPool(more?: PoolOptions): Pool
  rows(sql: string, values?: unknown[]): Promise<RowDataPacket[]>
  run(sql: string, values?: unknown[]): Promise<ResultSetHeader>
  drop(): Promise<void>
}

export async function openDatabase(): Promise<Database> {
  const name = unique()
  const connection = await mysql.createConnection(SERVER)
  await connection.query(`CREATE DATABASE ${name}`)
  await connection.end()
  const pools: Pool[] = []
  const database: Database = {
    name,
    get pool() {
      return pools[0] as Pool
    },
    settings: (more) => ({ ...SERVER, database: name, ...more }),
    newPool(more) {
      const pool = mysql.createPool(database.settings(more))
      pools.push(pool)
      return pool
    },
    rows: async (sql, values) => (await database.pool.query<RowDataPacket[]>(sql, values))[0],
    run: async (sql, values) => (await database.pool.query<ResultSetHeader>(sql, values))[0],
    async drop() {
      await database.run(`DROP DATABASE ${name}`)
      await Promise.all(pools.map((pool) => pool.end()))
    },
  }
  database.newPool()
  return database
}

/** Runs what is given while a transaction is open, and then commits that. */
export async function duringTransaction<T>(
  pool: Pool,
  sql: string,
  work: (commit: () => Promise<void>, connection: Connection) => Promise<T>,
): Promise<T> {
  const connection = await pool.getConnection()
  try {
    await connection.beginTransaction()
    await connection.query(sql)
    return await work(() => connection.commit(), connection)
  } finally {
    await connection.commit()
    connection.release()
  }
}

/** The ID of a connection to this database that waits for a row, as soon as there is one. */
export async function blockedConnection({ rows, name }: Database): Promise<number> {
  for (;;) {
    // The server answers anew only to those who have not asked for a tenth of a second, in another test perhaps.
    await new Promise((resolve) => setTimeout(resolve, 150))
    const [waiting] = await rows(
      `SELECT trx_mysql_thread_id AS id FROM information_schema.innodb_trx
       JOIN information_schema.processlist p ON p.id = trx_mysql_thread_id
       WHERE trx_state = 'LOCK WAIT' AND p.db = ?`,
      [name],
    )
    if (waiting) return waiting['id'] as number
  }
}

export interface ClassicStore {
  get(id: string): Promise<Record<string, unknown> | null>
  set(id: string, data: object): Promise<void>
  touch(id: string, data: object): Promise<void>
  destroy(id: string): Promise<void>
  onReady(): Promise<void>
}

/** express-mysql-session, with promises as it has them. */
export async function originalStore(pool: Pool, tableName: string, options: object = {}): Promise<ClassicStore> {
  const Original = (
    expressMysqlSession as (session: unknown) => new (options: object, connection: Pool) => ClassicStore
  )(expressSession)
  const store = new Original({ clearExpired: false, schema: { tableName }, ...options }, pool)
  await store.onReady()
  return store
}
