import { createServer, request as httpRequest, type IncomingMessage } from 'node:http'
import express from 'express'
import request from 'supertest'
import { afterEach, describe, expect, test, vi } from 'vitest'
import session, { MemoryStore, Store, type SessionOptions } from '../../src'
import { inspector, type InspectorOptions } from '../../src/observability/inspector'
import { listen, type RunningServer } from '../support/app'

const secret = 'a secret that is long enough for these tests'

const servers: RunningServer[] = []
afterEach(async () => {
  vi.unstubAllEnvs()
  for (const server of servers.splice(0)) await server.close()
})

function appWith(options: SessionOptions = {}, inspecting: InspectorOptions = {}) {
  const sessions = session({
    secret,
    resave: false,
    saveUninitialized: false,
    user: (data) => (data as { user?: string }).user,
    describe: (req) => ({ agent: req.get('user-agent') }),
    ...options,
  })
  const app = express()
  app.use('/sessions', inspector(sessions, inspecting))
  app.use(sessions)
  app.get('/login/:user', async (req, res) => {
    await sessions.login(req, { user: req.params.user, cart: ['a secret thing'] } as never)
    res.send(req.sessionID)
  })
  app.get('/logout', async (req, res) => {
    await sessions.logout(req)
    res.send('out')
  })
  app.get('/me', (req, res) => res.send(String((req.session as { user?: string }).user)))
  app.use(((error: { status?: number; code?: string }, _req, res, _next) => {
    res.status(error.status ?? 500).send(error.code)
  }) as express.ErrorRequestHandler)
  return { app, sessions }
}

interface Shown {
  handle: string
  user?: string
  about?: unknown
  data: string[]
  bytes: number
  ends: number
  last?: { what: string; why: string }
  ended?: { what: string; why: string }
}

interface Snapshot {
  live: Shown[]
  ended: Shown[]
  hasMore: boolean
  isPartial: boolean
}

/** Looks at the page's events: answers each snapshot after another, and the text of all. */
async function look(app: express.Express) {
  const server = await listen(createServer(app))
  servers.push(server)
  let text = ''
  const response = await new Promise<IncomingMessage>((resolve) =>
    httpRequest({ host: '127.0.0.1', port: server.port, path: '/sessions/events' }, resolve).end(),
  )
  response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  const snapshots = (): Snapshot[] =>
    [...text.matchAll(/^event: sessions\ndata: (.*)\n\n/gm)].map(([, json = '']) => JSON.parse(json) as Snapshot)
  return {
    response,
    text: () => text,
    /** The first snapshot for which this holds. */
    until: (holds: (snapshot: Snapshot) => boolean): Promise<Snapshot> =>
      vi.waitUntil(() => snapshots().find(holds), { timeout: 20_000 }),
  }
}

