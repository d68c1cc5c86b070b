import express from 'express'
import request from 'supertest'
import { describe, expect, test, vi } from 'vitest'
import session, { MemoryStore } from '../src'

type Data = Record<string, unknown>
const secret = 'a secret that is long enough for bearer tokens'

function api(options: session.FurtherOptions = {}, secrets: string | string[] = secret) {
  const store = options.store ?? new MemoryStore()
  const sessions = session(secrets, { store, transport: session.bearer(), hints: false, ...options })
  const app = express()
  app.use(sessions)
  app.post('/login', async (req, res) => {
    await sessions.login(req, { user: 'ada' } as Data)
    res.sendStatus(204)
  })
  app.post('/logout', async (req, res) => {
    await sessions.logout(req)
    res.sendStatus(204)
  })
  app.get('/me', (req, res) => void res.json({ user: (req.session as unknown as Data)['user'] ?? null }))
  return { app, sessions, store }
}

async function login({ app }: ReturnType<typeof api>): Promise<string> {
  const { headers } = await request(app).post('/login').expect(204)
  expect(headers['set-cookie']).toBeUndefined()
  return headers['authorization'] as string
}

describe('session.bearer()', () => {
  test('the answer to a login has a bearer token, which opens the session until the logout', async () => {
    const made = api()
    const authorization = await login(made)
    expect(authorization).toMatch(/^Bearer [\w.~+/-]+$/)
    await request(made.app).get('/me').set('Authorization', authorization).expect({ user: 'ada' })
    await request(made.app)
      .get('/me')
      .set('Authorization', authorization.replace('Bearer', 'bearer'))
      .expect({ user: 'ada' })
    await request(made.app).get('/me').expect({ user: null })
    await request(made.app).post('/logout').set('Authorization', authorization).expect(204)
    await request(made.app).get('/me').set('Authorization', authorization).expect({ user: null })
  })

  test('an ID without its signature, or with another one, is not looked for in the store', async () => {
    const made = api()
    const authorization = await login(made)
    const read = vi.spyOn(made.store as MemoryStore, 'read')
    const [id = ''] = authorization.split('.')
    const last = authorization.endsWith('A') ? 'B' : 'A'
    for (const forged of [id, `${id}.`, authorization.slice(0, -1) + last, 'Basic YTpi', 'Bearer', `Bearer %00${id}`]) {
      await request(made.app).get('/me').set('Authorization', forged).expect(200, { user: null })
    }
    expect(read).not.toHaveBeenCalled()
  })

  test('a cookie counts for nothing, though it has the same signature', async () => {
    const made = api()
    const authorization = await login(made)
    const cookie = `connect.sid=${encodeURIComponent(`s:${authorization.slice('Bearer '.length)}`)}`
    await request(made.app).get('/me').set('Cookie', cookie).expect({ user: null })
  })

  test('a token that an older secret signed is replaced by one of the first', async () => {
    const older = 'an older secret that is long enough, too'
    const before = api({}, older)
    const old = await login(before)
    const after = api({ store: before.store }, [secret, older])
    const { headers } = await request(after.app).get('/me').set('Authorization', old).expect({ user: 'ada' })
    expect(headers['authorization']).not.toBe(old)
    const only = api({ store: before.store })
    await request(only.app).get('/me').set('Authorization', old).expect({ user: null })
    await request(only.app)
      .get('/me')
      .set('Authorization', headers['authorization'] as string)
      .expect({ user: 'ada' })
  })

  test('after sessions.renew the former token opens nothing', async () => {
    const made = api()
    made.app.post('/sudo', async (req, res) => {
      await made.sessions.renew(req)
      res.sendStatus(204)
    })
    const old = await login(made)
    const { headers } = await request(made.app).post('/sudo').set('Authorization', old).expect(204)
    const renewed = headers['authorization'] as string
    expect(renewed).toMatch(/^Bearer [\w-]+~[\w.+/-]+$/)
    await request(made.app).get('/me').set('Authorization', old).expect({ user: null })
    await request(made.app).get('/me').set('Authorization', renewed).expect({ user: 'ada' })
  })

  test('with noStore no cache keeps the answer with the token', async () => {
    const { headers } = await request(api({ noStore: true }).app).post('/login')
    expect(headers['cache-control']).toBe('no-store')
  })

  test('it needs a secret', async () => {
    const app = express().use(
      session({ transport: session.bearer(), resave: false, saveUninitialized: false, hints: false }),
    )
    app.set('env', 'test')
    const { text } = await request(app).get('/').expect(500)
    expect(text).toContain('secret option required for sessions')
    expect(() => session(secret, { transport: session.bearer as never })).toThrow(
      /transport option must be an object with the functions read and write, such as session\.bearer\(\)/,
    )
  })
})
