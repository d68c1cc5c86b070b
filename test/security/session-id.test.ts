import express from 'express'
import request from 'supertest'
import { afterEach, describe, expect, test, vi } from 'vitest'
import session, { MemoryStore } from '../../src'
import { signedCookie } from '../support/set-cookie'

const secret = 'a secret that is long enough for these tests'

function appWith(options: session.SessionOptions = {}) {
  const store = new MemoryStore()
  const app = express()
  app.use(session({ secret, store, resave: false, saveUninitialized: false, ...options }))
  app.get('/', (req, res) => res.send(req.sessionID))
  app.get('/login', async (req, res) => {
    await req.session.regenerate()
    Object.assign(req.session, { user: 'ada' })
    res.send(req.sessionID)
  })
  app.get('/cart', (req, res) => {
    Object.assign(req.session, { cart: ['shirt'] })
    res.send(req.sessionID)
  })
  return { app, store }
}

const cookieOf = (res: request.Response): string => res.get('Set-Cookie')?.[0]?.split(';')[0] ?? ''

describe('the session ID', () => {
  test('has 192 random bits, and means nothing', async () => {
    const { app } = appWith()
    const ids = new Set<string>()
    const ones = new Array<number>(192).fill(0)
    const server = app.listen(0)
    const agent = request(server)
    for (let n = 0; n < 400; n++) {
      const { text: id } = await agent.get('/')
      expect(id).toMatch(/^[\w-]{32}$/)
      ids.add(id)
      for (const [byte, value] of Buffer.from(id, 'base64url').entries()) {
        for (let bit = 0; bit < 8; bit++) ones[byte * 8 + bit] = (ones[byte * 8 + bit] ?? 0) + ((value >> bit) & 1)
      }
    }
    server.close()
    expect(ids.size).toBe(400)
    // Each bit is set about half the time: seven standard deviations to either side.
    for (const count of ones) expect(Math.abs(count - 200)).toBeLessThan(70)
  })

  test('that nobody was given is not taken over, however well it is signed', async () => {
    const { app, store } = appWith()
    const cookie = signedCookie('made-up', secret)
    const { text: id } = await request(app).get('/cart').set('Cookie', cookie)
    expect(id).not.toBe('made-up')
    expect(Object.keys(store.sessions)).toEqual([id])
  })

  test('in the URL, the body or a header of its own counts for nothing', async () => {
    const { app } = appWith()
    const { text: id, headers } = await request(app).get('/cart')
    const value = cookieOf({ get: () => headers['set-cookie'] } as never).slice('connect.sid='.length)
    const asked = await request(app)
      .get(`/?connect.sid=${value}&sid=${id}`)
      .set('X-Session', value)
      .send({ sid: value })
    expect(asked.text).not.toBe(id)
  })

  test('is another one after the login, and the one before is dead', async () => {
    const { app } = appWith()
    const before = await request(app).get('/cart')
    const login = await request(app).get('/login').set('Cookie', cookieOf(before))
    expect(login.text).not.toBe(before.text)
    expect((await request(app).get('/').set('Cookie', cookieOf(before))).text).not.toBe(before.text)
    expect((await request(app).get('/').set('Cookie', cookieOf(login))).text).toBe(login.text)
  })

  test('reaches the store only when its signature is right', async () => {
    const { app, store } = appWith()
    const read = vi.spyOn(store, 'read')
    for (const cookie of ['connect.sid=s%3Aguess.x', signedCookie('guess', 'another secret').replace('x', 'y')])
      await request(app).get('/').set('Cookie', cookie)
    expect(read).not.toHaveBeenCalled()
  })

  test('and its cookie stay far below the 4096 bytes that browsers keep', async () => {
    const { app } = appWith()
    const [line = ''] = (await request(app).get('/cart')).get('Set-Cookie') ?? []
    expect(line.length).toBeGreaterThan(0)
    expect(line.length).toBeLessThan(512)
  })
})

describe('the short form in production', () => {
  afterEach(() => vi.unstubAllEnvs())

  test.each([
    ['https', '; Path=/; HttpOnly; Secure; SameSite=Lax'],
    ['http', '; Path=/; HttpOnly; SameSite=Lax'],
  ])('over %s', async (protocol, attributes) => {
    vi.stubEnv('NODE_ENV', 'production')
    vi.spyOn(console, 'warn').mockReturnValue(undefined)
    const app = express()
    app.set('trust proxy', 1)
    app.use(session(secret))
    app.get('/', (req, res) => {
      Object.assign(req.session, { n: 1 })
      res.send('set')
    })
    const [line = ''] = (await request(app).get('/').set('X-Forwarded-Proto', protocol)).get('Set-Cookie') ?? []
    expect(line.slice(line.indexOf(';'))).toBe(attributes)
  })
})
