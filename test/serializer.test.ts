import express from 'express'
import request from 'supertest'
import { expect, test } from 'vitest'
import session from '../src'

test('with another serializer a session keeps Date, Map, Set and BigInt', async () => {
  const devalue = await import('devalue')
  const store = new session.MemoryStore()
  store.serializer = { stringify: devalue.stringify, parse: devalue.parse as (text: string) => unknown }
  const app = express()
  app.use(
    session({ secret: 'a secret that is long enough for this test', store, resave: false, saveUninitialized: false }),
  )
  const at = new Date(2020, 1, 2)
  app.get('/set', (req, res) => {
    Object.assign(req.session, { at, map: new Map([['a', 1n]]), set: new Set([1]) })
    res.send('set')
  })
  app.get('/get', (req, res) => {
    const { at, map, set } = req.session as unknown as { at: Date; map: Map<string, bigint>; set: Set<number> }
    res.json([at.getTime(), map.get('a') === 1n, set.has(1)])
  })
  const agent = request.agent(app)
  await agent.get('/set').expect(200)
  const { body, headers } = await agent.get('/get').expect(200)
  expect(body).toEqual([at.getTime(), true, true])
  expect(headers['set-cookie'], 'nothing changed').toBeUndefined()
})