describe('who may look', () => {
  test('in production nobody without a guard', () => {
    vi.stubEnv('NODE_ENV', 'production')
    vi.spyOn(console, 'warn').mockImplementation(() => undefined)
    expect(() => appWith()).toThrow('needs the option guard in production')
    expect(() => appWith({}, { guard: () => true })).not.toThrow()
    vi.restoreAllMocks()
  })

  test('with a guard whom it lets in, and an error of it is for the error handler', async () => {
    const guard = (req: express.Request): Promise<boolean> => {
      if (req.get('X-Admin') === 'broken') return Promise.reject(new Error('no database'))
      return Promise.resolve(req.get('X-Admin') === 'yes')
    }
    const { app } = appWith({}, { guard })
    for (const path of ['/sessions', '/sessions/events']) await request(app).get(path).expect(403, 'not for you')
    await request(app).post('/sessions/end/abc').expect(403, 'not for you')
    await request(app).get('/sessions').set('X-Admin', 'yes').expect(200)
    await request(app).get('/sessions').set('X-Admin', 'broken').expect(500)
  })

  test('without a guard this machine, by its own name and not for somebody else', async () => {
    const { app } = appWith()
    await request(app).get('/sessions').expect(200)
    for (const host of ['localhost:3000', 'shop.localhost', '[::1]:80', '127.0.0.1']) {
      await request(app).get('/sessions').set('Host', host).expect(200)
    }
    for (const host of ['evil.example', 'localhost.evil.example', '127.0.0.1.evil.example', '10.0.0.1']) {
      await request(app).get('/sessions').set('Host', host).expect(403)
    }
    await request(app).get('/sessions').set('X-Forwarded-For', '203.0.113.7').expect(403)
    await request(app).get('/sessions').set('Forwarded', 'for=203.0.113.7').expect(403)
  })

  test('ending a session: no page of another origin', async () => {
    const { app } = appWith()
    await request(app)
      .post('/sessions/end/abc')
      .set('Sec-Fetch-Site', 'cross-site')
      .expect(403, 'ERR_SESSION_CROSS_ORIGIN')
    await request(app).post('/sessions/end/abc').set('Sec-Fetch-Site', 'same-origin').expect(404)
    await request(app).get('/sessions/end/abc').expect(404)
  })

  test('options that cannot be used', () => {
    expect(() => appWith({}, { guard: true as never })).toThrow('guard option must be a function')
    expect(() => appWith({}, { limit: 0 })).toThrow('limit option must be')
    expect(() => inspector((() => undefined) as never)).toThrow(TypeError)
  })
})

test('the page lets nothing run but its own script, and is kept nowhere', async () => {
  const { app } = appWith()
  const { headers, text } = await request(app).get('/sessions')
  const [, nonce] = /script-src 'nonce-([^']+)'/.exec(headers['content-security-policy'] as string) ?? []
  expect(text).toContain(`<script nonce="${nonce}">`)
  expect(headers).toMatchObject({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
  const again = await request(app).get('/sessions')
  expect(again.headers['content-security-policy'], 'a nonce is used once').not.toContain(nonce)
})

