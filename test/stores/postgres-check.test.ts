import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { findings, type Facts } from '../../src/stores/postgres-check'
import { namesOf } from '../../src/stores/postgres-sql'
import { PostgresStore, type PostgresStoreOptions } from '../../src/stores/postgres'
import { openSchema, unique, type Schema } from '../support/postgres'
import { describeWith } from '../support/servers'

const TIMES = { query_timeout: 5000, connectionTimeoutMillis: 5000 }

describeWith('postgres', 'check of PostgresStore', () => {
  let schema: Schema
  beforeAll(async () => {
    schema = await openSchema()
  })
  afterAll(() => schema.drop())

  const sql = (text: string): Promise<unknown> => schema.pool.query(text)

  async function check(options: PostgresStoreOptions = {}, settings: pg.PoolConfig = {}): Promise<string[]> {
    const pool = new pg.Pool(schema.settings({ ...TIMES, ...settings }))
    try {
      return await new PostgresStore({ pool, pruneSessionInterval: false, ...options }).check()
    } finally {
      await pool.end()
    }
  }

  /** A table that is not as it should be, and what is found; `finding` has the SQL that mends it behind a colon. */
  async function found(table: string, settings?: pg.PoolConfig): Promise<string[]> {
    const tableName = unique()
    await sql(table.replaceAll('session', tableName))
    const all = await check({ tableName }, settings)
    return all.map((finding) => finding.replaceAll(tableName, 'session').replaceAll(`"session"`, 'session'))
  }

  const GOOD = `CREATE TABLE session (sid varchar PRIMARY KEY, sess json NOT NULL, expire timestamptz NOT NULL);
    CREATE INDEX ON session (expire);`

  test('finds nothing where the store makes its tables, and a timestamp in UTC is fine', async () => {
    expect(await check({ tableName: unique(), createTableIfMissing: true })).toEqual([])
    expect(await found(GOOD)).toEqual([])
    expect(await found(GOOD.replace('timestamptz', 'timestamp'), { options: '-c timezone=Etc/UTC' })).toEqual([])
  })

  test('a missing table comes with the SQL that makes it', async () => {
    const tableName = unique()
    const [finding = ''] = await check({ tableName })
    expect(finding).toMatch(/^the table ".*" is missing: set the option createTableIfMissing, or run: CREATE TABLE/)
    await sql(finding.slice(finding.indexOf('CREATE')))
    expect(await check({ tableName })).toEqual([])
  })

  test('where it may make no table, that is found, too', async () => {
    const role = unique()
    await sql(`CREATE ROLE ${role} LOGIN; GRANT USAGE ON SCHEMA ${schema.name} TO ${role}`)
    expect(await check({ tableName: unique(), createTableIfMissing: true }, { user: role })).toEqual([
      expect.stringMatching(
        /^the table ".*" is missing, and this role may not make it \(permission denied.*\); run: CREATE/,
      ),
    ])
    await sql(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
  })

  test.each([
    [
      'a short sid',
      GOOD.replace('sid varchar', 'sid varchar(32)'),
      'the column sid of session is character varying(32)',
    ],
    [
      'a short sess',
      GOOD.replace('sess json', 'sess varchar(255)'),
      'the column sess of session is character varying(255)',
    ],
    ['a sess that is no text', GOOD.replace('sess json', 'sess bytea'), 'the column sess of session is bytea'],
    ['no key', GOOD.replace('PRIMARY KEY', ''), 'session has no unique index on sid, so that nothing can be stored'],
    ['no index', GOOD.replace(/CREATE INDEX.*/, ''), 'session has no index on expire'],
    [
      'no index of users',
      `${GOOD} CREATE TABLE session_user (user_id text, sid varchar, expire timestamptz, PRIMARY KEY (user_id, sid))`,
      'session_user" has no index on expire',
    ],
  ])('finds %s, and what mends it', async (_, table, finding) => {
    const all = await found(table)
    expect(all).toEqual([expect.stringContaining(finding)])
  })

  test('a table without time zones is mended by the SQL in the finding', async () => {
    const tableName = unique()
    const settings = { options: '-c timezone=Europe/Berlin' }
    await sql(GOOD.replaceAll('session', tableName).replace('timestamptz', 'timestamp'))
    const [finding = ''] = await check({ tableName }, settings)
    expect(finding).toContain('has no time zone, and the connections have Europe/Berlin')
    await sql(finding.slice(finding.indexOf('ALTER')))
    expect(await check({ tableName }, settings)).toEqual([])
  })

  test('finds rights that are missing', async () => {
    const [role, tableName] = [unique(), unique()]
    await sql(`${GOOD.replaceAll('session', tableName)}
      CREATE ROLE ${role} LOGIN; GRANT USAGE ON SCHEMA ${schema.name} TO ${role}; GRANT SELECT, INSERT ON ${tableName} TO ${role}`)
    const [finding = ''] = await check({ tableName }, { user: role })
    expect(finding).toContain(`GRANT UPDATE, DELETE ON "${tableName}" TO`)
    await sql(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
  })

  test('finds a server that only reads', async () => {
    expect(await found(GOOD, { options: '-c default_transaction_read_only=on' })).toEqual([
      expect.stringContaining('the server only reads'),
    ])
  })

  test('finds the settings of a pool with which requests may wait for ever, and a single Client', async () => {
    const without = { query_timeout: undefined, connectionTimeoutMillis: undefined } as unknown as pg.PoolConfig
    expect(await found(GOOD, { ...without, max: 1_000_000 })).toEqual([
      expect.stringContaining('set query_timeout: 5000'),
      expect.stringContaining('set connectionTimeoutMillis: 5000'),
      expect.stringContaining('the pool may open 1000000 connections'),
    ])
    const client = new pg.Client(schema.settings())
    await client.connect()
    const tableName = unique()
    await sql(GOOD.replaceAll('session', tableName))
    expect(await check({ tableName, pool: client })).toEqual([expect.stringContaining('pool is a single Client')])
    await client.end()
  })

  test('rejects where no server can be reached', async () => {
    await expect(check({}, { port: 1 })).rejects.toThrow(/ECONNREFUSED/)
  })
})

describe('what a server says', () => {
  const table = {
    columns: { user_id: 'text', sid: 'text', sess: 'json', expire: 'timestamp with time zone' },
    indexes: [
      { isUnique: true, columns: ['sid'] },
      { isUnique: false, columns: ['expire'] },
    ],
    lacking: null,
  }
  const facts: Facts = {
    version: 150_000,
    encoding: 'UTF8',
    isReadOnly: false,
    maxConnections: 100,
    zone: 'UTC',
    now: 1_000_000,
    sessions: table,
    users: null,
  }
  const pool = { query: () => Promise.reject(new Error('not asked')) }
  const of = (more: Partial<Facts>, asked = 1_000_000, answered = asked): string[] =>
    findings({ ...facts, ...more }, namesOf(undefined, 'session'), pool, asked, answered)

  test('of an old version and another encoding is told', () => {
    expect(of({})).toEqual([])
    expect(of({ version: 110_022 })).toEqual([expect.stringContaining('older than PostgreSQL 12')])
    expect(of({ encoding: 'LATIN1' })).toEqual([expect.stringContaining('encoded as LATIN1')])
  })

  test('of its clock is told when it is off, and not when its answer was slow', () => {
    expect(of({}, 1_005_000)).toEqual([expect.stringContaining('5 s behind this machine')])
    expect(of({}, 993_000)).toEqual([expect.stringContaining('7 s ahead of this machine')])
    expect(of({}, 993_000, 1_001_000)).toEqual([])
  })
})
