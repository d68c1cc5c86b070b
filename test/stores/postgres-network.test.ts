// @module-tag server
import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import session from '../../src'
import { PostgresStore } from '../../src/stores/postgres'
import { SECRET } from '../support/app'
import { openSchema, unique, type Schema } from '../support/postgres'
import { lossyProxy } from '../support/redis-proxy'
import { describeWith } from '../support/servers'

const PORT = 5432
const text = (more: object = {}): string => JSON.stringify({ cookie: {}, ...more })
const later = (): number => Date.now() + 3_600_000

/** A way to the server by connections that can be forgotten: they stay open, and nothing comes through any more. */
async function forgetfulProxy() {
  const forget: (() => void)[] = []
  const server = createServer((client) => {
    const upstream = connect(PORT, '127.0.0.1')
    client.pipe(upstream).pipe(client)
    for (const socket of [client, upstream]) socket.on('error', () => undefined)
    client.on('close', () => upstream.destroy())
    forget.push(() => {
      client.unpipe(upstream).resume()
      upstream.unpipe(client).resume()
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    forgetAll: () => forget.splice(0).forEach((one) => one()),
    close: () => server.close(),
  }
}

describeWith('postgres', 'PostgresStore and the network', () => {
  let schema: Schema
  beforeAll(async () => {
    schema = await openSchema()
  })
  afterAll(() => schema.drop())

  const newStore = (port: number, more: object = {}): PostgresStore =>
    new PostgresStore({
      pool: schema.newPool({ port, ...more }),
      tableName: unique(),
      createTableIfMissing: true,
      errorLog: () => undefined,
    })

  test('what is acknowledged is stored, and nothing twice, whatever answers are lost', async () => {
    const proxy = await lossyProxy(PORT)
    const store = newStore(proxy.port)
    const sessions = session({ secret: SECRET, store })
    const ids = ['one', 'two', 'three']
    const counts = new Map(ids.map((id) => [id, { acknowledged: 0, uncertain: 0 }]))
    for (const id of ids) await store.write(id, text({ n: 0 }), later(), 'absent')
    proxy.loseIf((request) => /UPDATE|SELECT/.test(request) && Math.random() < 0.1)
    const add = async (writer: number): Promise<void> => {
      for (let n = 0; n < 25; n++) {
        const id = ids[(writer + n) % ids.length] as string
        const outcome = await sessions
          .update(id, (data) => void (data as unknown as { n: number }).n++)
          .then(
            () => 'acknowledged' as const,
            () => 'uncertain' as const,
          )
        ;(counts.get(id) as Record<typeof outcome, number>)[outcome]++
      }
    }
    await Promise.all([0, 1, 2, 3, 4, 5].map(add))
    proxy.loseIf(() => false)
    expect(proxy.lost).toBeGreaterThan(2)
    for (const [id, { acknowledged, uncertain }] of counts) {
      const { n } = JSON.parse((await store.read(id))?.text ?? '{}') as { n: number }
      expect(n).toBeGreaterThanOrEqual(acknowledged)
      expect(n).toBeLessThanOrEqual(acknowledged + uncertain)
    }
    await store.close()
    await proxy.close()
  })

  test('a read whose answer is lost is asked again, a change is not', async () => {
    const proxy = await lossyProxy(PORT)
    const store = newStore(proxy.port)
    const version = (await store.write('a', text({ n: 1 }), later(), 'absent')) as string
    let left = 1
    proxy.loseIf((request) => /SELECT t\.sid|UPDATE/.test(request) && left-- > 0)
    expect((await store.read('a'))?.version).toBe(version)
    left = 1
    await expect(store.write('a', text({ n: 2 }), later(), { version })).rejects.toThrow(
      /Connection terminated|ECONNRESET/,
    )
    expect((await store.read('a'))?.text).toBe(text({ n: 2 }))
    expect(proxy.lost).toBe(2)
    await store.close()
    await proxy.close()
  })

  test('with query_timeout, connections that the network has forgotten are replaced', async () => {
    const proxy = await forgetfulProxy()
    const store = newStore(proxy.port, { query_timeout: 1000, max: 2 })
    await store.write('a', text(), later(), 'absent')
    proxy.forgetAll()
    await expect(store.read('a')).rejects.toThrow(/timeout/)
    expect(await store.read('a')).not.toBeNull()
    await store.close()
    proxy.close()
  })
})