describe('what is seen', () => {
  test('who is signed in, the device, the end, the size and the names of the data, but no ID and no value', async () => {
    const { app } = appWith({ cookie: { maxAge: 3_600_000 } })
    const agent = request.agent(app)
    const { text: id } = await agent.get('/login/ada').set('User-Agent', 'a browser')
    const page = await look(app)
    const { live, hasMore, isPartial } = await page.until(({ live }) => live.length === 1)
    expect({ hasMore, isPartial }).toEqual({ hasMore: false, isPartial: false })
    expect(live[0]).toMatchObject({ user: 'ada', about: { agent: 'a browser' }, data: ['user', 'cart'] })
    expect(live[0]?.bytes).toBeGreaterThan(100)
    expect(Math.abs((live[0]?.ends ?? 0) - Date.now() - 3_600_000)).toBeLessThan(60_000)
    expect(page.text()).not.toContain(id)
    expect(page.text()).not.toContain('a secret thing')
  })

  test('live: the last decision and why, and how a session ended', async () => {
    const { app } = appWith()
    const agent = request.agent(app)
    const page = await look(app)
    await agent.get('/login/ada')
    await page.until(({ live }) => live[0]?.last?.what === 'nothing')
    await agent.get('/me')
    await page.until(({ live }) => live.length === 1 && live[0]?.last?.why === 'it is stored as it is')
    await agent.get('/logout')
    const { ended } = await page.until(({ ended }) => ended.length > 0)
    expect(ended).toMatchObject([
      { user: 'ada', ended: { what: 'destroyed', why: 'by the application: a logout, or users.endAll' } },
    ])
  })

  test.each([{}, { hashIds: true }])('that all sessions of a user were ended, with %o', async (options) => {
    const { app, sessions } = appWith(options)
    await request(app).get('/login/ada')
    await request(app).get('/login/ada')
    await request(app).get('/login/grace')
    const page = await look(app)
    await page.until(({ live }) => live.length === 3)
    await sessions.users.endAll('ada')
    const { ended, live } = await page.until(({ ended }) => ended.length === 2)
    expect(live.map(({ user }) => user)).toEqual(['grace'])
    expect(ended.map(({ user, ended }) => [user, ended?.what, ended?.why])).toEqual(
      Array(2).fill(['ada', 'destroyed', 'by the application: a logout, or users.endAll']),
    )
  })

  test('that a session has timed out, or is gone', async () => {
    const store = new MemoryStore()
    const { app } = appWith({ store, idleTimeout: 3_600_000 })
    const ada = request.agent(app)
    const { text: grace } = await request(app).get('/login/grace')
    await ada.get('/login/ada')
    const page = await look(app)
    await page.until(({ live }) => live.length === 2)
    store.remove(grace)
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 4_000_000 })
    await ada.get('/me')
    vi.useRealTimers()
    const { ended } = await page.until(({ ended }) => ended.length === 2)
    expect(ended.map(({ user, ended }) => [user, ended?.what])).toEqual(
      expect.arrayContaining([
        ['ada', 'expired'],
        ['grace', 'gone'],
      ]),
    )
  })

  test.each([{ hashIds: true }, { hashIds: true, encryption: Buffer.alloc(32, 7) }])(
    'with %o, where the IDs are not in the store',
    async (options) => {
      const { app } = appWith(options)
      const agent = request.agent(app)
      await agent.get('/login/ada')
      await agent.get('/me')
      const page = await look(app)
      const { live } = await page.until(({ live }) => live.length === 1)
      expect(live[0]).toMatchObject({ user: 'ada', last: { what: 'touch' } })
      await request(app).post(`/sessions/end/${live[0]?.handle}`).expect(204)
      await agent.get('/me').expect(200, 'undefined')
    },
  )

  test('no more than the limit', async () => {
    const { app } = appWith({}, { limit: 2 })
    for (const user of ['ada', 'grace', 'mary']) await request(app).get(`/login/${user}`)
    const { live, hasMore } = await (await look(app)).until(() => true)
    expect(live).toHaveLength(2)
    expect(hasMore).toBe(true)
  })

  test('of a classic store the sessions that had a request', async () => {
    const records = new Map<string, string>()
    class Classic extends Store {
      get(id: string, callback: (error?: unknown, data?: session.SessionData | null) => void) {
        callback(null, JSON.parse(records.get(id) ?? 'null') as session.SessionData | null)
      }
      set(id: string, data: session.SessionData, callback?: () => void) {
        records.set(id, JSON.stringify(data))
        callback?.()
      }
      destroy(id: string, callback?: () => void) {
        records.delete(id)
        callback?.()
      }
    }
    const { app } = appWith({ store: new Classic(), user: undefined, describe: undefined })
    const agent = request.agent(app)
    await agent.get('/login/ada')
    const { live, isPartial } = await (await look(app)).until(({ live }) => live.length === 1)
    expect(isPartial).toBe(true)
    expect(live[0]?.data).toEqual(['user', 'cart'])
    await request(app).post(`/sessions/end/${live[0]?.handle}`).expect(204)
    await agent.get('/me').expect(200, 'undefined')
  })

  test('that the store cannot be read', async () => {
    const store = new MemoryStore()
    vi.spyOn(store, 'scan').mockImplementation(() => {
      throw new Error('the server is down')
    })
    const page = await look(appWith({ store }).app)
    await vi.waitUntil(() => page.text().includes('event: failure\ndata: "Error: the server is down"'))
  })
})

test('the button ends one session, and its client is logged out', async () => {
  const { app } = appWith()
  const [ada, grace] = [request.agent(app), request.agent(app)]
  await ada.get('/login/ada')
  await grace.get('/login/grace')
  const page = await look(app)
  const { live } = await page.until(({ live }) => live.length === 2)
  const { handle } = live.find(({ user }) => user === 'ada') as Shown
  await request(app).post(`/sessions/end/${handle}`).expect(204)
  await ada.get('/me').expect(200, 'undefined')
  await grace.get('/me').expect(200, 'grace')
  const { ended } = await page.until(({ ended }) => ended[0]?.ended?.why === 'by whoever looks at this page')
  expect(ended).toHaveLength(1)
  await request(app).post(`/sessions/end/${handle}`).expect(404)
})
