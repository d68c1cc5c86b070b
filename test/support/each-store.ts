import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import Database from 'libsql'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { createClient } from 'redis'
import { afterAll, beforeAll, describe } from 'vitest'
import { MemoryStore, type RecordStore } from '../../src'
import { MysqlStore } from '../../src/stores/mysql'
import { PostgresStore } from '../../src/stores/postgres'
import { RedisStore } from '../../src/stores/redis'
import { SqliteStore } from '../../src/stores/sqlite'
import { describeWith } from './servers'

/** Opens a store: a new one, or another one in the same place, as another process has it. */
export type OpenStore = (place?: string) => RecordStore

export const newPlace = (): string => 't' + randomBytes(6).toString('hex')

/** Tests on each of the stores, on real servers. */
export function onEachStore(body: (open: OpenStore) => void): void {
  describe('MemoryStore', () => {
    const stores = new Map<string, MemoryStore>()
    body((place = newPlace()) => {
      const store = stores.get(place) ?? new MemoryStore()
      stores.set(place, store)
      return store
    })
  })

  describe('SqliteStore', () => {
    const files = new Set<string>()
    const databases: { close(): void }[] = []
    afterAll(() => {
      for (const database of databases) database.close()
      for (const file of files) for (const end of ['', '-wal', '-shm']) rmSync(file + end, { force: true })
    })
    body((place = newPlace()) => {
      const file = path.join(tmpdir(), `${place}.db`)
      const database = new Database(file)
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 5000')
      files.add(file)
      databases.push(database)
      return new SqliteStore({ database, pruneInterval: 0 })
    })
  })

  describeWith('redis', 'RedisStore', () => {
    const client = createClient()
    const stores: RedisStore[] = []
    beforeAll(async () => void (await client.connect()))
    afterAll(async () => {
      for (const store of stores) await store.clear()
      client.destroy()
    })
    body((place = newPlace()) => {
      const store = new RedisStore({ client, prefix: `${place}:` })
      stores.push(store)
      return store
    })
  })

  describeWith('postgres', 'PostgresStore', () => {
    const pool = new pg.Pool({ host: '127.0.0.1', user: 'postgres', database: 'test' })
    const tables = new Set<string>()
    afterAll(async () => {
      for (const table of tables) await pool.query(`DROP TABLE IF EXISTS ${table}, ${table}_user`)
      await pool.end()
    })
    body((tableName = newPlace()) => {
      tables.add(tableName)
      return new PostgresStore({ pool, tableName, createTableIfMissing: true, pruneSessionInterval: false })
    })
  })

  describeWith('mysql', 'MysqlStore', () => {
    const pool = mysql.createPool({ host: '127.0.0.1', user: 'root', database: 'test' })
    const tables = new Set<string>()
    afterAll(async () => {
      for (const table of tables) await pool.query(`DROP TABLE IF EXISTS ${table}, ${table}_user`)
      await pool.end()
    })
    body((tableName = newPlace()) => {
      tables.add(tableName)
      return new MysqlStore({ pool, schema: { tableName }, clearExpired: false })
    })
  })
}
