import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import Database from 'libsql'
import mysql from 'mysql2'
import pg from 'pg'
import { createClient } from 'redis'
import Redis from 'ioredis'
import { afterAll, describe, test } from 'vitest'
import session from '../../src'
import { SealedStore } from '../../src/features/sealing/sealed-store'
import { MysqlStore } from '../../src/stores/mysql'
import { PostgresStore } from '../../src/stores/postgres'
import { RedisStore } from '../../src/stores/redis'
import { SqliteStore } from '../../src/stores/sqlite'
import { recordStoreContract, storeContract, type MakeStore } from '../../src/testing'
import { describeWith } from '../support/servers'

/** Runs both contracts on a store of ours: every case gets an empty one. */
function bothContracts(make: MakeStore<session.RecordStore>, facts: { granularity?: number } = {}): void {
  for (const { group, name, run } of recordStoreContract(make, facts)) test.concurrent(`record, ${group}: ${name}`, run)
  for (const { group, name, run } of storeContract(make, facts)) test.concurrent(`classic, ${group}: ${name}`, run)
}

const unique = (): string => 't' + randomBytes(6).toString('hex')

describe('MemoryStore', () => bothContracts(() => new session.MemoryStore()))

describe('SealedStore over MemoryStore', () =>
  bothContracts(() => new SealedStore(new session.MemoryStore(), { encryption: 'k'.repeat(43) + '=' })))

describe('SqliteStore', () => {
  bothContracts(() => {
    const file = path.join(tmpdir(), `sessile-${unique()}.db`)
    const database = new Database(file)
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
    const store = new SqliteStore({ database })
    const close = async (): Promise<void> => {
      await store.close()
      database.close()
      for (const end of ['', '-wal', '-shm']) rmSync(file + end, { force: true })
    }
    return { store, close }
  })
})

describeWith('redis', 'RedisStore with redis', () => {
  const client = createClient()
  const connected = client.connect()
  afterAll(() => void client.destroy())
  bothContracts(async () => {
    await connected
    const store = new RedisStore({ client, prefix: `${unique()}:` })
    return { store, close: () => store.clear() }
  })
})

describeWith('redis', 'RedisStore with ioredis', () => {
  const client = new Redis()
  afterAll(() => client.disconnect())
  bothContracts(() => {
    const store = new RedisStore({ client, prefix: `${unique()}:` })
    return { store, close: () => store.clear() }
  })
})

for (const column of ['json', 'jsonb']) {
  describeWith('postgres', `PostgresStore with a ${column} column`, () => {
    const pool = new pg.Pool({ host: '127.0.0.1', user: 'postgres', database: 'test' })
    afterAll(() => pool.end())
    bothContracts(async () => {
      const tableName = unique()
      await pool.query(
        `CREATE TABLE ${tableName} (sid varchar PRIMARY KEY, sess ${column} NOT NULL, expire timestamp(6) NOT NULL)`,
      )
      const store = new PostgresStore({ pool, tableName, createTableIfMissing: true })
      const close = async (): Promise<void> => {
        await store.close()
        await pool.query(`DROP TABLE ${tableName}; DROP TABLE IF EXISTS ${tableName}_user`)
      }
      return { store, close }
    })
  })
}

describeWith('mysql', 'MysqlStore', () => {
  const pool = mysql.createPool({ host: '127.0.0.1', user: 'root', database: 'test' })
  afterAll(() => pool.promise().end())
  bothContracts(
    () => {
      const tableName = unique()
      const store = new MysqlStore({ pool, schema: { tableName } })
      const close = async (): Promise<void> => {
        await store.close()
        await pool.promise().query(`DROP TABLE IF EXISTS ${tableName}, ${tableName}_user`)
      }
      return { store, close }
    },
    { granularity: 1000 },
  )
})
