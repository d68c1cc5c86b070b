// @module-tag slow
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { createClient } from 'redis'
import { startDynamoDB, type DynamoDB } from '../support/dynamodb'
import { describeWith } from '../support/servers'
import { openShop, type Kind, type Library } from '../support/shops'

const name = 's' + randomBytes(6).toString('hex')

async function inShop<T>(
  library: Library,
  kind: Kind,
  visit: (get: (path: string) => Promise<string>) => Promise<T>,
  jar: { cookie?: string },
): Promise<T> {
  const shop = await openShop(library, kind, name)
  try {
    return await visit(async (path) => {
      const { body, cookie } = await shop.visit(path, jar.cookie)
      if (cookie) jar.cookie = cookie
      return body
    })
  } finally {
    shop.close()
  }
}

/** A user who logs in on one library is logged in on the other, with the cookie and the record of the first. */
function switches(kind: Kind): void {
  test('from express-session to sessile and back', async () => {
    const jar = {}
    await inShop('express-session', kind, (get) => get('/login?user=ada'), jar)
    await inShop(
      'sessile',
      kind,
      async (get) => {
        expect(JSON.parse(await get('/me'))).toMatchObject({ user: 'ada' })
        await get('/set/from-sessile')
      },
      jar,
    )
    await inShop(
      'express-session',
      kind,
      async (get) => {
        expect(JSON.parse(await get('/me'))).toMatchObject({ user: 'ada', 'from-sessile': 1 })
        await get('/set/from-the-original')
      },
      jar,
    )
    await inShop(
      'sessile',
      kind,
      async (get) => {
        expect(JSON.parse(await get('/me'))).toMatchObject({ user: 'ada', 'from-sessile': 1, 'from-the-original': 1 })
        await get('/logout')
      },
      jar,
    )
    await inShop(
      'express-session',
      kind,
      async (get) => {
        expect(JSON.parse(await get('/me'))).not.toHaveProperty('user')
      },
      jar,
    )
  }, 120_000)
}

describeWith('redis', 'Redis, with connect-redis', () => {
  afterAll(async () => {
    const client = await createClient().connect()
    for await (const keys of client.scanIterator({ MATCH: `${name}*` })) if (keys.length) await client.del(keys)
    client.destroy()
  })
  switches('redis')
})

describeWith('postgres', 'PostgreSQL, with connect-pg-simple', () => {
  afterAll(async () => {
    const client = new pg.Client({ host: '127.0.0.1', user: 'postgres', database: 'test' })
    await client.connect()
    await client.query(`DROP TABLE IF EXISTS ${name}`)
    await client.end()
  })
  switches('postgres')
})

describeWith('mysql', 'MariaDB, with express-mysql-session', () => {
  afterAll(async () => {
    const connection = await mysql.createConnection({ host: '127.0.0.1', user: 'root', database: 'test' })
    await connection.query(`DROP TABLE IF EXISTS ${name}`)
    await connection.end()
  })
  switches('mysql')
})

describe('DynamoDB, with connect-dynamodb', () => {
  let dynamodb: DynamoDB
  beforeAll(async () => {
    dynamodb = await startDynamoDB()
    Object.assign(process.env, dynamodb.env)
  })
  afterAll(() => dynamodb.close())
  switches('dynamodb')
})
