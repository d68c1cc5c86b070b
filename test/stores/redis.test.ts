import Redis, { Cluster } from 'ioredis'
import Redis5 from 'ioredis5'
import { createClient, createCluster } from 'redis'
import { createClient as createClient4 } from 'redis4'
import { createClient as createClient5 } from 'redis5'
import express from 'express'
import request from 'supertest'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import session from '../../src'
import { RedisStore } from '../../src/stores/redis'
import { recordStoreContract } from '../../src/testing'
import { hasRedisServer, startCluster, startRedis, type RedisServer } from '../support/redis-server'

const HOUR = 3_600_000
const text = (data: object = {}): string => JSON.stringify({ cookie: {}, ...data })

describe('options', () => {
  test('a client is needed', () => {
    expect(() => new RedisStore({} as never)).toThrow(
      /option client must be a client made by the package redis or ioredis/,
    )
    expect(() => new RedisStore({ client: {} })).toThrow(/option client/)
  })
  test('ttl is in seconds, and positive', () => {
    const client = createClient()
    expect(new RedisStore({ client, ttl: 60 }).ttl).toBe(60_000)
    expect(() => new RedisStore({ client, ttl: 0 })).toThrow(/option ttl must be a positive number of seconds/)
  })
})

describe.skipIf(!hasRedisServer)('with a server of its own', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(() => server.close())

  /** The commands that the server has run since the last call. */
  function commands(): Record<string, number> {
    const lines = server.cli('info', 'commandstats').split(/\r?\n/)
    const counts = lines.flatMap((line) => {
      const [, name, calls] = /^cmdstat_([\w|]+):calls=(\d+)/.exec(line) ?? []
      return name && !['info', 'config|resetstat', 'hello', 'client|setinfo', 'select'].includes(name)
        ? [[name, Number(calls)]]
        : []
    })
    server.cli('config', 'resetstat')
    return Object.fromEntries(counts) as Record<string, number>
  }

  test('what each kind of request costs', async () => {
    const client = await createClient({ url: `redis://127.0.0.1:${server.port}` }).connect()
    const store = new RedisStore({ client })
    const app = express()
    app.use(
      session({
        secret: 'a secret that is long enough for this test',
        store,
        resave: false,
        saveUninitialized: false,
        cookie: { maxAge: HOUR },
      }),
    )
    app.get('/untouched', (_req, res) => void res.send('-'))
    app.get('/read', (req, res) => void res.json(req.session))
    app.get('/write', (req, res) => {
      Object.assign(req.session, { at: Math.random() })
      res.send('-')
    })
    app.get('/logout', (req, res) => void req.session.destroy(() => res.send('-')))
    const agent = request.agent(app)
    const cost = async (path: string): Promise<Record<string, number>> => {
      commands()
      await agent.get(path).expect(200)
      return commands()
    }
    await agent.get('/write')
    await agent.get('/write')
    expect(await cost('/read')).toEqual({ getex: 1 })
    expect(await cost('/untouched')).toEqual({ getex: 1 })
    // One command from the client; the script runs two in the server.
    expect(await cost('/write')).toEqual({ getex: 1, evalsha: 1, get: 1, set: 1 })
    expect(await cost('/logout')).toEqual({ getex: 1, unlink: 1 })
    agent.jar.setCookie('connect.sid=; Max-Age=0')
    const stranger = request(app)
    commands()
    await stranger.get('/untouched')
    expect(commands()).toEqual({})
    await stranger.get('/write')
    expect(commands()).toEqual({ set: 1 })
    client.destroy()
  })

  for (const [name, connect] of Object.entries({
    'redis 4': (port: number) => createClient4({ url: `redis://127.0.0.1:${port}` }),
    'redis 5': (port: number) => createClient5({ url: `redis://127.0.0.1:${port}` }),
    'redis 6': (port: number) => createClient({ url: `redis://127.0.0.1:${port}` }),
    'ioredis 5': (port: number) => new Redis5(port),
    'ioredis 6': (port: number) => new Redis(port),
  })) {
    test(`${name}: conditions, renewal, scan and the index of users`, async () => {
      const client = connect(server.port)
      if ('connect' in client && name.startsWith('redis')) await (client as { connect(): Promise<unknown> }).connect()
      const store = new RedisStore({ client, prefix: `${name}:` })
      const end = Date.now() + HOUR
      const version = await store.write('id', text({ n: 1 }), end, 'absent')
      expect(version).not.toBeNull()
      expect(await store.write('id', text({ n: 2 }), end, 'absent')).toBeNull()
      expect(await store.write('id', text({ n: 3 }), end, { version: version as string })).not.toBeNull()
      expect(await store.write('id', text({ n: 4 }), end, { version: version as string })).toBeNull()
      expect(await store.read('id', end + HOUR)).toMatchObject({ text: text({ n: 3 }), renewed: true })
      expect((await store.read('id'))?.expires).toBeGreaterThan(end)
      expect((await store.scan(null, 10)).records.map(({ id }) => id)).toEqual(['id'])
      await store.link('ada', 'id', end)
      expect(await store.linked('ada')).toEqual(['id'])
      expect(await store.remove('id')).toBe(true)
      if ('disconnect' in client) void (client as { disconnect(): unknown }).disconnect()
    })
  }

  test('a write by connect-redis counts as a change', async () => {
    const client = await createClient({ url: `redis://127.0.0.1:${server.port}` }).connect()
    const { RedisStore: ConnectRedis } = await import('connect-redis')
    const store = new RedisStore({ client })
    const theirs = new ConnectRedis({ client })
    const version = await store.write('shared', text({ by: 'us' }), Date.now() + HOUR, 'absent')
    await new Promise((resolve) => void theirs.set('shared', { cookie: {}, by: 'them' } as never, resolve))
    expect(await store.write('shared', text(), Date.now() + HOUR, { version: version as string })).toBeNull()
    client.destroy()
  })

  test('characters of patterns in a prefix stand for themselves', async () => {
    const client = await createClient({ url: `redis://127.0.0.1:${server.port}` }).connect()
    const store = new RedisStore({ client, prefix: 'a*[b]?:' })
    await store.write('one', text(), Date.now() + HOUR, 'absent')
    await client.set('aXb1:other', text())
    expect(Object.keys((await store.all()) ?? {})).toEqual(['one'])
    await store.clear()
    expect(await client.exists('aXb1:other')).toBe(1)
    client.destroy()
  })

  test('the index of a user ends with the last of the sessions in it', async () => {
    const client = await createClient({ url: `redis://127.0.0.1:${server.port}` }).connect()
    const store = new RedisStore({ client })
    await store.link('eve', 'old', Date.now() - 1)
    await store.link('eve', 'new', Date.now() + HOUR)
    expect(await client.zRange('users:sess:eve', 0, -1)).toEqual(['new'])
    expect(await client.pTTL('users:sess:eve')).toBeGreaterThan(HOUR - 60_000)
    await store.link('mallory', 'id', Date.now() + 40)
    while ((await client.exists('users:sess:mallory')) === 1);
    client.destroy()
  })
})

