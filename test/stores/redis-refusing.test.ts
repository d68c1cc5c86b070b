// @module-tag server
import { mkdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import Redis, { Cluster } from 'ioredis'
import { createClient } from 'redis'
import express from 'express'
import request from 'supertest'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import session from '../../src'
import { RedisStore } from '../../src/stores/redis'
import { connectIoRedis, connectNodeRedis, type Connected } from '../support/redis-clients'
import { describeWithOwnRedis, startCluster, startRedis, type RedisServer } from '../support/redis-server'
import { until } from '../support/servers'

const HOUR = 3_600_000
const later = (): number => Date.now() + HOUR
const text = (data: object = {}): string => JSON.stringify({ cookie: { originalMaxAge: HOUR, path: '/' }, ...data })
const CONNECT_REDIS = ['+get', '+set', '+del', '+expire', '+mget', '+scan']

interface Refusal {
  begin(server: RedisServer): unknown
  end(server: RedisServer): unknown
  error: RegExp
  finding: RegExp
}

const REFUSALS: Record<string, Refusal> = {
  'a master that has become a replica': {
    begin: ({ cli }) => cli('replicaof', '127.0.0.1', '1'),
    end: ({ cli }) => cli('replicaof', 'no', 'one'),
    error: /READONLY/,
    finding: /is a replica.*connect to the master/,
  },
  'too few replicas': {
    begin: ({ cli }) => cli('config', 'set', 'min-replicas-to-write', '1'),
    end: ({ cli }) => cli('config', 'set', 'min-replicas-to-write', '0'),
    error: /NOREPLICAS/,
    finding: /has too few replicas.*connect its replicas/,
  },
  'a disk that takes nothing': {
    async begin({ cli }) {
      const dir = cli('config', 'get', 'dir').split('\n')[1] as string
      mkdirSync(path.join(dir, 'dump.rdb'), { recursive: true })
      cli('config', 'set', 'save', '3600 1', 'stop-writes-on-bgsave-error', 'yes')
      cli('bgsave')
      await until(() => cli('info', 'persistence').includes('rdb_last_bgsave_status:err'))
    },
    end: ({ cli }) => cli('config', 'set', 'stop-writes-on-bgsave-error', 'no'),
    error: /MISCONF/,
    finding: /cannot save to its disk.*make room/,
  },
  'a user with the rights that connect-redis needs': {
    begin: ({ cli }) => cli('acl', 'setuser', 'default', 'resetkeys', '~sess:*', '-@all', ...ADMIN, ...CONNECT_REDIS),
    end: ({ cli }) => cli('acl', 'setuser', 'default', '~*', '+@all'),
    error: /NOPERM/,
    finding: /may not do all that sessions need; give it: ~sess:\* ~users:sess:\* ~once:sess:\* \+evalsha /,
  },
  'a user who may run scripts, and not renew': {
    begin: ({ cli }) => cli('acl', 'setuser', 'default', '+@all', '-pexpire', '-set'),
    end: ({ cli }) => cli('acl', 'setuser', 'default', '+@all'),
    error: /NOPERM|ACL failure|user executing the script/,
    finding: /may not do all that sessions need/,
  },
  'scripts that are forbidden': {
    begin: ({ cli }) => cli('acl', 'setuser', 'default', '+@all', '-eval', '-evalsha'),
    end: ({ cli }) => cli('acl', 'setuser', 'default', '+@all'),
    error: /NOPERM/,
    finding: /may not do all that sessions need/,
  },
}
/** What the tests themselves need. */
const ADMIN = ['+acl', '+config', '+info', '+ping', '+client', '+hello', '+select']

describeWithOwnRedis('a server that refuses to write', () => {
  let server: RedisServer
  let clients: Record<string, Connected>
  beforeEach(async () => {
    server = await startRedis()
    clients = {
      redis: await connectNodeRedis(createClient({ url: `redis://127.0.0.1:${server.port}` })),
      ioredis: await connectIoRedis(new Redis(server.port)),
    }
  })
  afterEach(async () => {
    for (const { close } of Object.values(clients)) await close()
    await server.close()
  })

  for (const [state, { begin, end, error, finding }] of Object.entries(REFUSALS)) {
    test(`${state}: sessions are read, not renewed, and the events and check tell why`, async () => {
      for (const { client } of Object.values(clients)) {
        const store = new RedisStore({ client })
        const sessions = session({
          ...{ secret: 'a secret of 32 characters and more', resave: false, saveUninitialized: false },
          ...{ store, cookie: { maxAge: HOUR }, onSaveError: 'error' },
        })
        const failures = vi.fn()
        const errors = vi.fn()
        sessions.events.on('failure', ({ operation, error }) => failures(operation, String(error)))
        sessions.events.on('storeError', ({ error }) => errors(String(error)))
        const app = express().use(sessions)
        app.get('/login', (req, res) => void (Object.assign(req.session, { name: 'ada' }), res.send('in')))
        app.get('/me', (req, res) => void res.send((req.session as unknown as { name?: string }).name))
        app.use(((error, _req, res, next) =>
          res.headersSent ? next(error) : res.status(503).send(String(error))) as express.ErrorRequestHandler)
        const agent = request.agent(app)
        await agent.get('/login').expect(200)
        await agent.get('/me').expect(200, 'ada')
        expect(await store.check()).not.toContainEqual(expect.stringMatching(finding))

        await begin(server)
        await agent.get('/me').expect(200, 'ada')
        await agent.get('/me').expect(200, 'ada')
        await until(() => errors.mock.calls.length === 2)
        for (const [told] of errors.mock.calls) expect(told).toMatch(error)
        expect(failures).toHaveBeenCalledWith('touch', expect.stringMatching(error))
        const refused = await request(app).get('/login').expect(503)
        expect(refused.text).toMatch(error)
        expect(await store.check()).toContainEqual(expect.stringMatching(finding))

        await end(server)
        await agent.get('/login').expect(200)
        expect(await store.check()).not.toContainEqual(expect.stringMatching(finding))
      }
    })
  }

  test('memory that is full: sessions are read and renewed, and check says so', async () => {
    for (const { client } of Object.values(clients)) {
      const store = new RedisStore({ client })
      await store.write('id', text(), Date.now() + HOUR / 2, 'always')
      server.cli('config', 'set', 'maxmemory', '1')
      expect(await store.read('id', later())).toMatchObject({ renewed: true })
      await expect(store.write('other', text(), later(), 'absent')).rejects.toThrow(/OOM/)
      expect(await store.check()).toContainEqual(expect.stringMatching(/memory of the server is full.*give it more/))
      expect(await store.remove('id')).toBe(true)
      server.cli('config', 'set', 'maxmemory', '0')
    }
  })

  test('no error has the ID of a session, or what is in it, in its text', async () => {
    const small = await startRedis('--rename-command', 'EVALSHA', '', '--rename-command', 'EVAL', '')
    const url = `redis://127.0.0.1:${small.port}`
    const own = [await connectNodeRedis(createClient({ url })), await connectIoRedis(new Redis(small.port))]
    for (const { client, close } of own) {
      const store = new RedisStore({ client })
      small.cli('set', 'sess:a-whole-id', text({ a: 'secret' }), 'px', '100000')
      expect(await store.read('a-whole-id', later())).toMatchObject({ text: text({ a: 'secret' }) })
      const failed = store.write('a-whole-id', text({ a: 'secret' }), later(), 'present')
      const error: unknown = await failed.catch((error: unknown) => error)
      expect(String(error)).toMatch(/ERR unknown command .evalsha./i)
      expect(JSON.stringify([String(error), error])).not.toMatch(/whole|secret/)
      expect(await store.check()).toContainEqual(expect.stringMatching(/does not know the command EVALSHA/))
      await close()
    }
    await small.close()
  })
})

describeWithOwnRedis('check', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis()
  })
  afterAll(() => server.close())
  const connect = (): Promise<Connected> => connectNodeRedis(createClient({ url: `redis://127.0.0.1:${server.port}` }))

  test('finds nothing where all is well, and leaves nothing behind', async () => {
    const { client, close } = await connect()
    expect(await new RedisStore({ client }).check()).toEqual([])
    expect(server.cli('dbsize')).toBe('0')
    await close()
  })

  test('finds nothing wrong with the rights that the documentation names', async () => {
    const page = readFileSync(path.join(__dirname, '../../docs/production.md'), 'utf8')
    const [, needed = '', more = ''] = /\(ACL\): `([^`]+)`[^(]*\(`([^`]+)`/.exec(page) ?? []
    const rights = `${needed} ${more}`.split(/\s+/)
    expect(rights.length).toBeGreaterThan(15)
    server.cli('acl', 'setuser', 'app', 'on', '>password', 'resetkeys', '-@all', ...rights)
    const login = { username: 'app', password: 'password' }
    const own = [
      await connectNodeRedis(createClient({ url: `redis://127.0.0.1:${server.port}`, ...login })),
      await connectIoRedis(new Redis(server.port, { ...login, socketTimeout: 5000, reconnectOnError: () => false })),
    ]
    for (const { client, close } of own) {
      const store = new RedisStore({ client })
      expect(await store.check()).toEqual([])
      await store.write('id', text(), later(), 'always')
      expect(await store.length()).toBe(1)
      await store.clear()
      await close()
    }
    server.cli('flushall')
  })

  test('says what an eviction policy means, and so does a warning at the first login', async () => {
    const { client, close } = await connect()
    const means =
      /allkeys-lru.*logged out at random.*"log out everywhere" leaves them; set maxmemory-policy noeviction.*users\.index\(\)/
    server.cli('config', 'set', 'maxmemory-policy', 'allkeys-lru')
    expect(await new RedisStore({ client }).check(), 'without a limit nothing is evicted').toEqual([])
    server.cli('config', 'set', 'maxmemory', '1gb')
    expect(await new RedisStore({ client }).check()).toEqual([expect.stringMatching(means)])
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
    const store = new RedisStore({ client })
    await store.link('ada', 'id', later())
    await store.link('ada', 'id', later())
    await until(() => warned.mock.calls.length > 0)
    expect(warned.mock.calls).toEqual([
      [expect.stringMatching(means), { type: 'SessionWarning', code: 'SESSION_REDIS_EVICTION' }],
    ])
    warned.mockRestore()
    server.cli('config', 'set', 'maxmemory', '0')
    await close()
  })

  test('what an index has lost, users.index enters again, and log out everywhere ends it', async () => {
    const { client, close } = await connect()
    const store = new RedisStore({ client })
    const sessions = session({
      ...{ secret: 'a secret of 32 characters and more', resave: false, saveUninitialized: false, store },
      user: (one) => (one as { user?: string }).user,
    })
    const app = express().use(sessions)
    app.get('/login', (req, res) => void (Object.assign(req.session, { user: 'ada' }), res.send('in')))
    for (let n = 0; n < 3; n++) await request(app).get('/login').expect(200)
    server.cli('del', 'users:sess:ada')
    expect(await sessions.users.endAll('ada')).toBe(0)
    expect(await sessions.users.index()).toBe(3)
    expect(await sessions.users.endAll('ada')).toBe(3)
    expect(await store.length()).toBe(0)
    await close()
  })

  test('says how wrong the clock is', async () => {
    const { client, close } = await connect()
    const store = new RedisStore({ client })
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 90_000 })
    expect(await store.check()).toEqual([
      expect.stringMatching(/clock of the server is 90 s behind this process's.*NTP/),
    ])
    vi.useRealTimers()
    await close()
  })

  test('says which settings keep ioredis from working again after a failure', async () => {
    const findingsFor = async (options: object): Promise<string[]> => {
      const { client, close } = await connectIoRedis(new Redis(server.port, options))
      const findings = await new RedisStore({ client }).check()
      await close()
      return findings
    }
    const good = { socketTimeout: 5000, reconnectOnError: () => false as const }
    expect(await findingsFor(good)).toEqual([])
    expect(await findingsFor({})).toMatchObject([
      expect.stringMatching(/give ioredis `socketTimeout: 5000`/),
      expect.stringMatching(/give ioredis `reconnectOnError: /),
    ])
    expect(await findingsFor({ ...good, autoResendUnfulfilledCommands: false })).toEqual([
      expect.stringMatching(/leave out autoResendUnfulfilledCommands/),
    ])
    const cluster = await startCluster()
    const client = new Cluster(cluster.servers.map(({ port }) => port))
    const { close } = await connectIoRedis(client)
    expect(await new RedisStore({ client }).check()).toEqual([expect.stringMatching(/socketTimeout.*in redisOptions/)])
    await close()
    await cluster.close()
  })

  test('rejects when the server cannot be reached, and says so of a client that was never connected', async () => {
    const { client, close } = await connect()
    await close()
    await expect(new RedisStore({ client }).check()).rejects.toThrow(
      /client is not connected: `await client.connect\(\)`/,
    )
    await expect(new RedisStore({ client: createClient() }).read('id')).rejects.toThrow(/client is not connected/)
  })
})

describeWithOwnRedis('clocks of app servers that differ', () => {
  test('by more than a lifetime: log out everywhere finds the sessions of all', async () => {
    const server = await startRedis()
    const { client, close } = await connectNodeRedis(createClient({ url: `redis://127.0.0.1:${server.port}` }))
    const store = new RedisStore({ client })
    for (const offset of [0, 30 * HOUR, -30 * HOUR]) {
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + offset })
      const id = `id ${offset}`
      await store.link('ada', id, later())
      await store.write(id, text(), later(), 'absent')
      expect(await store.read(id)).not.toBeNull()
      vi.useRealTimers()
    }
    expect(await store.linked('ada')).toHaveLength(3)
    await close()
    await server.close()
  })
})
