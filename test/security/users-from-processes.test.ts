// @module-tag slow
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import Database from 'libsql'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { createClient } from 'redis'
import { afterAll, describe, expect, test } from 'vitest'
import type { RecordStore } from '../../src'
import { MysqlStore } from '../../src/stores/mysql'
import { PostgresStore } from '../../src/stores/postgres'
import { RedisStore } from '../../src/stores/redis'
import { SqliteStore } from '../../src/stores/sqlite'
import { describeWith } from '../support/servers'
import { openShops, type Kind, type Shop } from '../support/shops'

const LOGINS = process.env['THOROUGH'] ? 10_000 : 600
const USERS = 100
const MAX = 3
/** How many are under way at a time. */
const LANES = 64
/** All sessions have ended this long, in ms, after the logins. */
const MAX_AGE = 120_000

const unique = (): string => 'u' + randomBytes(6).toString('hex')

interface Index {
  readonly store: RecordStore
  /** Lets the time of all sessions pass. */
  expire(): Promise<unknown>
  /** The entries that are left in the real tables, keys or rows. */
  entries(): Promise<number>
}

/**
 * Thousands of logins of 100 users, from four processes at once: in the end nobody has more than three sessions, and when
 * these have ended, nothing is left of them.
 */
function boundsUsers(kind: Kind, name: string, open: () => Promise<Index>): void {
  test(`${LOGINS} logins of ${USERS} users, at most ${MAX} sessions each`, async () => {
    const shops = await openShops(4, 'sessile', kind, name, { maxSessionsPerUser: MAX, cookie: { maxAge: MAX_AGE } })
    const started = Date.now()
    let next = 0
    const lane = async (): Promise<void> => {
      while (next < LOGINS) {
        const n = next++
        const { status, body } = await (shops[n % 4] as Shop).visit(`/login?user=user${(n >> 2) % USERS}`)
        if (status !== 200) throw new Error(`login ${n}: ${status} ${body}`)
      }
    }
    await Promise.all(Array.from({ length: LANES }, lane))
    console.log(`${kind}: ${LOGINS} logins in ${Math.round((Date.now() - started) / 1000)} s`)

    const { store, expire, entries } = await open()
    const live = new Map<string, number>()
    for await (const { text } of store.records()) {
      const { user } = JSON.parse(text) as { user: string }
      live.set(user, (live.get(user) ?? 0) + 1)
    }
    expect(live.size).toBe(USERS)
    expect([...live].filter(([, sessions]) => sessions > MAX)).toEqual([])

    await expire()
    for (let pruned = 1; store.prune && pruned > 0;) pruned = Number(await store.prune(1000))
    expect(await entries()).toBe(0)
    shops.forEach((shop) => shop.close())
    await store.close?.()
  }, 240_000)
}

describeWith('redis', 'Redis', () => {
  const name = unique()
  const client = createClient()
  afterAll(() => void client.destroy())
  boundsUsers('redis', name, async () => {
    await client.connect()
    const keys = async (): Promise<string[]> => client.keys(`*${name}*`)
    return {
      store: new RedisStore({ client, prefix: `${name}:` }),
      expire: async () => {
        // The server's clock cannot be moved; each key has its own end, which is brought near by as much for all.
        for (const key of await keys()) await client.pExpire(key, Math.max(1, (await client.pTTL(key)) - MAX_AGE))
        await expect.poll(keys).toEqual([])
      },
      entries: async () => (await keys()).length,
    }
  })
})

describeWith('postgres', 'PostgreSQL', () => {
  const name = unique()
  const pool = new pg.Pool({ host: '127.0.0.1', user: 'postgres', database: 'test' })
  afterAll(async () => {
    await pool.query(`DROP TABLE IF EXISTS ${name}, ${name}_user`)
    await pool.end()
  })
  boundsUsers('postgres', name, () =>
    Promise.resolve({
      store: new PostgresStore({ pool, tableName: name, pruneSessionInterval: false }),
      expire: async () => {
        for (const table of [name, `${name}_user`])
          await pool.query(`UPDATE ${table} SET expire = expire - interval '1 day'`)
      },
      entries: async () => {
        const { rows } = await pool.query<{ n: string }>(
          `SELECT (SELECT count(*) FROM ${name}) + (SELECT count(*) FROM ${name}_user) AS n`,
        )
        return Number(rows[0]?.n)
      },
    }),
  )
})

describeWith('mysql', 'MariaDB', () => {
  const name = unique()
  const pool = mysql.createPool({ host: '127.0.0.1', user: 'root', database: 'test' })
  afterAll(async () => {
    await pool.query(`DROP TABLE IF EXISTS ${name}, ${name}_user`)
    await pool.end()
  })
  boundsUsers('mysql', name, () =>
    Promise.resolve({
      store: new MysqlStore({ pool, schema: { tableName: name } }),
      expire: async () => {
        for (const table of [name, `${name}_user`]) await pool.query(`UPDATE ${table} SET expires = expires - 86400`)
      },
      entries: async () => {
        const [rows] = await pool.query(
          `SELECT (SELECT count(*) FROM ${name}) + (SELECT count(*) FROM ${name}_user) AS n`,
        )
        return Number((rows as { n: number }[])[0]?.n)
      },
    }),
  )
})

describe('SQLite', () => {
  const file = path.join(tmpdir(), `${unique()}.db`)
  afterAll(() => {
    for (const end of ['', '-wal', '-shm']) rmSync(file + end, { force: true })
  })
  boundsUsers('sqlite', file, () => {
    const database = new Database(file)
    const TABLES = ['sessions', 'sessions_user'] as const
    const rows = (table: string): number =>
      (database.prepare(`SELECT count(*) AS n FROM ${table}`).get() as { n: number }).n
    return Promise.resolve({
      store: new SqliteStore({ database }),
      expire: () => {
        for (const table of TABLES) database.exec(`UPDATE ${table} SET expires = expires - 86400000`)
        return Promise.resolve()
      },
      entries: () => Promise.resolve(rows(TABLES[0]) + rows(TABLES[1])),
    })
  })
})
