import express from 'express'
import request from 'supertest'
import { describe, expect, test } from 'vitest'
import session, { MemoryStore, type SessionOptions } from '../src'
import { signedCookie } from '../src/testing'

const secret = 'a secret that is long enough for this test'

describe('signedCookie: a login in one call', () => {
  test.each<[string, Partial<SessionOptions>]>([
    ['by default', {}],
    ['under another name', { name: 'shop' }],
    ['with a list of secrets', { secret: [secret, 'the one before'] }],
    ['with hashed IDs', { hashIds: true }],
    ['with encryption', { encryption: Buffer.alloc(32, 7) }],
    ['with both, and old keys', { hashIds: true, encryption: [Buffer.alloc(32, 7), Buffer.alloc(32, 8)] }],
  ])('%s', async (_, options) => {
    const store = new MemoryStore()
    const app = express()
    app.use(session({ secret, store, resave: false, saveUninitialized: false, ...options }))
    app.get('/', (req, res) => res.json(req.session))
    const { name, hashIds, encryption } = options
    const cookie = await signedCookie({
      store,
      secret: options.secret ?? secret,
      data: { user: 'ada' },
      ...(name && { name }),
      hashIds,
      encryption,
    })
    const { body, headers } = await request(app).get('/').set('Cookie', cookie)
    expect(body).toMatchObject({ user: 'ada', cookie: { originalMaxAge: 3_600_000 } })
    expect(headers['set-cookie']).toBeUndefined()
  })

  test('with a serializer of the store', async () => {
    const serializer = {
      stringify: (data: object) => `text:${JSON.stringify(data)}`,
      parse: (text: string): unknown => JSON.parse(text.slice(5)),
    }
    const store = Object.assign(new MemoryStore(), { serializer })
    const app = express()
    app.use(session({ secret, store, resave: false, saveUninitialized: false }))
    app.get('/', (req, res) => res.json(req.session))
    const cookie = await signedCookie({ store, secret, data: { user: 'ada' }, maxAge: 1000 })
    const { body } = await request(app).get('/').set('Cookie', cookie)
    expect(body).toMatchObject({ user: 'ada', cookie: { originalMaxAge: 1000 } })
  })
})
