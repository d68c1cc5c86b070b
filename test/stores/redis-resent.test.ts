// @module-tag server
import type { EventEmitter } from 'node:events'
import Redis, { Cluster } from 'ioredis'
import Redis5, { Cluster as Cluster5 } from 'ioredis5'
import { createClient } from 'redis'
import { createClient as createClient4 } from 'redis4'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import session from '../../src'
import { RedisStore } from '../../src/stores/redis'
import { connectIoRedis, connectNodeRedis, type Connected } from '../support/redis-clients'
import { lossyProxy, type LossyProxy } from '../support/redis-proxy'
import { until } from '../support/servers'
import { describeWithOwnRedis, startCluster, startRedis, type RedisServer } from '../support/redis-server'

const text = (data: object = {}): string => JSON.stringify({ cookie: { originalMaxAge: null, path: '/' }, ...data })
const later = (): number => Date.now() + 3_600_000
const numberIn = (record: { text: string } | null): number => (JSON.parse(record?.text ?? '{}') as { n: number }).n

/** Waits for the connection, and leaves its losses to the client. */
async function quietly(connecting: Promise<Connected>): Promise<Connected> {
  const connected = await connecting
  ;(connected.client as EventEmitter).on('error', () => undefined)
  return connected
}

type Connect = (ports: number[]) => Promise<Connected>
const soon = { retryStrategy: () => 5 }
const SENDS_AGAIN: Record<string, Connect> = {
  'ioredis 5': ([port]) => connectIoRedis(new Redis5(port as number, soon)),
  'ioredis 6': ([port]) => connectIoRedis(new Redis(port as number, soon)),
  'ioredis 6 with a key prefix': ([port]) => connectIoRedis(new Redis(port as number, { ...soon, keyPrefix: 'app:' })),
}
const SENDS_ONCE: Record<string, Connect> = {
  'redis 4': ([port]) => connectNodeRedis(createClient4({ socket: { port: port as number, reconnectStrategy: 5 } })),
  'redis 6': ([port]) => connectNodeRedis(createClient({ socket: { port: port as number, reconnectStrategy: 5 } })),
}

/** Adds to a number in a few sessions from several writers. What is acknowledged has to be stored, and nothing else. */
async function addUnderLosses(client: object, proxies: readonly LossyProxy[]): Promise<{ errors: number }> {
  const sessions = session({ secret: 'a secret of 32 characters and more', store: new RedisStore({ client }) })
  const store = new RedisStore({ client })
  const ids = ['one', 'two', 'three']
  for (const id of ids) await store.write(id, text({ n: 0 }), later(), 'absent')
  for (const proxy of proxies) proxy.loseIf((request) => /evalsha/i.test(request) && Math.random() < 0.15)
  const acknowledged = new Map(ids.map((id) => [id, 0]))
  const uncertain = new Map(ids.map((id) => [id, 0]))
  const add = async (writer: number): Promise<void> => {
    for (let n = 0; n < 25; n++) {
      const id = ids[(writer + n) % ids.length] as string
      const outcome = await sessions
        .update(id, (data) => void (data as unknown as { n: number }).n++)
        .then(
          () => acknowledged,
          () => uncertain,
        )
      outcome.set(id, (outcome.get(id) as number) + 1)
    }
  }
  await Promise.all([0, 1, 2, 3, 4, 5].map(add))
  for (const proxy of proxies) proxy.loseIf(() => false)
  let errors = 0
  for (const id of ids) {
    const stored = numberIn(await store.read(id))
    const [surely, perhaps] = [acknowledged.get(id) as number, uncertain.get(id) as number]
    expect(stored).toBeGreaterThanOrEqual(surely)
    expect(stored).toBeLessThanOrEqual(surely + perhaps)
    errors += perhaps
  }
  expect(proxies.reduce((lost, proxy) => lost + proxy.lost, 0)).toBeGreaterThan(2)
  return { errors }
}

