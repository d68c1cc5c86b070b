// @module-tag server
import { Cluster } from 'ioredis'
import { createCluster } from 'redis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { RedisStore } from '../../src/stores/redis'
import { recordStoreContract } from '../../src/testing'
import { CLUSTER_CLIENTS, connectIoRedis, type Connected } from '../support/redis-clients'
import { describeWithOwnRedis, startCluster } from '../support/redis-server'

const HOUR = 3_600_000
const text = (data: object = {}): string => JSON.stringify({ cookie: {}, ...data })
const ids = Array.from({ length: 60 }, (_, n) => `id-${n}`)

describeWithOwnRedis('Redis Cluster', () => {
  let cluster: Awaited<ReturnType<typeof startCluster>>
  let ports: number[]
  let cases = 0
  beforeAll(async () => {
    cluster = await startCluster()
    ports = cluster.servers.map(({ port }) => port)
  })
  afterAll(() => cluster.close())

  const slotsOf = (prefix: string): number =>
    cluster.servers.filter(({ cli }) => cli('--scan', '--pattern', `${prefix}*`) !== '').length

  for (const [name, connect] of Object.entries(CLUSTER_CLIENTS)) {
    describe(`through ${name}`, () => {
      let connected: Connected
      beforeAll(async () => {
        connected = await connect(ports)
      })
      afterAll(() => connected.close())
      const make = (): { store: RedisStore; close: () => unknown } => {
        const store = new RedisStore({ client: connected.client, prefix: `${name}-${++cases}:` })
        return { store, close: () => store.clear() }
      }
      for (const { group, name, run } of recordStoreContract(make)) test.concurrent(`${group}: ${name}`, run)

      test('all sessions of all servers are found, counted and removed', async () => {
        const prefix = `${name}-all:`
        const store = new RedisStore({ client: connected.client, prefix, scanCount: 7 })
        for (const id of ids) {
          await store.write(id, text(), Date.now() + HOUR, 'absent')
          await store.link(`user of ${id}`, id, Date.now() + HOUR)
        }
        expect([prefix, `users:${prefix}`].map(slotsOf)).toEqual([3, 3])
        expect(Object.keys((await store.all()) ?? {}).sort()).toEqual([...ids].sort())
        expect(await store.length()).toBe(ids.length)
        await store.clear()
        expect([prefix, `users:${prefix}`].map(slotsOf)).toEqual([0, 0])
      })

      test('scripts that a server has forgotten are sent again', async () => {
        const store = new RedisStore({ client: connected.client, prefix: `${name}-script:` })
        const versions = await Promise.all(ids.map((id) => store.write(id, text(), Date.now() + HOUR, 'absent')))
        for (const { cli } of cluster.servers) cli('script', 'flush')
        const written = await Promise.all(
          ids.map((id, n) => store.write(id, text({ n }), Date.now() + HOUR, { version: versions[n] as string })),
        )
        expect(written).not.toContain(null)
        await store.clear()
      })
    })
  }

  test('a scan waits until an ioredis client knows the whole cluster', async () => {
    const writer = await connectIoRedis(new Cluster([{ host: '127.0.0.1', port: ports[0] as number }]))
    const store = new RedisStore({ client: writer.client, prefix: 'early:' })
    for (const id of ids) await store.write(id, text(), Date.now() + HOUR, 'absent')
    const early = new Cluster([{ host: '127.0.0.1', port: ports[0] as number }])
    expect(await new RedisStore({ client: early, prefix: 'early:' }).length()).toBe(ids.length)
    await store.clear()
    early.disconnect()
    await writer.close()
  })

  test('with key prefixes and automatic pipelines of ioredis', async () => {
    const client = new Cluster([{ host: '127.0.0.1', port: ports[0] as number }], {
      keyPrefix: 'app*:',
      enableAutoPipelining: true,
    })
    const store = new RedisStore({ client })
    await Promise.all(ids.map((id) => store.write(id, text(), Date.now() + HOUR, 'absent')))
    await Promise.all(ids.map((id) => store.read(id, Date.now() + 2 * HOUR)))
    expect(slotsOf('app\\*:sess:id-')).toBe(3)
    expect(Object.keys((await store.all()) ?? {}).sort()).toEqual([...ids].sort())
    await store.clear()
    for (const prefix of ['sess:', 'users:']) expect(slotsOf(`app\\*:${prefix}`)).toBe(0)
    client.disconnect()
  })

  test('what cannot be scanned is an error, not an empty store', async () => {
    const client = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${ports[0]}` }] })
    const store = new RedisStore({ client })
    await expect(store.length()).rejects.toThrow(/no master .*is connected/)
    await client.connect()
    await expect(store.scan('17 127.0.0.1:1', 10)).rejects.toThrow(/no master 127\.0\.0\.1:1 is connected/)
    client.destroy()
  })
})
