// @module-tag slow
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { createCluster } from 'redis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DynamoDBStore } from '../../src/stores/dynamodb'
import { RedisStore } from '../../src/stores/redis'
import { startDynamoDB, type DynamoDB } from '../support/dynamodb'
import { describeWithOwnRedis, startCluster } from '../support/redis-server'
import { describeWith, freePort } from '../support/servers'
import { temporaryFolder } from '../support/sqlite'
import { appOver, sessile, stores, told } from './cli'

/** For a project that has not installed some packages. */
function without(...names: string[]): NodeJS.ProcessEnv {
  const file = path.join(temporaryFolder(), 'without.cjs')
  writeFileSync(
    file,
    `const { _resolveFilename: resolve } = require('node:module')
    require('node:module')._resolveFilename = function (name, ...rest) {
      if (!${JSON.stringify(names)}.includes(name)) return resolve.call(this, name, ...rest)
      throw Object.assign(new Error('Cannot find module'), { code: 'MODULE_NOT_FOUND' })
    }`,
  )
  return { NODE_OPTIONS: `--require ${file}` }
}

describeWith('redis', 'Redis, by the client that the project has', () => {
  test('ioredis does it, too', async () => {
    const opened = await stores.redis()
    const app = appOver(opened.store)
    const cookie = await app.login('ada')
    const run = (...args: string[]) => sessile([...args, ...told(opened)], without('redis'))
    expect((await run('list')).stdout).toContain('ada')
    expect(await run('doctor')).toMatchObject({ code: 0, stdout: expect.stringContaining('All is well.') })
    expect((await run('end-user', 'ada', '--yes')).stdout).toContain('1 ended.')
    expect(await app.ask('/me', cookie)).toBe('nobody')
    const nowhere = await sessile(['list', '-s', `redis://127.0.0.1:${await freePort()}`], without('redis'))
    expect(nowhere).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(/^sessile: cannot open .*\n$/) })
    await opened.close()
  })

  test.each([
    ['redis://127.0.0.1', 'redis'],
    ['postgres://127.0.0.1/test', 'pg'],
    ['mysql://127.0.0.1/test', 'mysql2'],
    ['dynamodb://sessions', '@aws-sdk/client-dynamodb'],
  ])('for %s it says which package is missing', async (url, name) => {
    const { code, stderr } = await sessile(['list', '-s', url], without(name, 'ioredis'))
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: `sessile: this store needs the package ${name}: npm install ${name}\n`,
    })
  })
})

describeWithOwnRedis('a cluster', () => {
  test('is recognised, with either client', async () => {
    const cluster = await startCluster()
    const url = `redis://127.0.0.1:${cluster.servers[0]?.port}`

    const client = await createCluster({ rootNodes: [{ url }] }).connect()

    const app = appOver(new RedisStore({ client }))
    for (const user of ['ada', 'bob', 'carol', 'dan', 'eve', 'fay']) await app.login(user)
    for (const env of [{}, without('redis')]) {
      const { code, stdout, stderr } = await sessile(['count', '--users', '-s', url], env)
      expect({ code, stdout, stderr }).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(/^6 sessions; 6 are signed in/),
      })
    }
    expect((await sessile(['end-user', 'ada', '--yes', '-s', url])).stdout).toContain('1 ended.')
    await client.close()
    await cluster.close()
  }, 60_000)
})

describe('DynamoDB', () => {
  let dynamodb: DynamoDB
  beforeAll(async () => void (dynamodb = await startDynamoDB()))
  afterAll(() => dynamodb.close())

  test('is looked at, and its sessions ended', async () => {
    const store = new DynamoDBStore({
      client: dynamodb.connect(),
      createTableIfMissing: true,
      errorLog: () => undefined,
    })
    const app = appOver(store)
    const cookie = await app.login('ada')
    const run = (...args: string[]) => sessile([...args, '-s', 'dynamodb://sessions'], dynamodb.env)
    expect(await run('count', '--users')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^1 sessions; 1 are/),
    })
    expect((await run('end-user', 'ada', '--yes')).stdout).toContain('1 ended.')
    expect(await app.ask('/me', cookie)).toBe('nobody')
    const other = await sessile(['list', '-s', 'dynamodb://other'], dynamodb.env)
    expect(other).toMatchObject({ code: 2, stderr: expect.stringMatching(/^sessile: a table is missing at dynamodb:/) })
    await store.close()
  })
})
