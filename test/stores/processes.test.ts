// @module-tag slow
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { createClient } from 'redis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startDynamoDB, type DynamoDB } from '../support/dynamodb'
import { describeWith } from '../support/servers'
import { openShops, type Kind, type Library, type Shop } from '../support/shops'

const MANY = process.env['THOROUGH'] ? 1000 : 300

const unique = (): string => 'p' + randomBytes(6).toString('hex')

/** 200 requests at once on four processes, each setting a key of its own: how many of the keys are there at the end. */
async function keysKept(shops: Shop[], count = 200): Promise<number> {
  const { cookie } = await (shops[0] as Shop).visit('/login')
  const requests = Array.from({ length: count }, (_, n) => (shops[n % 4] as Shop).visit(`/set/key${n}`, cookie))
  expect(new Set((await Promise.all(requests)).map(({ status }) => status))).toEqual(new Set([200]))
  const session = JSON.parse((await (shops[0] as Shop).visit('/me', cookie)).body) as object
  return Object.keys(session).filter((key) => key.startsWith('key')).length
}

interface Counts {
  keys: number
  updates: number
  logouts: number
}

function fourProcesses(
  kind: Kind,
  name: string,
  { keys, updates, logouts }: Counts = { keys: 200, updates: MANY, logouts: MANY },
): void {
  let shops: Shop[] = []
  beforeAll(async () => {
    shops = await openShops(4, 'sessile', kind, name)
  })
  afterAll(() => shops.forEach((shop) => shop.close()))

  test(`${keys} requests at once, each with a key of its own: ${keys} keys`, async () => {
    expect(await keysKept(shops, keys)).toBe(keys)
  }, 120_000)

  test(`${updates} updates at once, each adding one: exactly ${updates}`, async () => {
    const { cookie } = await (shops[0] as Shop).visit('/login')
    const adds = Array.from({ length: updates }, (_, n) => (shops[n % 4] as Shop).visit('/add', cookie))
    expect(new Set((await Promise.all(adds)).map(({ body }) => body))).toEqual(new Set(['added']))
    expect(JSON.parse((await (shops[1] as Shop).visit('/me', cookie)).body)).toMatchObject({ count: updates })
  }, 120_000)

  test(`${logouts} logouts, each racing with a slow request that writes: no session comes back`, async () => {
    let back = 0
    const round = async (n: number): Promise<void> => {
      const [one, two] = [shops[n % 4] as Shop, shops[(n + 1) % 4] as Shop]
      const { cookie } = await one.visit('/login')
      const slow = one.visit(`/slow/${n % 12}`, cookie)
      const [, out] = await Promise.all([slow, two.visit('/logout', cookie)])
      expect(out.body).toBe('out')
      const after = JSON.parse((await two.visit('/me', cookie)).body) as { user?: string; slow?: number }
      if (after.user !== undefined || after.slow !== undefined) back++
    }
    for (let n = 0; n < logouts; n += 20) await Promise.all(Array.from({ length: 20 }, (_, i) => round(n + i)))
    expect(back).toBe(0)
  }, 120_000)
}

/** For the record: what the original keeps of the 200, with the store that people use. */
function forTheRecord(library: Library, kind: Kind, name: string): void {
  test('express-session beside it keeps fewer', async () => {
    const shops = await openShops(4, library, kind, name)
    const kept = await keysKept(shops)
    shops.forEach((shop) => shop.close())
    console.log(`${kind}: express-session keeps ${kept} of 200 keys, sessile 200`)
    expect(kept).toBeLessThan(200)
  })
}

describeWith('redis', 'Redis, four processes', () => {
  const name = unique()
  afterAll(async () => {
    const client = await createClient().connect()
    for await (const keys of client.scanIterator({ MATCH: `${name}*` })) if (keys.length) await client.del(keys)
    client.destroy()
  })
  fourProcesses('redis', name)
  forTheRecord('express-session', 'redis', name + 'x')
})

describeWith('postgres', 'PostgreSQL, four processes', () => {
  const name = unique()
  afterAll(async () => {
    const client = new pg.Client({ host: '127.0.0.1', user: 'postgres', database: 'test' })
    await client.connect()
    await client.query(`DROP TABLE IF EXISTS ${name}; DROP TABLE IF EXISTS ${name}x`)
    await client.end()
  })
  fourProcesses('postgres', name)
  forTheRecord('express-session', 'postgres', name + 'x')
})

describeWith('mysql', 'MariaDB, four processes', () => {
  const name = unique()
  afterAll(async () => {
    const connection = await mysql.createConnection({ host: '127.0.0.1', user: 'root', database: 'test' })
    await connection.query(`DROP TABLE IF EXISTS ${name}, ${name}x`)
    await connection.end()
  })
  fourProcesses('mysql', name)
  forTheRecord('express-session', 'mysql', name + 'x')
})

describe('SQLite, four processes on one file', () => {
  const file = path.join(tmpdir(), `${unique()}.db`)
  afterAll(() => {
    for (const end of ['', '-wal', '-shm']) rmSync(file + end, { force: true })
  })
  fourProcesses('sqlite', file)
})

describe('DynamoDB, four processes', () => {
  let dynamodb: DynamoDB
  beforeAll(async () => {
    dynamodb = await startDynamoDB()
    Object.assign(process.env, dynamodb.env)
  })
  afterAll(() => dynamodb.close())
  // Fewer, as the server is a program of one thread, and made for tests.
  fourProcesses('dynamodb', unique(), { keys: 40, updates: 80, logouts: 200 })
})