describe.skipIf(!hasRedisServer)('a server that does not know GETEX, as before 6.2', () => {
  test('reads and renews by GET and PEXPIRE', async () => {
    const server = await startRedis('--rename-command', 'GETEX', '')
    const client = await createClient({ url: `redis://127.0.0.1:${server.port}` }).connect()
    const store = new RedisStore({ client })
    const end = Date.now() + HOUR
    await store.write('id', text({ n: 1 }), end, 'absent')
    for (let n = 0; n < 2; n++)
      expect(await store.read('id', end + HOUR)).toMatchObject({ text: text({ n: 1 }), renewed: true })
    expect(await client.pTTL('sess:id')).toBeGreaterThan(HOUR)
    client.destroy()
    await server.close()
  })
})

describe.skipIf(!hasRedisServer)('Redis Cluster', () => {
  let cluster: Awaited<ReturnType<typeof startCluster>>
  let nodeRedis: ReturnType<typeof createCluster>
  let ioredis: Cluster
  let cases = 0
  beforeAll(async () => {
    cluster = await startCluster()
    nodeRedis = createCluster({ rootNodes: cluster.ports.map((port) => ({ url: `redis://127.0.0.1:${port}` })) })
    await nodeRedis.connect()
    ioredis = new Cluster(cluster.ports.map((port) => ({ host: '127.0.0.1', port })))
  })
  afterAll(async () => {
    nodeRedis.destroy()
    ioredis.disconnect()
    await cluster.close()
  })

  for (const client of ['redis', 'ioredis']) {
    describe(client, () => {
      const make = (): { store: RedisStore; close: () => unknown } => {
        const store = new RedisStore({
          client: client === 'redis' ? nodeRedis : ioredis,
          prefix: `${client}${++cases}:`,
        })
        return { store, close: () => store.clear() }
      }
      for (const { group, name, run } of recordStoreContract(make)) test(`${group}: ${name}`, run)
    })
  }
})

describe.skipIf(!hasRedisServer)('a server that goes away', () => {
  test('requests get errors meanwhile, the process lives, and it works again after', async () => {
    const server = await startRedis()
    const client = createClient({ url: `redis://127.0.0.1:${server.port}`, disableOfflineQueue: true })
    client.on('error', () => undefined)
    await client.connect()
    const app = express()
    const store = new RedisStore({ client })
    app.use(
      session({
        secret: 'a secret that is long enough for this test',
        store,
        resave: false,
        saveUninitialized: false,
        timeout: 500,
      }),
    )
    app.get('/', (req, res) => {
      const data = req.session as unknown as { views?: number }
      data.views = (data.views ?? 0) + 1
      res.send(String(data.views))
    })
    app.use(((error, _req, res, next) =>
      res.headersSent ? next(error) : res.status(503).send('down')) as express.ErrorRequestHandler)
    const agent = request.agent(app)
    await agent.get('/').expect(200, '1')
    await server.kill()
    await agent.get('/').expect(503, 'down')
    await server.start()
    while (!client.isReady) await new Promise((resolve) => setTimeout(resolve, 20))
    await agent.get('/').expect(200, '2')
    client.destroy()
    await server.close()
  })
})
