import { randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import connectPgSimple from 'connect-pg-simple'
import expressSession from 'express-session'
import pg from 'pg'

const SERVER = { host: '127.0.0.1', user: 'postgres', database: 'test' }

export const unique = (): string => 't' + randomBytes(6).toString('hex')

/** A schema of the test's own, in which its connections find and make their tables. */
export interface Schema {
  readonly name: string
  readonly pool: pg.Pool
  /** Settings for connections of its own. */
  settings(more?: pg.PoolConfig): pg.PoolConfig
  /** A pool that is ended when the schema is dropped. */
  newPool(more?: pg.PoolConfig): pg.Pool
  drop(): Promise<void>
}

export async function openSchema(): Promise<Schema> {
  const name = unique()
  const pools: pg.Pool[] = []
  const schema: Schema = {
    name,
    get pool() {
      return pools[0] as pg.Pool
    },
    settings: ({ options = '', ...more } = {}) => ({
      ...SERVER,
      ...more,
      options: `-c search_path=${name} -c client_min_messages=warning ${options}`,
    }),
    newPool(more) {
      const pool = new pg.Pool(schema.settings(more))
      pools.push(pool)
      return pool
    },
    async drop() {
      await schema.pool.query(`DROP SCHEMA ${name} CASCADE`)
      await Promise.all(pools.map((pool) => pool.end()))
    },
  }
  await schema.newPool().query(`CREATE SCHEMA ${name}`)
  return schema
}

/** Runs what is given while a transaction is open, and then commits that. */
export async function duringTransaction<T>(
  pool: pg.Pool,
  sql: string,
  work: (commit: () => Promise<void>) => Promise<T>,
): Promise<T> {
  const client = await pool.connect()
  let open = true
  const commit = async (): Promise<void> => {
    if (open) await client.query('COMMIT')
    open = false
  }
  try {
    await client.query('BEGIN')
    await client.query(sql)
    return await work(commit)
  } finally {
    await commit()
    client.release()
  }
}

/** The process ID of a connection to this schema that waits for a lock, as soon as there is one. */
export async function blockedBackend({ pool, name }: Schema): Promise<number> {
  for (;;) {
    const { rows } = await pool.query<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%' || $1 || '%' AND pid <> pg_backend_pid()`,
      [name],
    )
    if (rows[0]) return rows[0].pid
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

export interface ClassicStore {
  get(id: string): Promise<Record<string, unknown> | null | undefined>
  set(id: string, data: object): Promise<void>
  touch(id: string, data: object): Promise<void>
  destroy(id: string): Promise<void>
}

/** connect-pg-simple, with promises. */
export function originalStore(options: object): ClassicStore {
  const Original = connectPgSimple(expressSession)
  const store = new Original({ pruneSessionInterval: false, ...options }) as unknown as Record<string, () => void>
  const promised = (method: string): never => promisify((store[method] as () => void).bind(store)) as never
  return { get: promised('get'), set: promised('set'), touch: promised('touch'), destroy: promised('destroy') }
}
