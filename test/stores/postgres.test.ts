import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import express from 'express'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import session from '../../src'
import { PostgresStore, type PostgresStoreOptions } from '../../src/stores/postgres'
import { gate, SECRET, withServer, type Answer } from '../support/app'
import { blockedBackend, duringTransaction, openSchema, originalStore, unique, type Schema } from '../support/postgres'
import { describeWith } from '../support/servers'

const HOUR = 3_600_000
const data = (more: object = {}): object => ({ cookie: { originalMaxAge: null, path: '/' }, ...more })
const text = (more: object = {}): string => JSON.stringify(data(more))
const inAnHour = (): number => Date.now() + HOUR
const anHourAgo = (): number => Date.now() - HOUR
const versions = (answers: unknown[]): unknown[] => answers.filter((version) => version !== null)

describe('options', () => {
  const pool = new pg.Pool()
  const make = (options: object): PostgresStore => new PostgresStore({ pool, ...options })

  test('somewhere to connect is needed', () => {
    const url = process.env['DATABASE_URL']
    delete process.env['DATABASE_URL']
    expect(() => new PostgresStore()).toThrow(/needs the option pool, conString or conObject, or .* DATABASE_URL/)
    process.env['DATABASE_URL'] = 'postgres://postgres@127.0.0.1/test'
    expect(() => new PostgresStore()).not.toThrow()
    if (url === undefined) delete process.env['DATABASE_URL']
    else process.env['DATABASE_URL'] = url
    expect(() => new PostgresStore({ pool: {} as never })).toThrow(/option pool must be a Pool or a Client of pg/)
  })
  test.each([
    [{ tableName: '' }, /option tableName must be a string/],
    [{ schemaName: '' }, /option schemaName must be a string/],
    [{ ttl: 0 }, /option ttl must be a positive number of seconds, or a function/],
    [{ ttl: '60' }, /option ttl .*; it is "60"/],
    [{ conString: 5 }, /PostgresStore: option conString must be a string that is not empty; it is 5/],
    [{ pruneSessionInterval: 0 }, /option pruneSessionInterval must be a positive number of seconds, or false/],
    [{ pruneSessionRandomizedInterval: 5 }, /option pruneSessionRandomizedInterval must be a function/],
    [{ pgPromise: {} }, /option pgPromise is not supported; give its Pool as pool: db\.\$pool/],
    [{ disableTouch: true }, /option disableTouch is not supported; give the middleware the option touchAfter/],
  ])('%j is refused', (options, message) => {
    expect(() => make(options)).toThrow(expect.objectContaining({ code: 'ERR_SESSION_OPTION' }))
    expect(() => make(options)).toThrow(message)
  })
  test('ttl, in seconds or as a function, is for sessions whose cookie has no expiry', () => {
    const near = (expires: number, seconds: number): void =>
      expect(Math.abs(expires - Date.now() - seconds * 1000)).toBeLessThan(1000)
    const cookie = {}
    near(make({}).expiresOf({ cookie }), 86_400)
    near(make({ ttl: 60 }).expiresOf({ cookie }), 60)
    const ttl = ({ role }: { role?: string }): number => (role === 'admin' ? 60 : 600)
    near(make({ ttl }).expiresOf({ cookie, role: 'admin' } as never), 60)
    near(make({ ttl }).expiresOf({ cookie }), 600)
    near(make({ ttl }).expiresOf({ cookie: { expires: new Date(Date.now() + 5000) } }), 5)
    near(make({ ttl }).expiresOf({ cookie: { expires: 'soon' } }), 600)
    near(make({ ttl }).expiresOf({}), 600)
    expect(() => make({ ttl: () => undefined }).expiresOf({ cookie })).toThrow(
      /option ttl must return a number of seconds; it returned undefined/,
    )
  })
})

