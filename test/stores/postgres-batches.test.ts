// @module-tag server
import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { PostgresStore, type PostgresQueryable, type PostgresStoreOptions } from '../../src/stores/postgres'
import { blockedBackend, duringTransaction, openSchema, unique, type Schema } from '../support/postgres'
import { describeWith } from '../support/servers'

const HOUR = 3_600_000
const text = (more: object = {}): string => JSON.stringify({ cookie: {}, ...more })
const inAnHour = (): number => Date.now() + HOUR
const names = (count: number): string[] => Array.from({ length: count }, (_, n) => `session ${n}`)

describeWith('postgres', 'PostgresStore, many at once', () => {
  let schema: Schema
  beforeAll(async () => {
    schema = await openSchema()
  })
  afterAll(() => schema.drop())

  const stores: PostgresStore[] = []
  afterEach(() => Promise.all(stores.splice(0).map((store) => store.close())))

  function newStore(options: PostgresStoreOptions = {}): PostgresStore {
    const store = new PostgresStore({
      pool: schema.pool,
      schemaName: schema.name,
      tableName: unique(),
      createTableIfMissing: true,
      ...options,
    })
    stores.push(store)
    return store
  }

  /** A store with some sessions, and a note of the statements that it issues from now on. */
  async function counted(ids: string[], options: PostgresStoreOptions = {}) {
    const statements: string[] = []
    const { pool = schema.pool } = options
    const query: PostgresQueryable['query'] = (sql, values) => {
      statements.push(sql)
      return pool.query(sql, values)
    }
    const store = newStore({ ...options, pool: { query } })
    const end = inAnHour()
    const versions = await Promise.all(ids.map((id) => store.write(id, text({ id }), end, 'absent')))
    statements.length = 0
    return { store, statements, end, versions: versions as string[] }
  }

  test('reads of one turn are one statement, and each gets a record of its own', async () => {
    const ids = names(20)
    const { store, statements } = await counted(ids)
    const asked = [...ids, 'missing', ...Array<string>(5).fill('session 3')]
    const records = await Promise.all(asked.map((id) => store.read(id)))
    expect(statements).toHaveLength(1)
    const found = records.map((record) => record && (JSON.parse(record.text) as { id: string }).id)
    expect(found).toEqual([...ids, null, ...Array<string>(5).fill('session 3')])
    expect(new Set(records).size).toBe(asked.length)
  })

  test('what is asked for once a read has been sent reads what was written before', async () => {
    const { store, versions } = await counted(['a'])
    const first = store.read('a')
    await new Promise((resolve) => setImmediate(resolve))
    const version = versions[0] as string
    await store.write('a', text({ id: 'b' }), inAnHour(), { version })
    expect((await store.read('a'))?.text).toBe(text({ id: 'b' }))
    await first
  })

  test('16 at a time that read and renew take at most 0.3 statements each', async () => {
    const ids = names(16)
    const { store, statements } = await counted(ids)
    const rounds = 20
    const renewed: Promise<boolean>[] = []
    for (let round = 0; round < rounds; round++) {
      const visit = async (id: string): Promise<void> => {
        const { expires } = (await store.read(id)) ?? { expires: 0 }
        renewed.push(store.renew(id, inAnHour(), expires))
      }
      await Promise.all(ids.map(visit))
    }
    await store.close()
    expect(new Set(await Promise.all(renewed))).toContain(true)
    expect(statements.length).toBeLessThanOrEqual(0.3 * rounds * ids.length)
  })

  test.each(['json', 'jsonb'])('each of many writes over %s has its own condition', async (column) => {
    const tableName = unique()
    await schema.pool.query(
      `CREATE TABLE ${tableName} (sid varchar PRIMARY KEY, sess ${column} NOT NULL, expire timestamp(6) NOT NULL)`,
    )
    const ids = names(30)
    const { store, statements, versions } = await counted(ids, { tableName })
    const written = await Promise.all(
      ids.map((id, n) => {
        const condition = n % 3 === 0 ? { version: versions[n] as string } : n % 3 === 1 ? { version: 'x' } : 'present'
        return store.write(n % 5 === 0 ? `no ${id}` : id, text({ n }), inAnHour(), condition)
      }),
    )
    expect(statements).toHaveLength(1)
    expect(written.map((version) => version !== null)).toEqual(ids.map((_, n) => n % 5 !== 0 && n % 3 !== 1))
    for (const [n, version] of written.entries()) {
      const record = await store.read(ids[n] as string)
      expect(JSON.parse(record?.text ?? '')).toMatchObject(version === null ? { id: ids[n] } : { n })
      if (version !== null) expect(record?.version).toBe(version)
    }
  })

  test('new sessions of one turn are one statement, and none takes the place of a live one', async () => {
    const { store, statements } = await counted(['session 1', 'session 3'])
    const written = await Promise.all(names(5).map((id) => store.write(id, text(), inAnHour(), 'absent')))
    expect(statements).toHaveLength(1)
    expect(written.map((version) => version !== null)).toEqual([true, false, true, false, true])
  })

  test('the text that the server refuses fails its own write, and no other', async () => {
    const { store } = await counted([])
    const texts = [...names(20).map((id) => text({ id })), '{not JSON', '"\ud800', text({ last: true })]
    const outcomes = await Promise.allSettled(texts.map((one, n) => store.write(`${n}`, one, inAnHour(), 'absent')))
    const failed = outcomes.flatMap(({ status }, n) => (status === 'rejected' ? [n] : []))
    expect(failed).toEqual([20, 21])
    expect(await store.count()).toBe(21)
  })

  test('processes that write and end the same sessions in other orders neither fail nor lose a condition', async () => {
    const tableName = unique()
    const ids = names(20)
    const [one, other] = [0, 1].map(() => newStore({ tableName, pool: schema.newPool() })) as [
      PostgresStore,
      PostgresStore,
    ]
    await Promise.all(ids.map((id) => one.write(id, text({ n: 0 }), inAnHour(), 'absent')))
    const increase = async (store: PostgresStore, id: string): Promise<void> => {
      for (;;) {
        const { text: before, version } = (await store.read(id)) as { text: string; version: string }
        const { n } = JSON.parse(before) as { n: number }
        if (await store.write(id, text({ n: n + 1 }), inAnHour(), { version })) return
      }
    }
    for (let round = 0; round < 10; round++) {
      await Promise.all([...ids.map((id) => increase(one, id)), ...ids.toReversed().map((id) => increase(other, id))])
    }
    const records = await one.readMany(ids)
    expect(records.map((record) => JSON.parse(record?.text ?? '') as object)).toEqual(
      ids.map(() => ({ cookie: {}, n: 20 })),
    )
    const removed = await Promise.all([
      ...ids.map((id) => one.remove(id)),
      ...ids.toReversed().map((id) => other.remove(id)),
    ])
    expect(removed.filter(Boolean)).toHaveLength(ids.length)
  })

  test('a renewal leaves a record alone that has been given another end, or is gone', async () => {
    const { store, statements, end } = await counted(['a', 'b', 'c', 'd'])
    const later = end + HOUR
    expect(await store.renew('a', later, end)).toBe(true)
    // These wait for others to go with: the write and the removal are faster.
    const waiting = ['b', 'c', 'd'].map((id) => store.renew(id, later, end))
    await store.write('b', text({ changed: true }), end - 1000, 'present')
    await store.remove('c')
    expect(await Promise.all(waiting)).toEqual([false, false, true])
    expect(statements).toHaveLength(4)
    const ends = await store.readMany(['a', 'b', 'c', 'd'])
    expect(ends.map((record) => record?.expires)).toEqual([later, end - 1000, undefined, later])
    // What another process has changed since it was read.
    expect(await store.renew('a', later + HOUR, end)).toBe(false)
  })

  test('close sends what waits', async () => {
    const { store, end } = await counted(['a', 'b'])
    await store.renew('a', end + HOUR, end)
    const renewed = store.renew('b', end + HOUR, end)
    await store.close()
    expect(await renewed).toBe(true)
  })

  test('so does the end of a process', async () => {
    const tableName = unique()
    const { store, end } = await counted(['a', 'b'], { tableName })
    const program = `
      const { PostgresStore } = require(${JSON.stringify(path.join(__dirname, '../../dist/stores/postgres'))})
      const pool = new (require('pg').Pool)(${JSON.stringify(schema.settings({ allowExitOnIdle: true }))})
      const store = new PostgresStore({ pool, tableName: '${tableName}' })
      store.renew('a', ${end + HOUR}, ${end}).then(() => void store.renew('b', ${end + HOUR}, ${end}))`
    await promisify(execFile)(process.execPath, ['-e', program], { cwd: __dirname })
    expect((await store.readMany(['a', 'b'])).map((record) => record?.expires)).toEqual([end + HOUR, end + HOUR])
  })

  test('a statement that is cancelled fails each of its reads once, and the next ones work', async () => {
    const tableName = unique()
    const { store } = await counted(names(5), { tableName, pool: schema.newPool({ max: 1 }) })
    await duringTransaction(schema.pool, `LOCK TABLE ${tableName}`, async () => {
      const reads = Promise.allSettled(names(5).map((id) => store.read(id)))
      await schema.pool.query('SELECT pg_cancel_backend($1)', [await blockedBackend(schema)])
      for (const outcome of await reads)
        expect(outcome).toMatchObject({ status: 'rejected', reason: { code: '57014' } })
    })
    expect(await store.readMany(names(5))).not.toContain(null)
  })

  test('so does one that takes longer than the statement timeout', async () => {
    const tableName = unique()
    const pool = schema.newPool({ max: 1, statement_timeout: 200 })
    const { store, versions } = await counted(names(5), { tableName, pool })
    const lock = `SELECT FROM ${tableName} WHERE sid = 'session 2' FOR UPDATE`
    const writeAll = (): Promise<PromiseSettledResult<string | null>[]> =>
      Promise.allSettled(
        versions.map((version, n) => store.write(`session ${n}`, text({ n }), inAnHour(), { version })),
      )
    await duringTransaction(schema.pool, lock, async () => {
      for (const outcome of await writeAll()) {
        expect(outcome).toMatchObject({ status: 'rejected', reason: { code: '57014' } })
      }
    })
    for (const outcome of await writeAll()) expect(outcome).toMatchObject({ value: expect.any(String) as string })
  })

  test('a pool of one connection is enough', async () => {
    const { store, versions, end } = await counted(names(10), { pool: schema.newPool({ max: 1 }) })
    const done = await Promise.all([
      ...names(10).map((id) => store.read(id)),
      ...versions.map((version, n) => store.write(`session ${n}`, text({ n }), end + 1, { version })),
      ...names(10).map((id) => store.renew(id, end + HOUR)),
      ...names(10).map((id) => store.link('ada', id, end)),
    ])
    expect(done).not.toContain(null)
    expect(await store.linked('ada')).toHaveLength(10)
  })

  test('what is large goes alone, and is stored whole', async () => {
    const { store, statements, versions } = await counted(names(3))
    const large = text({ large: 'x'.repeat(1_000_000) })
    const texts = [text({ n: 0 }), large, text({ n: 2 })]
    await Promise.all(
      texts.map((one, n) => store.write(`session ${n}`, one, inAnHour(), { version: versions[n] as string })),
    )
    expect(statements).toHaveLength(2)
    expect((await store.readMany(names(3))).map((record) => record?.text)).toEqual(texts)
  })

  test('a statement is the same for few and for many, and there are few', async () => {
    const { store, statements } = await counted(names(60))
    for (const count of [1, 2, 7, 60]) {
      const ids = names(count)
      const records = await Promise.all(ids.map((id) => store.read(id)))
      const each = (work: (id: string, n: number) => Promise<unknown>): Promise<unknown[]> => Promise.all(ids.map(work))
      await each((id, n) => store.write(id, text({ count }), inAnHour(), { version: records[n]?.version as string }))
      await each((id) => store.renew(id, inAnHour()))
      await each((id) => store.link('ada', id, inAnHour()))
      await each((id) => store.unlink('ada', id))
      await each((id) => store.remove(id))
      await each((id) => store.write(id, text(), inAnHour(), 'absent'))
    }
    const kinds = new Set(statements.filter((sql) => /unnest|ANY|WHERE sid = \$1/.test(sql)))
    // The write of a session has one for one and one for many.
    expect(kinds.size).toBe(8)
  })

  test('no batch is longer than a hundred', async () => {
    const sizes: number[] = []
    const pool: PostgresQueryable = {
      query: (sql, values) => {
        if (Array.isArray(values?.[0])) sizes.push(values[0].length)
        return schema.pool.query(sql, values)
      },
    }
    const store = newStore({ pool })
    await store.read('makes the table')
    sizes.length = 0
    await Promise.all(names(250).map((id) => store.read(id)))
    expect(sizes).toEqual([100, 100, 50])
  })
})
