import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import mysql from 'mysql2'
import mysqlPromise, { type Pool } from 'mysql2/promise'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { MysqlStore, type MysqlStoreOptions } from '../../src/stores/mysql'
import {
  blockedConnection,
  duringTransaction,
  openDatabase,
  originalStore,
  unique,
  type Database,
} from '../support/mysql'
import { lossyProxy } from '../support/redis-proxy'
import { describeWith } from '../support/servers'

const HOUR = 3_600_000
const data = (more: object = {}): object => ({ cookie: { originalMaxAge: null, path: '/' }, ...more })
const text = (more: object = {}): string => JSON.stringify(data(more))
const inAnHour = (): number => Date.now() + HOUR
const anHourAgo = (): number => Date.now() - HOUR
const versions = (answers: unknown[]): unknown[] => answers.filter((version) => version !== null)

describe('options', () => {
  test('somewhere to connect is needed', () => {
    expect(() => new MysqlStore({})).toThrow(/needs the option pool, or where to connect: host, port/)
    expect(() => new MysqlStore(undefined as never)).toThrow(/needs the option pool/)
    expect(() => new MysqlStore({ pool: { query: () => undefined } })).toThrow(/option pool must be a pool or a connec/)
  })
  test.each([
    [{ expiration: 0 }, /option expiration must be a positive number of ms/],
    [{ checkExpirationInterval: 0 }, /option checkExpirationInterval must be .*clearExpired: false is for never/],
    [{ schema: { tableName: '' } }, /option schema must have names/],
    [{ schema: { columnNames: { session_id: '' } } }, /option schema must have names/],
    [
      { schema: { columnNames: { sid: 'sid' } } },
      /option schema.columnNames has session_id, expires and data, and no sid/,
    ],
    [{ disableTouch: true }, /option disableTouch is not supported; give the middleware the option touchAfter/],
  ])('%j is refused', (options, message) => {
    const make = (): unknown => new MysqlStore({ host: '127.0.0.1', ...(options as object) })
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_SESSION_OPTION' }))
    expect(make).toThrow(message)
  })
})