describeWithOwnRedis('answers that are lost with their connection', () => {
  let server: RedisServer
  let proxy: LossyProxy
  beforeEach(async () => {
    server = await startRedis()
    proxy = await lossyProxy(server.port)
  })
  afterEach(async () => {
    await proxy.close()
    await server.close()
  })

  const clients = { ...SENDS_AGAIN, ...SENDS_ONCE }
  test.each(Object.keys(clients))(
    '%s: what is acknowledged is stored, once',
    async (name) => {
      const connected = await quietly((clients[name] as Connect)([proxy.port]))
      const { errors } = await addUnderLosses(connected.client, [proxy])
      if (name in SENDS_AGAIN) expect(errors).toBe(0)
      await connected.close()
    },
    60_000,
  )

  describe.each(Object.keys(SENDS_AGAIN))('%s sends again', (name) => {
    let connected: Connected
    let store: RedisStore
    beforeEach(async () => {
      connected = await quietly((SENDS_AGAIN[name] as Connect)([proxy.port]))
      store = new RedisStore({ client: connected.client })
    })
    afterEach(() => connected.close())

    /** What work answers, when the answer to its first command is lost. */
    async function losing<T>(work: () => Promise<T>): Promise<T> {
      let isFirst = true
      const before = proxy.lost
      proxy.loseIf((request) => {
        const isLost = isFirst && /eval/i.test(request)
        if (isLost) isFirst = false
        return isLost
      })
      const result = await work()
      expect(proxy.lost).toBe(before + 1)
      return result
    }

    test('writes are made, under each condition', async () => {
      expect(await losing(() => store.write('id', text({ n: 1 }), later(), 'absent'))).toBe(text({ n: 1 }))
      expect(await losing(() => store.write('id', text({ n: 2 }), later(), 'absent'))).toBeNull()
      expect(await losing(() => store.write('id', text({ n: 3 }), later(), 'present'))).toBe(text({ n: 3 }))
      const version = text({ n: 3 })
      expect(await losing(() => store.write('id', text({ n: 4 }), later(), { version }))).toBe(text({ n: 4 }))
      expect(await losing(() => store.write('id', text({ n: 5 }), later(), { version }))).toBeNull()
      expect(await losing(() => store.write('id', text({ n: 6 }), Date.now() - 1, 'present'))).toBe(text({ n: 6 }))
      expect(await losing(() => store.write('id', text({ n: 7 }), later(), 'present'))).toBeNull()
    })

    test('two writers that want the same text do not take one another’s for their own', async () => {
      const version = text({ n: 0 })
      await store.write('id', version, later(), 'absent')
      const write = (): Promise<string | null> => store.write('id', text({ n: 1 }), later(), { version })
      const made = await losing(() => Promise.all([write(), write(), write()]))
      expect(made.filter((one) => one !== null)).toHaveLength(1)
    })

    test('removals count', async () => {
      await store.write('id', text(), later(), 'absent')
      expect(await losing(() => store.remove('id'))).toBe(true)
      expect(await losing(() => store.remove('id'))).toBe(false)
      await store.write('id', text(), later(), 'absent')
      expect(await losing(() => store.remove('id', text()))).toBe(true)
      for (const id of ['one', 'two']) {
        await store.link('ada', id, later())
        await store.write(id, text(), later(), 'absent')
      }
      expect(await losing(() => store.removeLinked('ada', ['one', 'none', 'two']))).toEqual([true, false, true])
      expect(await store.linked('ada')).toEqual([])
    })

    test('reads, renewals and links are as if sent once', async () => {
      await store.write('id', text(), later(), 'absent')
      expect(await losing(() => store.read('id', later()))).toMatchObject({ text: text(), renewed: true })
      const { expires } = (await store.read('id')) as { expires: number }
      expect(await losing(() => store.renew('id', expires + 60_000, expires))).toBe(true)
      await losing(() => store.link('ada', 'id', later()))
      expect(await losing(() => store.linked('ada'))).toEqual(['id'])
    })

    test('an update is made once, and log out everywhere says how many it has ended', async () => {
      const user = (one: object): string | undefined => (one as { user?: string }).user
      const sessions = session({ secret: 'a secret of 32 characters and more', store, user })
      await store.write('id', text({ n: 0, user: 'ada' }), later(), 'absent')
      await losing(() => sessions.update('id', (one) => void (one as unknown as { n: number }).n++))
      expect(numberIn(await store.read('id'))).toBe(1)
      expect(await losing(() => sessions.users.list('ada'))).toHaveLength(1)
      expect(await losing(() => sessions.users.endAll('ada'))).toBe(1)
    })
  })

  test.each(Object.keys(SENDS_ONCE))(
    '%s: a read whose answer is lost is asked again, a change is not',
    async (name) => {
      const { client, close } = await quietly((SENDS_ONCE[name] as Connect)([proxy.port]))
      const store = new RedisStore({ client })
      await store.write('id', text({ n: 0 }), later(), 'absent')
      await store.link('ada', 'id', later())
      const reads = [() => store.read('id', later()), () => store.readMany(['id']), () => store.linked('ada')]
      for (const read of reads) {
        const before = proxy.lost
        proxy.loseIf((request) => /eval/i.test(request) && proxy.lost === before)
        expect(await read()).toBeTruthy()
        expect(proxy.lost).toBe(before + 1)
      }
      const before = proxy.lost
      proxy.loseIf((request) => /eval/i.test(request) && proxy.lost === before)
      await expect(store.write('id', text({ n: 1 }), later(), 'present')).rejects.toThrow()
      expect(numberIn(await store.read('id'))).toBe(1)
      await close()
    },
  )

  test('what another has written meanwhile stays', async () => {
    const client = new Redis(proxy.port, { retryStrategy: () => 300 })
    const { close } = await quietly(connectIoRedis(client))
    proxy.loseIf((request) => /eval/i.test(request) && proxy.lost === 0)
    const writing = new RedisStore({ client }).write('id', text({ by: 'us' }), later(), 'always')
    await until(() => server.cli('get', 'sess:id') === text({ by: 'us' }))
    server.cli('set', 'sess:id', text({ by: 'them' }))
    expect(await writing).toBe(text({ by: 'us' }))
    expect(server.cli('get', 'sess:id')).toBe(text({ by: 'them' }))
    await close()
  })

  test('stores of one process do not take one another’s changes for their own', async () => {
    const connected = await quietly((SENDS_AGAIN['ioredis 6'] as Connect)([server.port]))
    for (const n of [1, 2, 3]) {
      const store = new RedisStore({ client: connected.client })
      expect(await store.write('id', text({ n }), later(), 'always')).toBe(text({ n }))
      expect(numberIn(await store.read('id'))).toBe(n)
    }
    await connected.close()
  })

  test('a client that sends nothing again leaves no notes', async () => {
    const connected = await quietly((SENDS_ONCE['redis 6'] as Connect)([server.port]))
    await new RedisStore({ client: connected.client }).write('id', text(), later(), 'absent')
    expect(server.cli('dbsize')).toBe('1')
    await connected.close()
  })
})

describeWithOwnRedis('answers of a Cluster that are lost with their connection', () => {
  test.each(['ioredis 5', 'ioredis 6'])(
    '%s: what is acknowledged is stored, once',
    async (name) => {
      const cluster = await startCluster()
      const proxies = await Promise.all(cluster.servers.map(({ port }) => lossyProxy(port)))
      const ways = proxies.map(
        ({ port }, n) => [`127.0.0.1:${cluster.servers[n]?.port}`, { host: '127.0.0.1', port }] as const,
      )
      const options = { natMap: Object.fromEntries(ways), clusterRetryStrategy: () => 5 }
      const nodes = proxies.map(({ port }) => port)
      const client = name === 'ioredis 5' ? new Cluster5(nodes, options) : new Cluster(nodes, options)
      const connected = await quietly(connectIoRedis(client))
      await addUnderLosses(connected.client, proxies)
      await connected.close()
      for (const proxy of proxies) await proxy.close()
      await cluster.close()
    },
    90_000,
  )
})
