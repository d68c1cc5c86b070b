// @module-tag server
import { once } from 'node:events'
import { createClient } from 'redis'
import express from 'express'
import request from 'supertest'
import { expect, test } from 'vitest'
import session from '../../src'
import { RedisStore } from '../../src/stores/redis'
import { CLIENTS } from '../support/redis-clients'
import { describeWithOwnRedis, startRedis } from '../support/redis-server'
import { until } from '../support/servers'

const text = (data: object = {}): string => JSON.stringify({ cookie: {}, ...data })
const later = (): number => Date.now() + 3_600_000

describeWithOwnRedis('a server that goes away', () => {
  test('requests get errors meanwhile, the process lives, and it works again after', async () => {
    const server = await startRedis()
    const client = createClient({ url: `redis://127.0.0.1:${server.port}`, disableOfflineQueue: true })
    await client.connect()
    const app = express()
    const store = new RedisStore({ client })
    const secret = 'a secret that is long enough for this test'
    app.use(session({ secret, store, resave: false, saveUninitialized: false, timeout: 500 }))
    app.get('/', (req, res) => {
      const data = req.session as unknown as { views?: number }
      data.views = (data.views ?? 0) + 1
      res.send(String(data.views))
    })
    app.use(((error, _req, res, next) =>
      res.headersSent ? next(error) : res.status(503).send('down')) as express.ErrorRequestHandler)
    const agent = request.agent(app)
    await agent.get('/').expect(200, '1')
    // Nobody else listens to the client's errors: that would end the process.
    const warned = once(process, 'warning')
    await server.kill()
    expect(String(await warned)).toMatch(/the Redis client reports: .*listen to its 'error' events/)
    await agent.get('/').expect(503, 'down')
    await server.start()
    await until(() => client.isReady)
    await agent.get('/').expect(200, '2')
    client.destroy()
    await server.close()
  })

  for (const [name, connect] of Object.entries(CLIENTS)) {
    test(`${name}: changes under way reject, later calls succeed`, async () => {
      const server = await startRedis()
      const { client, close } = await connect(server.port)
      const store = new RedisStore({ client })
      await store.write('id', text(), later(), 'absent')
      server.cli('client', 'pause', '100000', 'all')
      const calls = [
        store.read('id'),
        store.read('id', later()),
        store.readMany(['id']),
        store.linked('ada'),
        store.write('id', text(), later(), { version: text() }),
        store.remove('other'),
      ]
      const ended = Promise.allSettled(calls)
      await new Promise((resolve) => setImmediate(resolve))
      await server.kill()
      await server.start()
      const results = await ended
      // ioredis sends again what it had no answer to, and so does the store for reads, once.
      const changes = name.startsWith('redis') ? 'rejected' : 'fulfilled'
      expect(results.slice(-2).map(({ status }) => status)).toEqual([changes, changes])
      expect(await store.read('id')).toMatchObject({ text: text() })
      await close()
      await server.close()
    })
  }
})