describeWith('mysql', 'MysqlStore', () => {
  let database: Database
  beforeAll(async () => {
    database = await openDatabase()
  })
  afterAll(() => database.drop())

  const stores: MysqlStore[] = []
  afterEach(() => Promise.all(stores.splice(0).map((store) => store.close())))

  function newStore({ tableName = unique(), ...options }: MysqlStoreOptions & { tableName?: string } = {}): MysqlStore {
    const pool = options.host ? {} : { pool: database.pool }
    const store = new MysqlStore({ ...pool, schema: { tableName }, ...options })
    stores.push(store)
    return store
  }

  /** A table as express-mysql-session has it, with records that ended an hour ago. */
  async function newTable({ ended = 0, columns = 'utf8mb4 COLLATE utf8mb4_bin' } = {}): Promise<string> {
    const table = unique()
    await database.run(`CREATE TABLE ${table} (
      session_id varchar(128) COLLATE utf8mb4_bin NOT NULL, expires int unsigned NOT NULL,
      data mediumtext CHARACTER SET ${columns}, PRIMARY KEY (session_id)
    ) ENGINE=InnoDB`)
    const rows = Array.from({ length: ended }, (_, n) => [`ended${n}`, anHourAgo() / 1000, text()])
    if (ended) await database.run(`INSERT INTO ${table} VALUES ?`, [rows])
    return table
  }

  const countIn = async (table: string): Promise<number> =>
    Number((await database.rows(`SELECT count(*) AS count FROM ${table}`))[0]?.['count'])

  describe('beside express-mysql-session', () => {
    test('each reads, renews and deletes what the other wrote', async () => {
      const tableName = unique()
      const [ours, theirs] = [newStore({ tableName }), await originalStore(database.pool, tableName)]
      const expires = Math.round(Date.now() / 1000) * 1000 + HOUR
      await theirs.set('theirs', { cookie: { expires: new Date(expires), originalMaxAge: HOUR }, user: 'ada' })
      const record = await ours.read('theirs')
      expect(JSON.parse(record?.text ?? '')).toMatchObject({ user: 'ada' })
      expect(record?.expires).toBe(expires)
      expect(await ours.remove('theirs')).toBe(true)
      expect(await theirs.get('theirs')).toBeNull()

      await ours.write('ours', text({ user: 'bob', word: 'żółć 🙂' }), expires, 'absent')
      expect(await theirs.get('ours')).toMatchObject({ user: 'bob', word: 'żółć 🙂' })
      await theirs.touch('ours', { cookie: { expires: new Date(expires + HOUR) } })
      expect((await ours.read('ours'))?.expires).toBe(expires + HOUR)
      await ours.renew('ours', anHourAgo())
      expect(await theirs.get('ours')).toBeNull()
    })

    test('what the other wrote meanwhile is not written over', async () => {
      const tableName = unique()
      const [ours, theirs] = [newStore({ tableName }), await originalStore(database.pool, tableName)]
      const version = (await ours.write('a', text({ n: 1 }), inAnHour(), 'absent')) as string
      await theirs.set('a', data({ n: 2 }))
      expect(await ours.write('a', text({ n: 3 }), inAnHour(), { version })).toBeNull()
      expect(await theirs.get('a')).toMatchObject({ n: 2 })
      const record = await ours.read('a')
      expect(await ours.write('a', text({ n: 3 }), inAnHour(), { version: record?.version as string })).not.toBeNull()
      expect(await theirs.get('a')).toMatchObject({ n: 3 })
    })

    test('tables made by us, with other names, serve it too', async () => {
      const tableName = unique()
      const columnNames = { session_id: 'sid', expires: 'until', data: 'what' }
      const ours = newStore({ schema: { tableName, columnNames } })
      await ours.write('a', text({ n: 1 }), inAnHour(), 'absent')
      const theirs = await originalStore(database.pool, tableName, { schema: { tableName, columnNames } })
      expect(await theirs.get('a')).toMatchObject({ n: 1 })
      await theirs.set('b', data({ n: 2 }))
      expect((await ours.scan(null, 10)).records.map(({ id }) => id)).toEqual(['a', 'b'])
    })
  })

  describe('records', () => {
    test('ends are rounded up to seconds, so that nothing ends early', async () => {
      const store = newStore()
      for (const [asked, kept] of [
        [4_102_444_799_001, 4_102_444_800_000],
        [4_102_444_800_000, 4_102_444_800_000],
        [9_999_999_999_999, 4_294_967_295_000],
      ] as const) {
        await store.write('a', text(), asked, 'always')
        expect((await store.read('a'))?.expires).toBe(kept)
      }
    })

    test('the version of a write is that of a later read', async () => {
      for (const columns of ['utf8mb4 COLLATE utf8mb4_bin', 'latin1', 'utf8mb3']) {
        const store = newStore({ tableName: await newTable({ columns }) })
        for (const condition of ['absent', 'present', 'always'] as const) {
          const version = await store.write('a', text({ word: 'Ünïcödé' }), inAnHour(), condition)
          expect(await store.read('a')).toMatchObject({ text: text({ word: 'Ünïcödé' }), version })
        }
      }
    })

    test('of 50 writes over one version, one is made', async () => {
      const store = newStore()
      const version = (await store.write('a', text(), inAnHour(), 'absent')) as string
      const writers = Array.from({ length: 50 }, (_, n) => store.write('a', text({ n }), inAnHour(), { version }))
      const written = versions(await Promise.all(writers))
      expect(written).toHaveLength(1)
      expect((await store.read('a'))?.version).toBe(written[0])
    })

    test('of 50 that take the place of an expired record, one does', async () => {
      const store = newStore({ tableName: await newTable({ ended: 1 }) })
      const writers = Array.from({ length: 50 }, (_, n) => store.write('ended0', text({ n }), inAnHour(), 'absent'))
      expect(versions(await Promise.all(writers))).toHaveLength(1)
    })

    test('a megabyte, and characters of every kind', async () => {
      const store = newStore()
      for (const value of ['x'.repeat(1_000_000), '漢字 🙂 \u2028 \u0001 \0 "\'\\ $1 :a ?']) {
        await store.write('a', text({ value }), inAnHour(), 'always')
        expect(JSON.parse((await store.read('a'))?.text ?? '')).toMatchObject({ value })
      }
    })

    test('what the column cannot hold is refused, and what was there stays', async () => {
      const pool = database.newPool()
      pool.on('connection', (connection) => void connection.query("SET SESSION sql_mode = ''"))
      const store = newStore({ pool })
      await store.write('a', text({ n: 1 }), inAnHour(), 'absent')
      const tooLong = text({ value: 'é'.repeat(2 ** 23) })
      await expect(store.write('a', tooLong, inAnHour(), 'always')).rejects.toThrow(
        /session a… has \d+ bytes, and the column holds 16777215/,
      )
      expect((await store.read('a'))?.text).toBe(text({ n: 1 }))
    })

    test('quotes are safe where a backslash is no escape', async () => {
      const pool = database.newPool()
      pool.on('connection', (connection) => void connection.query("SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'"))
      const store = newStore({ pool })
      await store.write('other', text({ user: 'bob' }), inAnHour(), 'absent')
      const value = `', expires = 0 -- \\' ", \\\\`
      await store.write("it's", text({ value }), inAnHour(), 'absent')
      expect((await store.read("it's"))?.text).toBe(text({ value }))
      expect((await store.read('other'))?.text).toBe(text({ user: 'bob' }))
    })
  })

  describe('a server that is not strict', () => {
    async function lax(columns: string): Promise<MysqlStore> {
      const pool = database.newPool()
      pool.on('connection', (connection) => void connection.query("SET SESSION sql_mode = ''"))
      const tableName = unique()
      await database.run(
        `CREATE TABLE ${tableName} (${columns}, expires int unsigned NOT NULL, PRIMARY KEY (session_id))`,
      )
      return newStore({ pool, tableName })
    }

    test.each([
      [
        'session_id varchar(128), data text',
        { value: 'é'.repeat(40_000) },
        /has 80\d+ bytes, and the column holds 65535/,
      ],
      ['session_id varchar(8), data text', {}, /the column of IDs holds 8 characters/],
      [
        'session_id varchar(128), data text CHARACTER SET utf8mb3',
        { value: '🙂' },
        /some of its characters are not in the charset utf8/,
      ],
      [
        'session_id varchar(128), data text CHARACTER SET latin1',
        { value: 'ź' },
        /some of its characters are not in the charset latin1/,
      ],
    ])('what a column would cut or garble is refused, and what was there stays: %s', async (columns, more, message) => {
      const store = await lax(columns)
      const id = columns.includes('varchar(8)') ? 'an ID of some length' : 'a'
      if (id === 'a') await store.write('a', text({ value: 'ü' }), inAnHour(), 'absent')
      const refused = await store.write(id, text(more), inAnHour(), 'always').then(
        () => undefined,
        (error: Error) => error,
      )
      expect(refused).toBeInstanceOf(RangeError)
      expect(refused?.message).toMatch(message)
      expect((await store.read('a'))?.text).toBe(id === 'a' ? text({ value: 'ü' }) : undefined)
    })
  })

  describe('what is asked for in one turn', () => {
    /** A pool that counts statements, and a store that knows its table and settings. */
    async function counted() {
      const pool = database.newPool()
      const statements: string[] = []
      const counting = {
        execute: (query: { sql: string }, values: unknown[]) => {
          statements.push(query.sql)
          return pool.execute(query, values as string[])
        },
        getConnection: () => pool.getConnection(),
      }
      const tableName = unique()
      const store = newStore({ pool: counting, tableName })
      const ends = new Map<string, number>()
      for (let n = 0; n < 40; n++) {
        await store.write(`s${n}`, text({ n }), inAnHour(), 'absent')
        ends.set(`s${n}`, (await store.read(`s${n}`))?.expires as number)
      }
      statements.length = 0
      return { store, statements, tableName, ends, pool }
    }

    test('is read by one statement, the same for every number', async () => {
      const { store, statements } = await counted()
      for (const size of [2, 17, 40]) {
        const ids = [...Array.from({ length: size }, (_, n) => `s${n}`), 'none', 's0']
        const records = await Promise.all(ids.map((id) => store.read(id)))
        expect(records.map((record) => record && (JSON.parse(record.text) as { n: number }).n)).toEqual([
          ...Array(size).keys(),
          null,
          0,
        ])
        expect(records[0]).not.toBe(records.at(-1))
      }
      expect(statements).toHaveLength(3)
      expect(new Set(statements).size).toBe(1)
    })

    test('renewals go together, each only over the end that was read', async () => {
      const { store, statements, ends, tableName } = await counted()
      const later = (id: string): number => (ends.get(id) as number) + HOUR
      const renew = (id: string, from = ends.get(id)): Promise<boolean> => store.renew(id, later(id), from)
      await renew('s39')
      statements.length = 0
      const ids = ['s0', 's1', 's2', 's3']
      const renewed = ids.map((id) => renew(id))
      const stale = renew('s4', (ends.get('s4') as number) - 1000)
      await store.write('s1', text(), inAnHour() - HOUR / 2, 'present')
      await store.remove('s2')
      await database.run(`UPDATE ${tableName} SET expires = expires + 5 WHERE session_id = 's3'`)
      expect(await Promise.all(renewed)).toEqual([true, false, false, false])
      expect(await stale).toBe(false)
      expect(statements.filter((sql) => /SET .*expires.* = CASE/.test(sql))).toHaveLength(1)
      expect((await store.read('s0'))?.expires).toBe(later('s0'))
      expect((await store.read('s3'))?.expires).toBe((ends.get('s3') as number) + 5000)
      expect((await store.read('s4'))?.expires).toBe(ends.get('s4'))
    })

    test('close sends the renewals that wait', async () => {
      const { store, ends, tableName } = await counted()
      const to = (ends.get('s1') as number) + HOUR
      await store.renew('s0', to, ends.get('s0'))
      const renewed = ['s1', 's2'].map((id) => store.renew(id, to, ends.get(id)))
      await store.close()
      expect(await Promise.all(renewed)).toEqual([true, true])
      expect((await newStore({ tableName }).read('s1'))?.expires).toBe(to)
    })

    /** Ends three reads that wait for a lock in the way given, and gives what becomes of them. */
    async function endedReads(how: 'KILL QUERY' | 'KILL') {
      const { store, tableName } = await counted()
      const connection = await database.pool.getConnection()
      await connection.query(`LOCK TABLES ${tableName} WRITE`)
      const outcomes = Promise.allSettled(['s0', 's1', 'none'].map((id) => store.read(id)))
      const waiting = `SELECT id FROM information_schema.processlist WHERE db = ? AND state LIKE 'Waiting for table%'`
      let id: unknown
      await expect
        .poll(async () => (id = (await database.rows(waiting, [database.name]))[0]?.['id']))
        .toEqual(expect.any(Number))
      await database.run(`${how} ${Number(id)}`)
      if (how === 'KILL QUERY') await outcomes
      await connection.query('UNLOCK TABLES')
      connection.release()
      expect(await store.read('s0')).not.toBeNull()
      return outcomes
    }

    test('a statement that is cancelled fails each of its requests, once', async () => {
      const failure = { status: 'rejected', reason: { code: 'ER_QUERY_INTERRUPTED' } }
      expect(await endedReads('KILL QUERY')).toMatchObject([failure, failure, failure])
    })

    test('reads whose connection is lost are asked again', async () => {
      const found = (n: number): object => ({ status: 'fulfilled', value: { text: text({ n }) } })
      expect(await endedReads('KILL')).toMatchObject([found(0), found(1), { status: 'fulfilled', value: null }])
    })

    test('a read whose answer is lost is asked again, a change is not', async () => {
      const proxy = await lossyProxy(3306)
      const store = newStore({ pool: database.newPool({ port: proxy.port }) })
      await store.write('a', text(), inAnHour(), 'absent')
      await store.read('a')
      let isNext = true
      const loseNext = (): void => {
        isNext = true
        proxy.loseIf(() => isNext && !(isNext = false))
      }
      loseNext()
      expect(await store.read('a')).toMatchObject({ text: text() })
      loseNext()
      await expect(store.write('a', text({ n: 1 }), inAnHour(), 'always')).rejects.toMatchObject({
        code: 'PROTOCOL_CONNECTION_LOST',
      })
      expect(proxy.lost).toBe(2)
      await proxy.close()
    })

    test('an ID that the column cannot have fails no others', async () => {
      const tableName = unique()
      await database.run(`CREATE TABLE ${tableName} (session_id varchar(128) CHARACTER SET latin1 NOT NULL,
        expires int unsigned NOT NULL, data mediumtext, PRIMARY KEY (session_id))`)
      const store = newStore({ tableName })
      await store.write('a', text(), inAnHour(), 'absent')
      const [found] = await Promise.allSettled(['a', 'ź', 'A'].map((id) => store.read(id)))
      expect(found).toMatchObject({ status: 'fulfilled', value: { text: text() } })
      expect(await store.read('A')).toBeNull()
    })
  })

  describe('check', () => {
    test('finds nothing where all is well, and makes a missing table', async () => {
      expect(await newStore().check()).toEqual([])
    })

    test('says what to do about a table, a server and a pool', async () => {
      const tableName = unique()
      await database.run(`CREATE TABLE ${tableName} (session_id varchar(32) CHARACTER SET latin1 NOT NULL,
        expires int unsigned NOT NULL, data text CHARACTER SET latin1, PRIMARY KEY (session_id))`)
      const pool = database.newPool({ connectionLimit: 1 })
      pool.on('connection', (connection) => void connection.query("SET sql_mode = '', timestamp = 1000000000"))
      expect(await newStore({ tableName, pool }).check()).toEqual([
        expect.stringMatching(/not strict.*SET GLOBAL sql_mode/),
        expect.stringMatching(/one connection.*raise connectionLimit/),
        expect.stringMatching(/clock is \d+ s behind this machine's/),
        expect.stringMatching(/more than 65535 bytes do not fit.*ALTER TABLE .* mediumtext/),
        expect.stringMatching(/charset latin1.*ALTER TABLE .* utf8mb4/),
        expect.stringMatching(/varchar\(32\) latin1_.*ALTER TABLE .*varchar\(128\)/),
      ])
    })

    test('the ALTER TABLE of its findings help', async () => {
      const tableName = unique()
      await database.run(`CREATE TABLE ${tableName} (session_id varchar(32) CHARACTER SET latin1 NOT NULL,
        expires int unsigned NOT NULL, data text CHARACTER SET latin1, PRIMARY KEY (session_id))`)
      for (const finding of await newStore({ tableName }).check()) {
        await database.run(/ALTER TABLE.*/.exec(finding)?.[0] ?? '')
      }
      expect(await newStore({ tableName }).check()).toEqual([])
    })

    test('says which rights are missing, and what keeps the store from working', async () => {
      const tableName = await newTable()
      const user = unique()
      await database.run(`CREATE USER ${user}@'%' IDENTIFIED BY 'a password'`)
      await database.run(`GRANT SELECT ON ${database.name}.${tableName} TO ${user}@'%'`)
      const pool = mysqlPromise.createPool(database.settings({ user, password: 'a password' }))
      try {
        expect(await newStore({ pool, tableName }).check()).toEqual([
          expect.stringMatching(/lacks rights: GRANT INSERT, UPDATE, DELETE ON /),
        ])
      } finally {
        await pool.end()
        await database.run(`DROP USER ${user}@'%'`)
      }
      const single = await mysqlPromise.createConnection(database.settings())
      expect(await newStore({ pool: single, tableName }).check()).toEqual([expect.stringMatching(/single connection/)])
      await single.query('SET autocommit = 0')
      expect(await newStore({ pool: single, tableName }).check()).toEqual([
        expect.stringMatching(/commit by themselves/),
      ])
      await single.end()
      expect(await newStore({ createDatabaseTable: false }).check()).toEqual([
        expect.stringMatching(/a table is missing; .*\nCREATE TABLE/),
      ])
      await expect(newStore({ host: '127.0.0.1', port: 1, user: 'root' }).check()).rejects.toThrow(/ECONNREFUSED/)
    })
  })

  describe('deadlocks', () => {
    /** Has a statement of the store meet one, and lose: the transaction with fewer changes does. */
    async function meetDeadlock(pool: object): Promise<{ tableName: string; removal: Promise<void> }> {
      const tableName = await newTable({ ended: 2 })
      const other = await newTable()
      const lock = (id: string): string => `SELECT * FROM ${tableName} WHERE session_id = '${id}' FOR UPDATE`
      let removal: Promise<void> | undefined
      await duringTransaction(database.pool, lock('ended1'), async (_commit, connection) => {
        await connection.query(`INSERT INTO ${other} VALUES ?`, [
          Array.from({ length: 100 }, (_, n) => [`s${n}`, 1, '{}']),
        ])
        removal = newStore({ tableName, pool }).removeAll()
        removal.catch(() => undefined)
        await blockedConnection(database)
        await connection.query(lock('ended0'))
      })
      return { tableName, removal: removal as unknown as Promise<void> }
    }

    test('what is rolled back is issued again', async () => {
      const { tableName, removal } = await meetDeadlock(database.newPool())
      await removal
      expect(await countIn(tableName)).toBe(0)
    })

    test('on a single connection, where it ends a transaction of the application, it is told', async () => {
      const connection = await mysqlPromise.createConnection(database.settings())
      const { removal } = await meetDeadlock(connection)
      await expect(removal).rejects.toMatchObject({ code: 'ER_LOCK_DEADLOCK' })
      await connection.end()
    })
  })

  describe('clients', () => {
    const works = async (store: MysqlStore): Promise<void> => {
      const end = inAnHour()
      const version = (await store.write('a', text({ n: 1 }), end, 'absent')) as string
      expect(await store.renew('a', end)).toBe(true)
      expect(await store.write('a', text({ n: 1 }), end, 'always')).toBe(version)
      expect(await store.write('a', text({ n: 1 }), end, 'present')).toBe(version)
      expect(await store.write('a', text({ n: 1 }), end, { version })).toBe(version)
      expect(await store.write('a', text({ n: 2 }), end, { version: 'another' })).toBeNull()
      expect(await store.write('a', text({ n: 2 }), end, 'absent')).toBeNull()
      expect((await store.scan(null, 10)).records).toEqual([
        { id: 'a', text: text({ n: 1 }), expires: Math.ceil(end / 1000) * 1000, version },
      ])
      expect(await store.count()).toBe(1)
      expect(await store.remove('a')).toBe(true)
      expect(await store.renew('a', end)).toBe(false)
      expect(await store.write('a', text(), end, 'present')).toBeNull()
    }

    test('a pool and a connection, with callbacks and with promises', async () => {
      const settings = database.settings()
      const clients = [
        mysql.createPool(settings),
        mysqlPromise.createPool(settings),
        mysql.createConnection(settings),
        await mysqlPromise.createConnection(settings),
      ]
      for (const client of clients) {
        await works(newStore({ pool: client }))
        await ('promise' in client ? client.promise().end() : client.end())
      }
    })

    test('without the flag FOUND_ROWS a write that changes nothing is one all the same', () =>
      works(newStore({ pool: database.newPool({ flags: ['-FOUND_ROWS'] }) })))

    test('a pool that gives its other users rows of another shape', () =>
      works(newStore({ pool: database.newPool({ rowsAsArray: true, typeCast: false, namedPlaceholders: true }) })))

    /** Every number is a text, as those of a BIGINT are: a server may make one of a comparison. */
    function withTexts(pool: Pool): Pool {
      const execute = pool.execute.bind(pool)
      const asText = (value: unknown): unknown => (typeof value === 'number' ? String(value) : value)
      const asTexts = (row: object): object =>
        Object.fromEntries(Object.entries(row).map(([name, value]) => [name, asText(value)]))
      pool.execute = (async (...given: Parameters<typeof execute>) => {
        const [rows, fields] = await execute(...given)
        return [Array.isArray(rows) ? (rows as object[]).map(asTexts) : rows, fields]
      }) as never
      return pool
    }
    test.each([
      ['those of a BIGINT', (pool: Pool) => pool],
      ['all of them', withTexts],
    ])('numbers that come as texts, as with bigNumberStrings: %s', async (_which, adapted) => {
      const tableName = unique()
      await database.run(
        `CREATE TABLE ${tableName} (session_id varchar(128) COLLATE utf8mb4_bin PRIMARY KEY, expires bigint unsigned NOT NULL, data mediumtext)`,
      )
      await database.run(
        `CREATE TABLE ${tableName}_user (user_id varbinary(767), session_id varchar(128) COLLATE utf8mb4_bin, expires bigint unsigned NOT NULL, PRIMARY KEY (user_id, session_id))`,
      )
      const store = newStore({
        pool: adapted(database.newPool({ supportBigNumbers: true, bigNumberStrings: true })),
        tableName,
      })
      await works(store)
      await store.write('lives', text(), inAnHour(), 'absent')
      await store.link('ada', 'lives', inAnHour())
      await store.link('ada', 'outlasted', anHourAgo())
      await store.write('outlasted', text(), inAnHour(), 'absent')
      await store.link('ada', 'gone', anHourAgo())
      expect((await store.linked('ada')).toSorted()).toEqual(['lives', 'outlasted'])
    })

    test.each([true, '_'] as const)('a pool that nests its rows by table: %j', (nestTables) =>
      works(newStore({ pool: database.newPool({ nestTables }) })),
    )

    test.each(['latin1', 'ascii', 'binary'])(
      'a pool that leaves less than every character, %s, is refused',
      async (charset) => {
        const store = newStore({ pool: database.newPool({ charset }) })
        const refused = expect(store.write('a', text({ name: 'Ģ' }), inAnHour(), 'absent')).rejects
        await refused.toThrow(expect.objectContaining({ code: 'ERR_SESSION_OPTION' }))
        await expect(store.link('Ģ', 'a', inAnHour())).rejects.toThrow(/must have the charset utf8mb4, .*, not /)
      },
    )

    test('connections that do not commit by themselves are refused', async () => {
      const pool = database.newPool()
      pool.on('connection', (connection) => void connection.query('SET autocommit = 0'))
      await expect(newStore({ pool }).write('a', text(), inAnHour(), 'absent')).rejects.toThrow(
        /must commit by themselves, or nothing is stored/,
      )
    })

    test('where the server has no room for prepared statements, it works without', async () => {
      const pool = database.newPool()
      const full = {
        execute: () => Promise.reject(Object.assign(new Error(), { code: 'ER_MAX_PREPARED_STMT_COUNT_REACHED' })),
        query: (query: { sql: string }) => pool.query(query),
        getConnection: () => pool.getConnection(),
      }
      await works(newStore({ pool: full }))
      const store = newStore({ pool: full, tableName: 'What? `no`' })
      const value = `', expires = 0 -- \\' ", \\\\ \0 🙂 ?`
      await store.write("it's ?", text({ value }), inAnHour(), 'absent')
      expect((await store.read("it's ?"))?.text).toBe(text({ value }))
      await store.link("o'hara?", 'gone', anHourAgo())
      await store.link("o'hara?", "it's ?", anHourAgo())
      expect(await store.linked("o'hara?")).toEqual(["it's ?"])
    })

    test('the time zone of a connection makes no difference', async () => {
      const tableName = unique()
      const stores = ['+13:00', '-11:00'].map((zone) => {
        const pool = database.newPool({ timezone: zone })
        pool.on('connection', (connection) => void connection.query(`SET time_zone = '${zone}'`))
        return newStore({ pool, tableName })
      }) as [MysqlStore, MysqlStore]
      for (const [one, other] of [stores, stores.toReversed()] as [MysqlStore, MysqlStore][]) {
        await one.write('a', text(), inAnHour(), 'always')
        const { expires = 0 } = (await other.read('a')) ?? {}
        expect(Math.abs(expires - inAnHour())).toBeLessThan(60_000)
        expect(await other.prune(10)).toBe(0)
        await one.write('a', text(), anHourAgo(), 'always')
        expect(await other.read('a')).toBeNull()
      }
    })

    test('where an empty text is NULL, everything is found', async () => {
      const pool = database.newPool()
      pool.on('connection', (connection) => void connection.query("SET sql_mode = 'EMPTY_STRING_IS_NULL'"))
      const tableName = await newTable({ ended: 1 })
      const store = newStore({ pool, tableName })
      await store.write('a', text(), inAnHour(), 'absent')
      expect((await store.scan(null, 10)).records.map(({ id }) => id)).toEqual(['a'])
      expect(await store.prune(10)).toBe(1)
    })

    test('where to connect', async () => {
      const { host, user } = { host: '127.0.0.1', user: 'root' }
      await works(newStore({ host, port: 3306, user, password: '', database: database.name, connectionLimit: 2 }))
    })

    test('close ends what the store opened, and a given pool if asked to', async () => {
      const connected = async (): Promise<number> =>
        (await database.rows('SELECT id FROM information_schema.processlist WHERE db = ?', [database.name])).length
      const before = await connected()
      const own = newStore({ host: '127.0.0.1', user: 'root', database: database.name })
      await own.read('a')
      expect(await connected()).toBe(before + 1)
      await own.close()
      await own.close()
      await expect.poll(connected).toBe(before)

      await newStore().close()
      expect(await database.rows('SELECT 1 AS one')).toEqual([{ one: 1 }])

      const pool = mysqlPromise.createPool(database.settings())
      const ending = newStore({ pool, endConnectionOnClose: true })
      await ending.read('a')
      await ending.close()
      await expect(pool.query('SELECT 1')).rejects.toThrow(/closed/)
    })

    test('a call whose connection is lost rejects, and the next one works', async () => {
      const tableName = await newTable({ ended: 1 })
      const store = newStore({ tableName, pool: database.newPool({ connectionLimit: 1 }) })
      await duringTransaction(database.pool, `SELECT * FROM ${tableName} FOR UPDATE`, async () => {
        const write = store.write('ended0', text(), inAnHour(), 'always')
        const lost = expect(write).rejects.toThrow(/closed|lost|killed|interrupted/i)
        await database.run(`KILL ${await blockedConnection(database)}`)
        await lost
      })
      expect(await store.write('ended0', text(), inAnHour(), 'absent')).not.toBeNull()
    })

    test('idle connections that were lost are replaced by the pool', async () => {
      const pool = database.newPool({ connectionLimit: 1 })
      const store = newStore({ pool })
      await store.read('a')
      const connection = await pool.getConnection()
      const closed = new Promise((resolve) => connection.connection.once('end', resolve))
      const { threadId } = connection
      connection.release()
      await database.run(`KILL ${threadId}`)
      await closed
      expect(await store.read('a')).toBeNull()
    })

    test('the loss of a single idle connection is told, and ends no process', async () => {
      const connection = mysql.createConnection(database.settings())
      let told: (message: unknown) => void
      const lost = new Promise((resolve) => (told = resolve))
      const store = newStore({ pool: connection, errorLog: (message) => told(message) })
      await store.read('a')
      await database.run(`KILL ${connection.threadId}`)
      expect(await lost).toMatch(/a connection was lost/)
      await expect(store.read('a')).rejects.toThrow(/closed/)
    })
  })

  describe('tables', () => {
    test('20 processes may make it at once', async () => {
      const tableName = unique()
      const writers = Array.from({ length: 20 }, (_, n) => {
        const store = newStore({ pool: database.newPool({ connectionLimit: 1 }), tableName })
        return Promise.all([store.write(`s${n}`, text(), inAnHour(), 'absent'), store.link('ada', `s${n}`, inAnHour())])
      })
      await Promise.all(writers)
      expect(await countIn(tableName)).toBe(20)
      expect(await newStore({ tableName }).linked('ada')).toHaveLength(20)
    })

    test('what fails is tried again, and a table dropped meanwhile is made anew', async () => {
      const other = unique()
      const store = newStore({ tableName: `${other}.sessions` })
      await expect(store.read('a')).rejects.toThrow(new RegExp(`Unknown database '${other}'`))
      await database.run(`CREATE DATABASE ${other}`)
      try {
        expect(await store.read('a')).toBeNull()
        await database.run(`DROP TABLE ${other}.sessions`)
        expect(await store.write('a', text(), inAnHour(), 'absent')).not.toBeNull()
      } finally {
        await database.run(`DROP DATABASE ${other}`)
      }
    })

    test('without createDatabaseTable, the error has the SQL to run', async () => {
      const store = newStore({ createDatabaseTable: false })
      const runSqlIn = async (work: Promise<unknown>): Promise<void> => {
        const error = await work.then(
          () => undefined,
          (error: Error) => error,
        )
        expect(error).toMatchObject({
          code: 'ERR_SESSION_OPTION',
          message: expect.stringContaining('set the option createDatabaseTable, or run:\n') as string,
        })
        const statements = (error as Error).message.replace(/^.*\n/, '').split(';')
        for (const sql of statements) if (sql.trim()) await database.run(sql)
      }
      await runSqlIn(store.read('a'))
      await store.write('a', text(), inAnHour(), 'absent')
      await runSqlIn(store.link('ada', 'a', inAnHour()))
      await store.link('ada', 'a', inAnHour())
      expect(await store.linked('ada')).toEqual(['a'])
    })

    test('a user who may change rows and make no tables needs no more', async () => {
      const tableName = await newTable()
      const user = unique()
      await database.run(`CREATE USER ${user}@'%' IDENTIFIED BY 'a password'`)
      await database.run(`GRANT SELECT, INSERT, UPDATE, DELETE ON ${database.name}.${tableName} TO ${user}@'%'`)
      const pool: Pool = mysqlPromise.createPool(database.settings({ user, password: 'a password' }))
      try {
        const store = newStore({ pool, tableName })
        await store.write('a', text(), inAnHour(), 'absent')
        expect(await store.remove('a')).toBe(true)
        await store.prune(10)
      } finally {
        await pool.end()
        await database.run(`DROP USER ${user}@'%'`)
      }
    })

    test('those of the documentation serve as well as those that it makes', async () => {
      const docs = readFileSync(path.join(__dirname, '../../docs/stores.md'), 'utf8')
      const [, sql = ''] = /## MySQL[^]*?```sql\n([^]*?)```/.exec(docs) ?? []
      const other = await openDatabase()
      try {
        for (const statement of sql.replace(/--.*/g, '').split(';')) if (statement.trim()) await other.run(statement)
        const store = newStore({ pool: other.pool, tableName: 'sessions', createDatabaseTable: false })
        expect(await store.check()).toEqual([])
        await store.write('a', text(), inAnHour(), 'absent')
        await store.link('ada', 'a', inAnHour())
        expect(await store.linked('ada')).toEqual(['a'])
        await store.close()
      } finally {
        await other.drop()
      }
    })

    test('names of any kind', async () => {
      const columnNames = { session_id: 'the `id`', expires: "it's", data: 'd"?"' }
      const store = newStore({ schema: { tableName: "My `table's`; -- ?", columnNames } })
      await store.write('live', text(), inAnHour(), 'absent')
      await store.write('ended', text(), anHourAgo(), 'absent')
      await store.link('ada', 'ended', anHourAgo())
      expect(await store.prune(10)).toBe(2)
      expect(await store.linked('ada')).toEqual([])
      expect((await store.scan(null, 10)).records.map(({ id }) => id)).toEqual(['live'])
    })
  })

  describe('pruning', () => {
    test('goes in steps, and keeps what lives', async () => {
      const tableName = await newTable({ ended: 1200 })
      const store = newStore({ tableName })
      await store.write('live', text(), inAnHour(), 'absent')
      const pruned = []
      for (let n = 0; n < 4; n++) pruned.push(await store.prune(500))
      expect(pruned).toEqual([500, 500, 200, 0])
      expect(await countIn(tableName)).toBe(1)
      await database.run(`INSERT INTO ${tableName} VALUES ('a first one', 1, '{}')`)
      expect(await store.prune(500)).toBe(1)
    })

    test('by several processes at a time counts every record once', async () => {
      const tableName = await newTable({ ended: 1200 })
      const pruned = await Promise.all([1, 2, 3, 4].map(() => newStore({ tableName }).prune(1000)))
      expect(pruned.reduce((sum, count) => sum + count)).toBe(1200 - (await countIn(tableName)))
    })

    test('waits for no record that lives', async () => {
      const tableName = await newTable({ ended: 3 })
      const store = newStore({ tableName })
      for (const id of ['a live one', 'zzz']) await store.write(id, text(), inAnHour(), 'absent')
      const write = `UPDATE ${tableName} SET data = '{}' WHERE session_id IN ('a live one', 'zzz')`
      await duringTransaction(database.pool, write, async () => {
        expect(await store.prune(10)).toBe(3)
      })
    })

    test('spares a record that is renewed meanwhile', async () => {
      const tableName = await newTable({ ended: 2 })
      const store = newStore({ tableName })
      const renewal = `UPDATE ${tableName} SET expires = 4102444800 WHERE session_id = 'ended0'`
      await duringTransaction(database.pool, renewal, async (commit) => {
        const pruned = store.prune(10)
        await blockedConnection(database)
        await commit()
        expect(await pruned).toBe(1)
      })
      expect(await store.read('ended0')).not.toBeNull()
    })

    test('happens by itself, again and again', async () => {
      const tableName = await newTable({ ended: 3 })
      const store = newStore({ tableName, checkExpirationInterval: 20 })
      expect(await store.read('ended0')).toBeNull()
      await expect.poll(() => countIn(tableName)).toBe(0)
      await database.run(`INSERT INTO ${tableName} VALUES ('more', 1, '{}')`)
      await expect.poll(() => countIn(tableName)).toBe(0)
    })

    test('tells what fails, and goes on, even if telling fails', async () => {
      const tableName = await newTable({ ended: 1 })
      let told: (error: unknown) => void
      const failure = new Promise((resolve) => (told = resolve))
      const store = newStore({
        tableName,
        createDatabaseTable: false,
        checkExpirationInterval: 20,
        errorLog: (_message, error) => {
          told(error)
          throw new Error('the log is full')
        },
      })
      await store.read('a')
      await database.run(`RENAME TABLE ${tableName} TO ${tableName}x`)
      expect(await failure).toMatchObject({ cause: { code: 'ER_NO_SUCH_TABLE' } })
      await database.run(`RENAME TABLE ${tableName}x TO ${tableName}`)
      await expect.poll(() => countIn(tableName)).toBe(0)
    })

    test('keeps no process alive', async () => {
      const program = `
        const { MysqlStore } = require(${JSON.stringify(path.join(__dirname, '../../dist/stores/mysql'))})
        const pool = require('mysql2').createPool(${JSON.stringify(database.settings())})
        const store = new MysqlStore({ pool, schema: { tableName: '${await newTable()}' } })
        store.read('a').then((record) => { console.log(record); pool.end() })`
      const { stdout } = await promisify(execFile)(process.execPath, ['-e', program], { cwd: __dirname })
      expect(stdout).toBe('null\n')
    })
  })

  describe("a user's sessions", () => {
    test('are asked for before there is any table', async () => {
      expect(await newStore().linked('ada')).toEqual([])
    })

    test('a link waits for its session to be written', async () => {
      const store = newStore()
      await store.link('ada', 'a', inAnHour())
      await store.prune(10)
      expect(await store.linked('ada')).toEqual(['a'])
      await store.write('a', text(), inAnHour(), 'absent')
      expect(await store.linked('ada')).toEqual(['a'])
    })

    test('a link lasts as long as its session is renewed', async () => {
      const store = newStore()
      await store.link('ada', 'a', anHourAgo())
      await store.write('a', text(), inAnHour(), 'absent')
      await store.prune(10)
      expect(await store.linked('ada')).toEqual(['a'])
    })

    test('a link whose session is gone leaves, when pruned or asked for', async () => {
      const tableName = unique()
      const store = newStore({ tableName })
      for (const user of ['ada', 'bob']) {
        await store.write(`${user}1`, text(), inAnHour(), 'absent')
        for (const id of [`${user}1`, `${user}2`]) await store.link(user, id, anHourAgo())
      }
      expect(await store.linked('ada')).toEqual(['ada1'])
      expect(await countIn(`${tableName}_user`)).toBe(3)
      await newStore({ tableName }).prune(10)
      expect(await countIn(`${tableName}_user`)).toBe(2)
    })

    test('removeAll takes the links along', async () => {
      const tableName = unique()
      const store = newStore({ tableName })
      await store.link('ada', 'a', inAnHour())
      await store.write('a', text(), inAnHour(), 'absent')
      await store.removeAll()
      expect([await countIn(tableName), await countIn(`${tableName}_user`)]).toEqual([0, 0])
    })

    test('links that have ended are pruned until none is left, and those of live sessions looked at once', async () => {
      const tableName = unique()
      const store = newStore({ tableName, checkExpirationInterval: 20 })
      const end = inAnHour()
      await store.write('live', text(), end, 'absent')
      await store.link('ada', 'live', anHourAgo())
      await database.run(
        `INSERT INTO ${tableName}_user SELECT concat('u', seq), concat('gone', seq), 1 FROM seq_1_to_2500`,
      )
      const left = () => database.rows(`SELECT expires FROM ${tableName}_user`)
      await expect.poll(left, { timeout: 20_000 }).toEqual([{ expires: Math.ceil(end / 1000) }])
    })

    test('pruning links waits for no session, and keeps none waiting', async () => {
      const tableName = unique()
      const store = newStore({ tableName })
      for (const id of ['a', 'b']) await store.write(id, text(), inAnHour(), 'absent')
      for (const id of ['a', 'b', 'gone']) await store.link('ada', id, anHourAgo())
      await duringTransaction(database.pool, `UPDATE ${tableName} SET data = '{}'`, async () => {
        expect(await store.prune(10)).toBe(3)
      })
      expect(await countIn(`${tableName}_user`)).toBe(2)
    })

    test('of 10,000 sessions are listed, and removed a few hundred at a time', async () => {
      const tableName = unique()
      const store = newStore({ tableName })
      await store.link('ada', 'one', anHourAgo())
      const end = Math.ceil(inAnHour() / 1000)
      await database.run(`DELETE FROM ${tableName}_user`)
      await store.count()
      await database.run(`INSERT INTO ${tableName} SELECT concat('s', seq), ${end}, '{}' FROM seq_1_to_10000`)
      await database.run(`INSERT INTO ${tableName}_user SELECT 'ada', concat('s', seq), ${end} FROM seq_1_to_10000`)
      const ids = await store.linked('ada')
      expect(ids).toHaveLength(10_000)
      for (let n = 0; n < ids.length; n += 500) {
        expect((await store.removeLinked('ada', ids.slice(n, n + 500))).every(Boolean)).toBe(true)
      }
      expect([await countIn(tableName), await countIn(`${tableName}_user`)]).toEqual([0, 0])
    })

    test('noted again, a link lasts until the later end', async () => {
      const store = newStore()
      await store.link('ada', 'a', inAnHour())
      await store.link('ada', 'a', anHourAgo())
      await store.prune(10)
      expect(await store.linked('ada')).toEqual(['a'])
    })

    test('users are told apart by every character', async () => {
      const store = newStore()
      for (const user of ['ada', 'Ada', 'ada ', 'àda']) await store.link(user, `of ${user}.`, inAnHour())
      for (const user of ['ada', 'Ada', 'ada ', 'àda']) expect(await store.linked(user)).toEqual([`of ${user}.`])
      await store.unlink('ada ', 'of ada .')
      expect(await store.linked('ada ')).toEqual([])
      expect(await store.linked('ada')).toEqual(['of ada.'])
    })
  })
})
