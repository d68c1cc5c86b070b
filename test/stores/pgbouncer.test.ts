// @module-tag server
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { PostgresStore } from '../../src/stores/postgres'
import { recordStoreContract, storeContract } from '../../src/testing'
import { openSchema, unique, type Schema } from '../support/postgres'
import { describeWith, describeWithProgram, freePort, untilListening } from '../support/servers'

const PGBOUNCER = '/usr/sbin/pgbouncer'

describeWith('postgres', 'PostgresStore', () =>
  describeWithProgram(PGBOUNCER, 'pgbouncer', 'through PgBouncer, which pools by transaction', () => {
    let folder: string
    let schema: Schema
    let pgbouncer: ChildProcess
    let pool: pg.Pool
    /** All of its connections share two of the server. */
    let poolOfFew: pg.Pool

    beforeAll(async () => {
      folder = mkdtempSync(path.join(tmpdir(), 'sessile-pgbouncer-'))
      schema = await openSchema()
      const port = await freePort()
      const file = path.join(folder, 'pgbouncer.ini')
      writeFileSync(
        file,
        `[databases]
       test = host=127.0.0.1 user=postgres pool_size=10
       few = host=127.0.0.1 user=postgres dbname=test pool_size=2
       [pgbouncer]
       listen_addr = 127.0.0.1
       listen_port = ${port}
       unix_socket_dir =
       auth_type = any
       pool_mode = transaction`,
      )
      // It refuses to be run by root.
      chmodSync(folder, 0o755)
      const user = process.getuid?.() === 0 ? ['-u', 'postgres'] : []
      pgbouncer = spawn(PGBOUNCER, ['-q', ...user, file], { stdio: 'ignore' })
      await untilListening(port)
      const settings = { host: '127.0.0.1', port, user: 'postgres', max: 20 }
      pool = new pg.Pool({ ...settings, database: 'test' })
      poolOfFew = new pg.Pool({ ...settings, database: 'few' })
    })
    afterAll(async () => {
      await Promise.all([pool.end(), poolOfFew.end()])
      pgbouncer.kill()
      await once(pgbouncer, 'exit')
      await schema.drop()
      rmSync(folder, { recursive: true })
    })

    const newStore = (pool: pg.Pool, tableName = unique()): PostgresStore =>
      new PostgresStore({ pool, schemaName: schema.name, tableName, createTableIfMissing: true })
    const make = () => {
      const store = newStore(pool)
      return { store, close: () => store.close() }
    }
    for (const { group, name, run } of [...recordStoreContract(make), ...storeContract(make)]) {
      test.concurrent(`${group}: ${name}`, run)
    }

    test('many clients have few connections of the server, and lose no update', async () => {
      const tableName = unique()
      const store = newStore(poolOfFew, tableName)
      const expires = Date.now() + 60_000
      await store.write('id', '{"cookie":{},"n":0}', expires, 'absent')
      await Promise.all(
        Array.from({ length: 20 }, async () => {
          for (;;) {
            const { text, version } = (await store.read('id')) ?? { text: '', version: '' }
            const { n } = JSON.parse(text) as { n: number }
            if (await store.write('id', `{"cookie":{},"n":${n + 1}}`, expires, { version })) return
          }
        }),
      )
      expect((await store.read('id'))?.text).toBe('{"cookie":{},"n":20}')
      expect(poolOfFew.totalCount).toBeGreaterThan(2)
      const { rows } = await schema.pool.query(
        `SELECT count(*)::int AS connections FROM pg_stat_activity WHERE datname = 'test' AND query LIKE '%${tableName}%'
       AND pid <> pg_backend_pid()`,
      )
      expect(rows).toEqual([{ connections: 2 }])
      await store.close()
    })
  }),
)
