// @module-tag server
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { PostgresStore, type PostgresStoreOptions } from '../../src/stores/postgres'
import { openSchema, originalStore, unique, type Schema } from '../support/postgres'
import { describeWith } from '../support/servers'

const HOUR = 3_600_000
const ZONES = ['UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kolkata']
const text = '{"cookie":{}}'

describeWith('postgres', 'the times of PostgresStore', () => {
  let schema: Schema
  beforeAll(async () => {
    schema = await openSchema()
  })
  afterAll(() => schema.drop())

  const stores: PostgresStore[] = []
  afterEach(() => Promise.all(stores.splice(0).map((store) => store.close())))

  function newStore(zone: string, options: PostgresStoreOptions): PostgresStore {
    const pool = schema.newPool({ options: `-c timezone=${zone}` })
    const store = new PostgresStore({ pool, createTableIfMissing: true, ...options })
    stores.push(store)
    return store
  }

  async function newTable(type: string): Promise<string> {
    const table = unique()
    await schema.pool.query(
      `CREATE TABLE ${table} (sid varchar PRIMARY KEY, sess json NOT NULL, expire ${type} NOT NULL);
       CREATE TABLE ${table}_user (user_id text, sid varchar, expire ${type} NOT NULL, PRIMARY KEY (user_id, sid))`,
    )
    return table
  }

  test('a table that the store makes has them with their zone: connections of all zones agree on lifetimes', async () => {
    const tableName = unique()
    const all = ZONES.map((zone) => newStore(zone, { tableName }))
    const [first] = all as [PostgresStore]
    const end = Date.now() + HOUR / 2
    for (const [n, store] of all.entries()) {
      await store.write(`${n}`, text, end, 'absent')
      await store.link('ada', `${n}`, end)
    }
    for (const store of all) {
      expect((await store.readMany(['0', '1', '2', '3'])).map((record) => record?.expires)).toEqual(Array(4).fill(end))
      expect(await store.prune(10)).toBe(0)
      expect(await store.linked('ada')).toHaveLength(4)
    }
    expect(await first.renew('3', Date.now() - 1, end)).toBe(true)
    for (const store of all) expect(await store.read('3')).toBeNull()
  })

  describe.each(['timestamp(6)', 'timestamptz(6)'])('in a column of type %s', (type) => {
    test.each(ZONES)('both libraries agree, in %s', async (zone) => {
      const tableName = await newTable(type)
      const ours = newStore(zone, { tableName })
      const theirs = originalStore({ pool: schema.newPool({ options: `-c timezone=${zone}` }), tableName })
      const end = Math.ceil(Date.now() / 1000) * 1000 + HOUR
      await ours.write('ours', text, end, 'absent')
      await theirs.set('theirs', { cookie: { expires: new Date(end) } })
      const { rows } = await schema.pool.query(`SELECT count(DISTINCT expire)::int AS ends FROM ${tableName}`)
      expect(rows).toEqual([{ ends: 1 }])
      expect((await ours.read('theirs'))?.expires).toBe(end)
      expect(await theirs.get('ours')).toBeTruthy()
      await theirs.touch('ours', { cookie: { expires: new Date(end + HOUR) } })
      expect((await ours.read('ours'))?.expires).toBe(end + HOUR)
      await ours.renew('ours', Date.now() - 1)
      expect(await theirs.get('ours')).toBeFalsy()
    })
  })

  test('without a zone, those of the first connection are kept, whatever the next ones have', async () => {
    const tableName = await newTable('timestamp(6)')
    const pool = schema.newPool({ max: 1 })
    const store = newStore('', { pool, tableName })
    const end = Date.now() + HOUR / 2
    await pool.query(`SET TimeZone = 'Europe/Berlin'`)
    await store.write('a', text, end, 'absent')
    await store.link('ada', 'a', end)
    for (const zone of ZONES) {
      await pool.query(`SET TimeZone = '${zone}'`)
      expect((await store.read('a'))?.expires).toBe(end)
      expect(await store.prune(10)).toBe(0)
      expect(await store.linked('ada')).toEqual(['a'])
    }
    expect(await store.renew('a', end + 1, end)).toBe(true)
  })

  test('a column that is given a zone while the store works goes on', async () => {
    const tableName = await newTable('timestamp(6)')
    const store = newStore('America/New_York', { tableName })
    const end = Date.now() + HOUR / 2
    await store.write('a', text, end, 'absent')
    await schema.pool.query(
      `ALTER TABLE ${tableName} ALTER expire TYPE timestamptz USING expire AT TIME ZONE 'America/New_York'`,
    )
    expect((await store.read('a'))?.expires).toBe(end)
    await store.write('b', text, end, 'absent')
    // Pruning looks at the table again.
    expect(await store.prune(10)).toBe(0)
    expect((await store.readMany(['a', 'b'])).map((record) => record?.expires)).toEqual([end, end])
  })
})
