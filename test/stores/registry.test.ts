import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { createClient } from 'redis'
import { afterAll, describe, expect, test } from 'vitest'
import session from '../../src'
import { storeContract, type MakeStore, type StoreFacts } from '../../src/testing'
import { failing } from '../support/failing'
import { describeWith } from '../support/servers'

type Maker = new (...args: unknown[]) => session.Store
const load = createRequire(__filename)
const unique = (): string => 'r' + randomBytes(6).toString('hex')

/** Which sentences of the classic contract a store of the registry does not keep: exactly these. */
function keepsAllBut(deviations: string[], make: MakeStore<session.Store>, facts?: StoreFacts): void {
  test(`keeps the classic contract, but for ${deviations.length} of its sentences`, async () => {
    expect(await failing(storeContract(make, facts))).toEqual(deviations)
  }, 60_000)
}

describe('memorystore', () => {
  const MemoryStore = (load('memorystore') as (of: unknown) => Maker)(session)
  keepsAllBut(
    [
      // It counts what has ended, until that is asked for.
      'listing: length passes the number of live sessions',
    ],
    () => new MemoryStore({ checkPeriod: 60_000 }),
  )
})

describe('session-file-store', () => {
  const FileStore = (load('session-file-store') as (of: unknown) => Maker)(session)
  const folder = mkdtempSync(path.join(tmpdir(), 'sessile-files-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  keepsAllBut(
    [
      // It puts `__lastAccess` on the session that it is handed,
      'set: leaves what it is given as it was',
      // makes names of files of the IDs,
      'set: keeps sessions apart by their IDs, however unusual',
      // counts a session's end from that and `originalMaxAge`, whatever the cookie's expiry is,
      'expiry: a session ends when its cookie does',
      'expiry: a session that was set again ends as set last',
      'expiry: a session that has ended already is not kept',
      'touch: brings the end nearer',
      'touch: does not bring back a session that is gone, and is content',
      // and counts files.
      'listing: length passes the number of live sessions',
    ],
    () => new FileStore({ path: path.join(folder, unique()), logFn: () => undefined, reapInterval: -1, retries: 0 }),
  )
})

describeWith('redis', 'connect-redis', () => {
  const { RedisStore } = load('connect-redis') as { RedisStore: Maker }
  const client = createClient()
  const connected = client.connect()
  afterAll(() => void client.destroy())
  keepsAllBut(
    [
      // What its callback throws, it hands to the callback once more.
      'callbacks: are called once, even one that throws',
    ],
    async () => {
      await connected
      const store = new RedisStore({ client, prefix: `${unique()}:` })
      return { store, close: () => store.clear?.(() => undefined) }
    },
    { granularity: 1000 },
  )
})

describeWith('postgres', 'connect-pg-simple', () => {
  const PgStore = (load('connect-pg-simple') as (of: unknown) => Maker)(session)
  const pool = new pg.Pool({ host: '127.0.0.1', user: 'postgres', database: 'test' })
  afterAll(() => pool.end())
  keepsAllBut(
    [
      // What its callback throws, it hands to the callback once more.
      'callbacks: are called once, even one that throws',
      // One that has ended and is not pruned yet lives again.
      'touch: does not bring back a session that is gone, and is content',
    ],
    async () => {
      const tableName = unique()
      await pool.query(
        `CREATE TABLE ${tableName} (sid varchar PRIMARY KEY, sess json NOT NULL, expire timestamp(6) NOT NULL)`,
      )
      const store = new PgStore({ pool, tableName, pruneSessionInterval: false, errorLog: () => undefined })
      return { store, close: () => pool.query(`DROP TABLE ${tableName}`) }
    },
    { granularity: 1000 },
  )
})

describeWith('mysql', 'express-mysql-session', () => {
  const MySQLStore = (load('express-mysql-session') as (of: unknown) => Maker)(session)
  const pool = mysql.createPool({ host: '127.0.0.1', user: 'root', database: 'test' })
  afterAll(() => pool.end())
  keepsAllBut(
    [
      // Its column takes an ID that ends in a space for the one without.
      'set: keeps sessions apart by their IDs, however unusual',
      // What its callback throws, it hands to the callback once more.
      'callbacks: are called once, even one that throws',
      // One that has ended and is not pruned yet lives again.
      'touch: does not bring back a session that is gone, and is content',
    ],
    async () => {
      const tableName = unique()
      const store = new MySQLStore({ schema: { tableName }, clearExpired: false }, pool) as session.Store & {
        onReady(): Promise<void>
        close(): Promise<void>
      }
      await store.onReady()
      return { store, close: () => pool.query(`DROP TABLE ${tableName}`) }
    },
    { granularity: 1000 },
  )
})