describeWith('postgres', 'PostgresStore', () => {
  let schema: Schema
  beforeAll(async () => {
    schema = await openSchema()
  })
  afterAll(() => schema.drop())

  const stores: PostgresStore[] = []
  afterEach(() => Promise.all(stores.splice(0).map((store) => store.close())))

  function newStore(options: PostgresStoreOptions = {}): PostgresStore {
    const store = new PostgresStore({
      ...(!options.conObject && { pool: schema.pool }),
      tableName: unique(),
      schemaName: schema.name,
      createTableIfMissing: true,
      ...options,
    })
    stores.push(store)
    return store
  }

  /** A table as connect-pg-simple has it, with records that ended an hour ago. */
  async function newTable({ column = 'json', ended = 0 } = {}): Promise<string> {
    const table = unique()
    await schema.pool.query(
      `CREATE TABLE ${table} (sid varchar PRIMARY KEY, sess ${column} NOT NULL, expire timestamp(6) NOT NULL)`,
    )
    await schema.pool.query(
      `INSERT INTO ${table} SELECT 'ended' || n, $1, now() - interval '1 hour' FROM generate_series(1, ${ended}) n`,
      [text()],
    )
    return table
  }

  const countIn = async (table: string): Promise<number> =>
    Number((await schema.pool.query<{ count: string }>(`SELECT count(*) FROM ${table}`)).rows[0]?.count)

  describe.each(['json', 'jsonb'])('beside connect-pg-simple, with a %s column', (column) => {
    test('each reads, renews and deletes what the other wrote', async () => {
      const tableName = await newTable({ column })
      const [ours, theirs] = [newStore({ tableName }), originalStore({ pool: schema.pool, tableName })]
      const expires = new Date(Date.now() + HOUR)
      await theirs.set('theirs', { cookie: { expires, originalMaxAge: HOUR }, user: 'ada' })
      const record = await ours.read('theirs')
      expect(JSON.parse(record?.text ?? '')).toMatchObject({ user: 'ada' })
      expect(record?.expires).toBe(Math.ceil(expires.getTime() / 1000) * 1000)
      expect(await ours.remove('theirs')).toBe(true)
      expect(await theirs.get('theirs')).toBeFalsy()

      await ours.write('ours', text({ user: 'bob' }), expires.getTime(), 'absent')
      expect(await theirs.get('ours')).toMatchObject({ user: 'bob' })
      const later = new Date(Date.now() + 2 * HOUR)
      await theirs.touch('ours', { cookie: { expires: later } })
      expect((await ours.read('ours'))?.expires).toBe(Math.ceil(later.getTime() / 1000) * 1000)
      await ours.renew('ours', anHourAgo())
      expect(await theirs.get('ours')).toBeFalsy()
    })

    test('what the other wrote meanwhile is not written over', async () => {
      const tableName = await newTable({ column })
      const [ours, theirs] = [newStore({ tableName }), originalStore({ pool: schema.pool, tableName })]
      const version = await ours.write('a', text({ n: 1 }), inAnHour(), 'absent')
      await theirs.set('a', data({ n: 2 }))
      expect(await ours.write('a', text({ n: 3 }), inAnHour(), { version: version as string })).toBeNull()
      expect(await theirs.get('a')).toMatchObject({ n: 2 })
      const record = await ours.read('a')
      expect(await ours.write('a', text({ n: 3 }), inAnHour(), { version: record?.version as string })).not.toBeNull()
      expect(await theirs.get('a')).toMatchObject({ n: 3 })
    })

    test('the version of a write is that of a later read', async () => {
      const store = newStore({ tableName: await newTable({ column }) })
      const content = ' { "zebra": 1, "a": 1.50, "cookie": {}, "✓": "\\u0041" }'
      for (const condition of ['absent', 'present', 'always'] as const) {
        const version = await store.write('a', content, inAnHour(), condition)
        expect((await store.read('a'))?.version).toBe(version)
      }
    })

    test('of 50 writes over one version, one is made', async () => {
      const store = newStore({ tableName: await newTable({ column }) })
      const version = (await store.write('a', text(), inAnHour(), 'absent')) as string
      const writers = Array.from({ length: 50 }, (_, n) => store.write('a', text({ n }), inAnHour(), { version }))
      const written = versions(await Promise.all(writers))
      expect(written).toHaveLength(1)
      expect((await store.read('a'))?.version).toBe(written[0])
    })

    test('a logout under the old ID of a renewed session ends the session that goes on', async () => {
      const sessions = session({
        store: newStore({ tableName: await newTable({ column }) }),
        secret: SECRET,
        resave: false,
        saveUninitialized: false,
      })
      const [loaded, renewed] = [gate(), gate()]
      const app = express().use(sessions)
      app.get('/login', (req, res) => {
        Object.assign(req.session, { user: 'ada' })
        res.end()
      })
      app.get('/renew', (req, res) => sessions.renew(req).then(() => res.end()))
      app.get('/logout', async (req, res) => {
        loaded.open()
        await renewed.opened
        await req.session.destroy()
        res.end()
      })
      app.get('/user', (req, res) => void res.send((req.session as { user?: string }).user ?? 'nobody'))
      await withServer(app, async ({ get }) => {
        const cookieOf = ({ headers }: Answer): { cookie: string } => ({ cookie: headers['set-cookie']?.[0] as string })
        const old = cookieOf(await get('/login'))
        const logout = get('/logout', old)
        await loaded.opened
        const current = cookieOf(await get('/renew', old))
        expect((await get('/user', current)).body).toBe('ada')
        renewed.open()
        await logout
        expect((await get('/user', current)).body).toBe('nobody')
      })
    })

    test('a megabyte, and characters of every kind', async () => {
      const store = newStore({ tableName: await newTable({ column }) })
      for (const value of ['x'.repeat(1_000_000), '漢字 🙂 \u2028 \u0001 "\'\\ $1 :a ?']) {
        await store.write('a', text({ value }), inAnHour(), 'always')
        expect(JSON.parse((await store.read('a'))?.text ?? '')).toMatchObject({ value })
      }
    })
  })

  test.each(['varchar(100)', 'char(100)'])(
    'a column of %s refuses what it cannot hold, and cuts nothing',
    async (column) => {
      const store = newStore({ tableName: await newTable({ column }) })
      const version = (await store.write('a', text(), inAnHour(), 'absent')) as string
      const long = text({ long: 'x'.repeat(100) })
      await expect(store.write('a', long, inAnHour(), { version })).rejects.toThrow(/too long/)
      await expect(store.write('b', long, inAnHour(), 'absent')).rejects.toThrow(/too long/)
      expect((await store.read('a'))?.text.trimEnd()).toBe(text())
    },
  )

  test('an ID that the column cannot hold is refused, too', async () => {
    const tableName = unique()
    await schema.pool.query(`CREATE TABLE ${tableName} (sid varchar(4) PRIMARY KEY, sess json, expire timestamptz)`)
    const store = newStore({ tableName })
    await expect(store.write('12345', text(), inAnHour(), 'absent')).rejects.toThrow(/too long/)
    expect(await store.read('12345')).toBeNull()
  })

  test('json keeps half of a surrogate pair, and jsonb refuses it', async () => {
    const half = JSON.stringify({ cookie: {}, value: '\ud83d' })
    const json = newStore({ tableName: await newTable() })
    await json.write('a', half, inAnHour(), 'absent')
    expect((await json.read('a'))?.text).toBe(half)
    const jsonb = newStore({ tableName: await newTable({ column: 'jsonb' }) })
    await expect(jsonb.write('a', half, inAnHour(), 'absent')).rejects.toThrow(/invalid input syntax for type json/)
  })

  test('json keeps U+0000, and jsonb refuses it', async () => {
    const json = newStore({ tableName: await newTable() })
    await json.write('a', text({ value: '\0' }), inAnHour(), 'absent')
    expect(JSON.parse((await json.read('a'))?.text ?? '')).toMatchObject({ value: '\0' })
    const jsonb = newStore({ tableName: await newTable({ column: 'jsonb' }) })
    await expect(jsonb.write('a', text({ value: '\0' }), inAnHour(), 'absent')).rejects.toThrow(/unicode escape/i)
    expect(await jsonb.read('a')).toBeNull()
  })

  describe.each(['read committed', 'repeatable read', 'serializable'])('where transactions are %s', (level) => {
    const newPool = (): pg.Pool =>
      schema.newPool({ options: `-c default_transaction_isolation=${level.replace(' ', '\\ ')}` })

    test('who loses a race is told so, and nothing fails', async () => {
      const store = newStore({ pool: newPool() })
      const race = <T>(run: (n: number) => Promise<T>): Promise<T[]> =>
        Promise.all(Array.from({ length: 20 }, (_, n) => run(n)))
      const end = inAnHour()
      expect(versions(await race((n) => store.write('a', text({ n }), end, 'absent')))).toHaveLength(1)
      const version = (await store.read('a'))?.version as string
      expect(versions(await race((n) => store.write('a', text({ m: n }), end, { version })))).toHaveLength(1)
      expect(versions(await race((n) => store.write('a', text({ n }), end, 'always')))).toHaveLength(20)
      expect(await race((n) => store.renew('a', end + n))).not.toContain(false)
      expect((await race(() => store.remove('a'))).filter(Boolean)).toHaveLength(1)
      await race((n) => store.link('ada', 'a', end + n))
      expect(await store.linked('ada')).toEqual(['a'])
    })
  })

  test("in an application's own transaction nothing can be issued again, and it is told the cause", async () => {
    const tableName = await newTable({ ended: 1 })
    const client = new pg.Client(schema.settings())
    await client.connect()
    await client.query(`BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM ${tableName}`)
    await newStore({ tableName }).write('ended1', text(), inAnHour(), 'always')
    const write = newStore({ tableName, pool: client }).write('ended1', text(), inAnHour(), 'always')
    await expect(write).rejects.toMatchObject({ code: '40001' })
    await client.end()
  })

  test('what a deadlock rolls back is issued again', async () => {
    const tableName = await newTable({ ended: 2 })
    const lock = (id: string): string => `SELECT FROM ${tableName} WHERE sid = '${id}' FOR UPDATE`
    const client = await schema.pool.connect()
    await client.query(`BEGIN; SET LOCAL deadlock_timeout = '1min'; ${lock('ended2')}`)
    const removal = newStore({ tableName, pool: schema.newPool() }).removeAll()
    await blockedBackend(schema)
    await Promise.all([removal, client.query(`${lock('ended1')}; COMMIT`)])
    client.release()
    expect(await countIn(tableName)).toBe(0)
  })

  test('ends are kept to the millisecond', async () => {
    const store = newStore()
    const expires = 4_102_444_799_123
    await store.write('a', text(), expires, 'absent')
    expect((await store.read('a'))?.expires).toBe(expires)
  })

  test('of 50 that take the place of an expired record, one does', async () => {
    const tableName = await newTable({ ended: 1 })
    const store = newStore({ tableName })
    const writers = Array.from({ length: 50 }, (_, n) => store.write('ended1', text({ n }), inAnHour(), 'absent'))
    expect(versions(await Promise.all(writers))).toHaveLength(1)
  })

  describe('tables', () => {
    test('20 processes may make it at once', async () => {
      const tableName = unique()
      const writers = Array.from({ length: 20 }, (_, n) => {
        const store = newStore({ pool: schema.newPool({ max: 1 }), tableName })
        return Promise.all([store.write(`s${n}`, text(), inAnHour(), 'absent'), store.link('ada', `s${n}`, inAnHour())])
      })
      await Promise.all(writers)
      expect(await countIn(tableName)).toBe(20)
      expect(await newStore({ tableName }).linked('ada')).toHaveLength(20)
    })

    test.each(['23505', '42P07', '42710'])(
      'one that another process makes meanwhile, told by %s, is taken',
      async (code) => {
        const pool = schema.newPool()
        const query = pool.query.bind(pool) as (text: string, values?: unknown[]) => Promise<pg.QueryResult>
        const told: string[] = []
        const meanwhile = async (text: string, values?: unknown[]): Promise<pg.QueryResult> => {
          if (!text.startsWith('CREATE') || told.includes(text)) return query(text, values)
          told.push(text)
          await query(text)
          throw Object.assign(new Error('taken'), { code })
        }
        const store = newStore({ pool: { query: meanwhile } })
        expect(await store.write('a', text(), inAnHour(), 'absent')).not.toBeNull()
        await store.link('ada', 'a', inAnHour())
        expect(await store.linked('ada')).toEqual(['a'])
        expect(told).toHaveLength(2)
      },
    )

    test('connect-pg-simple lives with the one that is made', async () => {
      const tableName = unique()
      await newStore({ tableName }).write('a', text(), inAnHour(), 'absent')
      const theirs = originalStore({ pool: schema.pool, tableName, createTableIfMissing: true })
      await theirs.set('b', data())
      expect(await theirs.get('a')).toBeTruthy()
      const { rows } = await schema.pool.query(`SELECT indexdef FROM pg_indexes WHERE tablename = $1`, [tableName])
      expect(rows).toContainEqual({ indexdef: expect.stringMatching(/\(expire\)$/) as string })
    })

    test('what fails is tried again, and a table dropped meanwhile is made anew', async () => {
      const schemaName = unique()
      const store = newStore({ schemaName, tableName: 'session' })
      await expect(store.read('a')).rejects.toThrow(new RegExp(`schema "${schemaName}" does not exist`))
      await schema.pool.query(`CREATE SCHEMA ${schemaName}`)
      expect(await store.read('a')).toBeNull()
      await schema.pool.query(`DROP TABLE ${schemaName}.session`)
      expect(await store.write('a', text(), inAnHour(), 'absent')).not.toBeNull()
      await schema.pool.query(`DROP SCHEMA ${schemaName} CASCADE`)
    })

    test('without createTableIfMissing, the error has the SQL to run', async () => {
      const store = newStore({ createTableIfMissing: false })
      const sqlIn = async (work: Promise<unknown>): Promise<string> => {
        const error = await work.then(
          () => undefined,
          (error: Error) => error,
        )
        expect(error).toMatchObject({
          code: 'ERR_SESSION_OPTION',
          message: expect.stringContaining('set the option createTableIfMissing, or run:\n') as string,
        })
        return (error as Error).message.replace(/^.*\n/, '')
      }
      await schema.pool.query(await sqlIn(store.read('a')))
      await store.write('a', text(), inAnHour(), 'absent')
      await schema.pool.query(await sqlIn(store.link('ada', 'a', inAnHour())))
      await store.link('ada', 'a', inAnHour())
      expect(await store.linked('ada')).toEqual(['a'])
    })

    test('a user who may change rows and make no tables needs no more', async () => {
      const tableName = await newTable()
      const role = unique()
      await schema.pool.query(`CREATE ROLE ${role} LOGIN; GRANT USAGE ON SCHEMA ${schema.name} TO ${role};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ${tableName} TO ${role}`)
      const pool = new pg.Pool(schema.settings({ user: role }))
      try {
        const store = newStore({ pool, tableName })
        await store.write('a', text(), inAnHour(), 'absent')
        expect(await store.prune(10)).toBe(0)
        expect(await store.remove('a')).toBe(true)
      } finally {
        await pool.end()
        await schema.pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
      }
    })

    test('names of any kind', async () => {
      const schemaName = `${schema.name}'"; DROP`
      await schema.pool.query(`CREATE SCHEMA "${schemaName.replaceAll('"', '""')}"`)
      const pool = schema.newPool({ query_timeout: 5000, connectionTimeoutMillis: 5000 })
      const store = newStore({ pool, schemaName, tableName: `My "table's"; --.` })
      await store.write('live', text(), inAnHour(), 'absent')
      await store.write('ended', text(), anHourAgo(), 'absent')
      await store.link('ada', 'ended', anHourAgo())
      expect(await store.check()).toEqual([])
      expect(await store.prune(10)).toBe(2)
      expect(await store.linked('ada')).toEqual([])
      expect((await store.scan(null, 10)).records.map(({ id }) => id)).toEqual(['live'])
      await schema.pool.query(`DROP SCHEMA "${schemaName.replaceAll('"', '""')}" CASCADE`)
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
    })

    test('is left to another process that is at it', async () => {
      const tableName = await newTable({ ended: 3 })
      const [one, other] = [newStore({ tableName, pool: schema.newPool() }), newStore({ tableName })]
      const lock = `SELECT FROM ${tableName} WHERE sid = 'ended2' FOR UPDATE`
      await duringTransaction(schema.pool, lock, async (commit) => {
        const pruned = one.prune(10)
        await blockedBackend(schema)
        expect(await other.prune(10)).toBe(0)
        await commit()
        expect(await pruned).toBe(3)
      })
    })

    test('spares a record that is renewed meanwhile', async () => {
      const tableName = await newTable({ ended: 2 })
      const store = newStore({ tableName })
      const renewal = `UPDATE ${tableName} SET expire = now() + interval '1 hour' WHERE sid = 'ended1'`
      await duringTransaction(schema.pool, renewal, async (commit) => {
        const pruned = store.prune(10)
        await blockedBackend(schema)
        await commit()
        expect(await pruned).toBe(1)
      })
      expect(await store.read('ended1')).not.toBeNull()
    })

    test('happens by itself, again and again, at the pauses asked for', async () => {
      const tableName = await newTable({ ended: 3 })
      const asked: number[] = []
      const store = newStore({
        tableName,
        pruneSessionInterval: 60,
        pruneSessionRandomizedInterval: (interval) => (asked.push(interval), 10),
      })
      expect(await store.read('ended1')).toBeNull()
      await expect.poll(() => countIn(tableName)).toBe(0)
      await schema.pool.query(`INSERT INTO ${tableName} VALUES ('more', $1, now() - interval '1 hour')`, [text()])
      await expect.poll(() => countIn(tableName)).toBe(0)
      expect(new Set(asked)).toEqual(new Set([60_000]))
    })

    test('tells what fails, and goes on, even if telling fails', async () => {
      const tableName = await newTable({ ended: 1 })
      let told: (error: unknown) => void
      const failure = new Promise((resolve) => (told = resolve))
      const store = newStore({
        tableName,
        createTableIfMissing: false,
        pruneSessionRandomizedInterval: () => 10,
        errorLog: (_message, error) => {
          told(error)
          throw new Error('the log is full')
        },
      })
      await store.read('a')
      await schema.pool.query(`ALTER TABLE ${tableName} RENAME TO ${tableName}x`)
      expect(await failure).toMatchObject({ cause: { code: '42P01' } })
      await schema.pool.query(`ALTER TABLE ${tableName}x RENAME TO ${tableName}`)
      await expect.poll(() => countIn(tableName)).toBe(0)
    })

    test('keeps no process alive', async () => {
      const program = `
        const { PostgresStore } = require(${JSON.stringify(path.join(__dirname, '../../dist/stores/postgres'))})
        const pool = new (require('pg').Pool)(${JSON.stringify(schema.settings({ allowExitOnIdle: true }))})
        new PostgresStore({ pool, tableName: '${await newTable()}' }).read('a').then((record) => console.log(record))`
      const { stdout } = await promisify(execFile)(process.execPath, ['-e', program], { cwd: __dirname })
      expect(stdout).toBe('null\n')
    })
  })

  describe('connections', () => {
    const backendsOf = async (name: string): Promise<number> =>
      (await schema.pool.query('SELECT FROM pg_stat_activity WHERE application_name = $1', [name])).rows.length

    test('the store ends those it opened, and no others', async () => {
      const name = unique()
      const own = newStore({ conObject: schema.settings({ application_name: name }) })
      await own.read('a')
      expect(await backendsOf(name)).toBe(1)
      await own.close()
      await own.close()
      await expect.poll(() => backendsOf(name)).toBe(0)
      const given = newStore()
      await given.close()
      expect((await schema.pool.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    })

    test('a URL will do', async () => {
      const store = new PostgresStore({
        conString: 'postgres://postgres@127.0.0.1/test',
        schemaName: schema.name,
        tableName: await newTable(),
      })
      stores.push(store)
      expect(await store.read('a')).toBeNull()
    })

    test('a Client will do', async () => {
      const client = new pg.Client(schema.settings())
      await client.connect()
      const store = newStore({ pool: client })
      await Promise.all(['a', 'b'].map((id) => store.write(id, text(), inAnHour(), 'absent')))
      expect(await store.count()).toBe(2)
      await client.end()
    })

    test('of calls whose connection is lost, a read is asked for again and a write rejects', async () => {
      const tableName = await newTable()
      const store = newStore({ tableName, pool: schema.newPool({ max: 1 }), errorLog: () => undefined })
      const cut = async (): Promise<unknown> =>
        schema.pool.query('SELECT pg_terminate_backend($1)', [await blockedBackend(schema)])
      await duringTransaction(schema.pool, `LOCK TABLE ${tableName}`, async (commit) => {
        const lost = expect(store.write('a', text(), inAnHour(), 'absent')).rejects.toThrow(/terminating connection/)
        await cut()
        await lost
        const read = store.read('a')
        await cut()
        await commit()
        expect(await read).toBeNull()
      })
      expect(await store.write('a', text(), inAnHour(), 'absent')).not.toBeNull()
    })

    test('a Client that was never connected is an error, not a wait without end', async () => {
      const client = new pg.Client(schema.settings())
      const store = newStore({ pool: client })
      await expect(store.read('a')).rejects.toThrow(/the Client given as pool is not connected: await client\.connect/)
      await client.connect()
      expect(await store.read('a')).toBeNull()
      await client.end()
    })

    test('where the server refuses to write, reading and listing work', async () => {
      const tableName = unique()
      const writable = newStore({ tableName })
      await writable.link('ada', 'a', inAnHour())
      await writable.write('a', text({ n: 1 }), inAnHour(), 'absent')
      const store = newStore({ tableName, pool: schema.newPool({ options: '-c default_transaction_read_only=on' }) })
      const record = await store.read('a')
      expect(record?.text).toBe(text({ n: 1 }))
      await expect(store.renew('a', inAnHour(), record?.expires)).rejects.toMatchObject({ code: '25006' })
      expect(await store.linked('ada')).toEqual(['a'])
      expect(await store.readMany(['a'])).toEqual([record])
      expect((await store.scan(null, 10)).records).toHaveLength(1)
    })

    test('the loss of idle connections is told, and ends no process', async () => {
      const name = unique()
      const kill = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '${name}'`
      for (const given of [true, false]) {
        let told: (message: unknown) => void
        const lost = new Promise((resolve) => (told = resolve))
        const settings = schema.settings({ application_name: name })
        const pool = given ? new pg.Pool(settings) : undefined
        const store = newStore({ ...(pool ? { pool } : { conObject: settings }), errorLog: (message) => told(message) })
        await store.read('a')
        await schema.pool.query(kill)
        expect(await lost).toMatch(/an idle connection was lost/)
        expect(await store.read('a')).toBeNull()
        await store.close()
        await pool?.end()
      }
    })

    test('an application that listens itself is not told twice', async () => {
      const name = unique()
      const pool = new pg.Pool(schema.settings({ application_name: name }))
      const logged: unknown[] = []
      const store = newStore({ pool, errorLog: (message) => logged.push(message) })
      const heard = new Promise((resolve) => pool.on('error', resolve))
      await store.read('a')
      await schema.pool.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '${name}'`,
      )
      expect(await heard).toBeInstanceOf(Error)
      expect(logged).toEqual([])
      await pool.end()
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

    test('a link whose session is gone is not given, and leaves when pruned', async () => {
      const tableName = unique()
      const store = newStore({ tableName })
      for (const user of ['ada', 'bob']) {
        await store.write(`${user}1`, text(), inAnHour(), 'absent')
        for (const id of [`${user}1`, `${user}2`]) await store.link(user, id, anHourAgo())
      }
      expect(await store.linked('ada')).toEqual(['ada1'])
      expect(await countIn(`${tableName}_user`)).toBe(4)
      await newStore({ tableName }).prune(10)
      expect(await countIn(`${tableName}_user`)).toBe(2)
    })

    test('noted again, a link lasts until the later end', async () => {
      const store = newStore()
      await store.link('ada', 'a', inAnHour())
      await store.link('ada', 'a', anHourAgo())
      await store.prune(10)
      expect(await store.linked('ada')).toEqual(['a'])
    })

    test('links that have ended go in steps, and those of living sessions are moved to the end of them', async () => {
      const tableName = unique()
      const store = newStore({ tableName, pool: schema.newPool({ statement_timeout: 5000 }) })
      await store.link('ada', 'waits', inAnHour())
      expect(await store.count()).toBe(0)
      await schema.pool.query(
        `INSERT INTO ${tableName}_user SELECT 'gone', n, now() - interval '1 hour' FROM generate_series(1, 1200) n;
         INSERT INTO ${tableName}_user SELECT 'live', 's' || n, now() - interval '1 hour' FROM generate_series(1, 300) n;
         INSERT INTO ${tableName} SELECT 's' || n, '${text()}', now() + interval '1 hour' FROM generate_series(1, 300) n`,
      )
      const pruned = []
      for (let n = 0; n < 5; n++) pruned.push(await store.prune(500))
      expect(pruned).toEqual([500, 500, 500, 0, 0])
      expect(await countIn(`${tableName}_user`)).toBe(301)
      expect(await store.linked('live')).toHaveLength(300)
      const { rows } = await schema.pool.query(
        `SELECT count(*)::int AS apart FROM ${tableName}_user u JOIN ${tableName} t USING (sid) WHERE u.expire <> t.expire`,
      )
      expect(rows).toEqual([{ apart: 0 }])
    })

    test('a link that is noted again while it is pruned stays', async () => {
      const tableName = unique()
      const store = newStore({ tableName, schemaName: schema.name })
      for (const id of ['a', 'b']) await store.link('ada', id, anHourAgo())
      const again = `UPDATE ${tableName}_user SET expire = now() + interval '1 hour' WHERE sid = 'a'`
      await duringTransaction(schema.pool, again, async (commit) => {
        const pruned = store.prune(10)
        await blockedBackend(schema)
        await commit()
        expect(await pruned).toBe(1)
      })
      expect(await store.linked('ada')).toEqual(['a'])
    })

    test('clear leaves none', async () => {
      const tableName = unique()
      const store = newStore({ tableName })
      await store.link('ada', 'a', inAnHour())
      await store.write('a', text(), inAnHour(), 'absent')
      await store.clear()
      expect(await countIn(`${tableName}_user`)).toBe(0)
      expect(await store.count()).toBe(0)
    })

    test('users are told apart by every character', async () => {
      const store = newStore()
      for (const user of ['ada', 'Ada', 'ada ', 'àda']) await store.link(user, `of ${user}`, inAnHour())
      for (const user of ['ada', 'Ada', 'ada ', 'àda']) expect(await store.linked(user)).toEqual([`of ${user}`])
      await store.unlink('ada ', 'of ada ')
      expect(await store.linked('ada ')).toEqual([])
      expect(await store.linked('ada')).toEqual(['of ada'])
    })
  })
})
