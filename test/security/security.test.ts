import express from 'express'
import request from 'supertest'
import { describe, expect, test, vi, afterEach } from 'vitest'
import session from '../../src'
import { appWithSessions } from '../faults/fault'
import { visitAndSettle, type Jar } from '../support/browser'
import { setCookies } from '../support/set-cookie'

const secret = 'a secret that is long enough for these tests'
const MINUTE = 60_000

type Data = Record<string, unknown>
const dataOf = (req: express.Request): Data => req.session as unknown as Data

/** The same memory, answering later, as a store on another machine does. */
class FarStore extends session.RecordStore {
  readonly memory = new session.MemoryStore()
  async read(id: string) {
    return Promise.resolve(this.memory.read(id))
  }
  async write(...args: Parameters<session.MemoryStore['write']>) {
    await new Promise((resolve) => setImmediate(resolve))
    return this.memory.write(...args)
  }
  async renew(id: string, expires: number) {
    return Promise.resolve(this.memory.renew(id, expires))
  }
  async remove(...args: Parameters<session.MemoryStore['remove']>) {
    return Promise.resolve(this.memory.remove(...args))
  }
  scan(cursor: string | null, limit: number) {
    return this.memory.scan(cursor, limit)
  }
}

function shop(options: session.SessionOptions = {}) {
  const sessions = session({ secret, resave: false, saveUninitialized: false, hints: false, ...options })
  const events: [string, unknown][] = []
  for (const name of ['created', 'renewed', 'destroyed', 'expired', 'staleId', 'conflict'] as const) {
    sessions.events.on(name, (event) => events.push([name, event]))
  }
  const app = express()
  app.use(sessions)
  app.get('/login', async (req, res) => {
    await req.session.regenerate()
    dataOf(req)['user'] = req.query['user'] ?? 'ada'
    res.send(req.sessionID)
  })
  app.get('/me', (req, res) => void res.json({ user: dataOf(req)['user'] ?? null, id: req.sessionID }))
  app.get('/renew', async (req, res) => {
    await sessions.renew(req)
    res.send(req.sessionID)
  })
  app.get('/logout', async (req, res) => {
    await req.session.destroy()
    res.send('out')
  })
  app.get('/flash', async (req, res) => {
    await sessions.flash(req).add('info', 'saved')
    res.send('flashed')
  })
  app.get('/take', async (req, res) => void res.json(await sessions.flash(req).take('info')))
  app.use(((error: Error & { code?: string }, _req, res, _next) => {
    void res.status(500).send(error.code ?? error.message)
  }) as express.ErrorRequestHandler)
  return {
    app,
    sessions,
    events,
    named: (name: string) => events.filter(([each]) => each === name).map(([, event]) => event),
  }
}

const cookieOf = (res: request.Response): string =>
  (res.headers['set-cookie'] as unknown as string[])[0]?.split(';')[0] ?? ''

afterEach(() => vi.useRealTimers())

/** Only the clock: the network of the tests goes on. */
function clock(): void {
  vi.useFakeTimers({ toFake: ['Date'] })
}

for (const [name, makeStore] of Object.entries({
  memory: () => new session.MemoryStore(),
  far: () => new FarStore(),
})) {
  describe(`on a ${name} store`, () => {
    test('idleTimeout ends a session without requests, and a busy one lives', async () => {
      clock()
      const { app, named } = shop({ store: makeStore(), idleTimeout: 10 * MINUTE })
      const agent = request.agent(app)
      await agent.get('/login')
      for (let n = 0; n < 5; n++) {
        vi.setSystemTime(Date.now() + 8 * MINUTE)
        expect((await agent.get('/me')).body).toMatchObject({ user: 'ada' })
      }
      vi.setSystemTime(Date.now() + 11 * MINUTE)
      expect((await agent.get('/me')).body).toMatchObject({ user: null })
      expect(named('expired')).toMatchObject([{ reason: 'idle' }])
    })

    test('absoluteTimeout ends a session however busy it is, in the store, too', async () => {
      clock()
      const store = makeStore()
      const { app, named } = shop({ store, absoluteTimeout: 30 * MINUTE })
      const agent = request.agent(app)
      await agent.get('/login')
      for (let n = 0; n < 5; n++) {
        vi.setSystemTime(Date.now() + 5 * MINUTE)
        expect((await agent.get('/me')).body).toMatchObject({ user: 'ada' })
      }
      vi.setSystemTime(Date.now() + 6 * MINUTE)
      expect((await agent.get('/me')).body).toMatchObject({ user: null })
      expect(named('expired')).toMatchObject([{ reason: 'absolute' }])
      expect(await store.length()).toBe(0)
    })

    test('renewalTimeout gives one new token to parallel requests; the old one dies some time after it has come back', async () => {
      clock()
      const { app, named } = shop({ store: makeStore(), renewalTimeout: 15 * MINUTE, renewalGrace: 10_000 })
      const old = cookieOf(await request(app).get('/login'))
      vi.setSystemTime(Date.now() + 16 * MINUTE)
      const answers = await Promise.all(Array.from({ length: 8 }, () => request(app).get('/me').set('Cookie', old)))
      expect(new Set(answers.map(({ body }) => (body as { user: string }).user))).toEqual(new Set(['ada']))
      expect(new Set(answers.map(({ body }) => (body as { id: string }).id)).size, 'one ID').toBe(1)
      expect(named('renewed')).toHaveLength(1)
      const given = answers.filter(({ headers }) => headers['set-cookie'])
      expect(given).toHaveLength(1)
      const renewed = cookieOf(given[0] as request.Response)
      expect(renewed).not.toBe(old)
      expect((await request(app).get('/me').set('Cookie', renewed)).body).toMatchObject({ user: 'ada' })
      vi.setSystemTime(Date.now() + 9000)
      expect((await request(app).get('/me').set('Cookie', old)).body).toMatchObject({ user: 'ada' })
      vi.setSystemTime(Date.now() + 2000)
      expect((await request(app).get('/me').set('Cookie', old)).body).toMatchObject({ user: null })
      expect(named('staleId')).toHaveLength(1)
      expect((await request(app).get('/me').set('Cookie', renewed)).body).toMatchObject({ user: 'ada' })
    })

    test('onStaleId: destroy ends the session that a replaced ID belonged to', async () => {
      clock()
      const { app } = shop({ store: makeStore(), onStaleId: 'destroy', renewalGrace: 1000 })
      const old = cookieOf(await request(app).get('/login'))
      const renewed = cookieOf(await request(app).get('/renew').set('Cookie', old))
      vi.setSystemTime(Date.now() + 2000)
      await request(app).get('/me').set('Cookie', old)
      expect((await request(app).get('/me').set('Cookie', renewed)).body).toMatchObject({ user: null })
    })

    test('a flash message is given once, to one of the requests that ask at the same time', async () => {
      const { app } = shop({ store: makeStore() })
      const agent = request.agent(app)
      const cookie = cookieOf(await agent.get('/login'))
      await agent.get('/flash')
      const taken = await Promise.all(Array.from({ length: 5 }, () => request(app).get('/take').set('Cookie', cookie)))
      expect(taken.flatMap(({ body }) => body as string[])).toEqual(['saved'])
    })
  })
}

describe('what is stored', () => {
  test('hashIds and encryption: neither the ID nor the data can be found in the store', async () => {
    const store = new session.MemoryStore()
    const { app } = shop({ store, hashIds: true, encryption: 'k'.repeat(43) + '=' })
    const agent = request.agent(app)
    const { text: id } = await agent.get('/login?user=somebody')
    const stored = JSON.stringify(store.scan(null, 10))
    expect(stored).not.toContain(id)
    expect(stored).not.toContain('somebody')
    expect((await agent.get('/me')).body).toMatchObject({ user: 'somebody' })
  })

  test('hashIds with migrate: a session under its plain ID is found, and stays there', async () => {
    const store = new session.MemoryStore()
    const cookie = cookieOf(await request(shop({ store }).app).get('/login'))
    const { app } = shop({ store, hashIds: { migrate: true } })
    expect((await request(app).get('/me').set('Cookie', cookie)).body).toMatchObject({ user: 'ada' })
    expect(store.scan(null, 10).records.map(({ id }) => id.startsWith('h1.'))).toEqual([false])
    expect((await request(app).get('/me').set('Cookie', cookie)).body).toMatchObject({ user: 'ada' })
  })

  test('these options need a record store, and say so', () => {
    const store = Object.assign(new (session.Store as unknown as new () => session.Store)(), {
      get() {},
      set() {},
      destroy() {},
    })
    for (const option of [{ hashIds: true }, { encryption: 'k'.repeat(43) + '=' }, { user: () => 1 }]) {
      expect(() => session({ secret, store, ...option })).toThrow(/option needs a record store/)
    }
  })
})

describe('the cookie', () => {
  test('clearCookie removes it with the attributes it was set with, noStore keeps it out of caches', async () => {
    const { app } = shop({ clearCookie: true, noStore: true, cookie: { path: '/', sameSite: 'lax' } })
    const agent = request.agent(app)
    const login = await agent.get('/login')
    expect(login.headers['cache-control']).toBe('no-store')
    const [removal] = (await agent.get('/logout')).headers['set-cookie'] as unknown as string[]
    expect(removal).toBe('connect.sid=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax')
  })
})

test.each([{ sameSite: 'auto' }, { secure: 'auto' }] as const)(
  'clearCookie with unset: destroy and %j: the cookie is removed as it was set, for this connection',
  async (cookie) => {
    const { app } = appWithSessions({ clearCookie: true, unset: 'destroy', cookie }, (req, res) => {
      if (req.path === '/out') (req as { session: unknown }).session = null
      else req.session['user'] = 'ada'
      res.send('done')
    })
    const jar: Jar = {}
    const attributes = async (path: string): Promise<string[]> => {
      const { headers } = await visitAndSettle(app, path, jar)
      const [line = ''] = setCookies(Object.fromEntries(headers), 'connect.sid')
      return line.split('; ').slice(1)
    }
    const set = await attributes('/')
    const removed = await attributes('/out')
    expect(removed).toContain('Expires=Thu, 01 Jan 1970 00:00:00 GMT')
    expect(removed.filter((attribute) => !attribute.startsWith('Expires'))).toEqual(set)
  },
)

describe("a user's sessions", () => {
  const user = (data: object): string | undefined => (data as { user?: string }).user

  test('list, end one, end all others', async () => {
    const { app, sessions } = shop({ user, describe: (req) => req.get('user-agent') })
    app.get('/others', async (req, res) => void res.json(await sessions.users.endOthers(req)))
    app.get('/list', async (req, res) => void res.json(await sessions.users.list('ada', req)))
    const agents = Array.from({ length: 4 }, () => request.agent(app))
    for (const [n, agent] of agents.entries()) await agent.get('/login').set('User-Agent', `browser ${n}`)
    const [first, second, third, last] = agents as [
      (typeof agents)[0],
      (typeof agents)[0],
      (typeof agents)[0],
      (typeof agents)[0],
    ]
    const listed = (await last.get('/list')).body as { handle: string; about: string; current: boolean }[]
    expect(listed.map(({ about }) => about).sort()).toEqual(['browser 0', 'browser 1', 'browser 2', 'browser 3'])
    expect(listed.filter(({ current }) => current).map(({ about }) => about)).toEqual(['browser 3'])
    const handle = listed.find(({ about }) => about === 'browser 0')?.handle ?? ''
    expect(await sessions.users.end('eve', handle), 'it is not her session').toBe(false)
    expect(await sessions.users.end('ada', handle)).toBe(true)
    expect((await first.get('/me')).body).toMatchObject({ user: null })
    expect((await last.get('/others')).body).toBe(2)
    for (const agent of [second, third]) expect((await agent.get('/me')).body).toMatchObject({ user: null })
    expect((await last.get('/me')).body).toMatchObject({ user: 'ada' })
  })

  test('maxSessionsPerUser ends the oldest', async () => {
    const { app } = shop({ user, maxSessionsPerUser: 2 })
    const agents = Array.from({ length: 3 }, () => request.agent(app))
    for (const agent of agents) {
      await agent.get('/login')
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    const users = await Promise.all(
      agents.map(async (agent) => ((await agent.get('/me')).body as { user: string | null }).user),
    )
    expect(users).toEqual([null, 'ada', 'ada'])
  })

  test('or refuses the new one', async () => {
    const { app } = shop({ user, maxSessionsPerUser: 1, onSessionLimit: 'refuse' })
    const [one, two] = [request.agent(app), request.agent(app)]
    await one.get('/login').expect(200)
    await two.get('/login').expect(500, 'ERR_SESSION_LIMIT')
    expect((await one.get('/me')).body).toMatchObject({ user: 'ada' })
    expect((await two.get('/me')).body).toMatchObject({ user: null })
  })
})

/** A store that answers who asks for a user's sessions with what was so when they asked, and something happens first. */
function staleIndex(meanwhile: () => Promise<unknown>): session.MemoryStore {
  const store = new session.MemoryStore()
  const linked = store.linked.bind(store)
  let asked = 0
  const later = async (user: string): Promise<string[]> => {
    const links = linked(user)
    if (++asked === 2) await meanwhile()
    return links
  }
  return Object.assign(store, { linked: later as never })
}

describe('a user’s session that goes on under another ID', () => {
  const user = (data: object): string | undefined => (data as { user?: string }).user

  test('keeps its handle, which is not its ID', async () => {
    const { app, sessions, named } = shop({ user, renewalTimeout: MINUTE })
    const agent = request.agent(app)
    const { text: id } = await agent.get('/login')
    const [before] = await sessions.users.list('ada')
    expect(before?.handle).not.toContain(id)

    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * MINUTE })
    expect((await agent.get('/me')).body).toMatchObject({ user: 'ada', id })
    expect(named('renewed')).toHaveLength(1)
    const [after, ...others] = await sessions.users.list('ada')
    expect(others).toEqual([])
    expect(after?.handle).toBe(before?.handle)
    expect(await sessions.users.end('ada', before?.handle ?? '')).toBe(true)
    expect((await agent.get('/me')).body).toMatchObject({ user: null })
  })

  for (const [name, end] of [
    ['endAll', (users, _handle) => users.endAll('ada')],
    ['end', (users, handle) => users.end('ada', handle)],
  ] satisfies [string, (users: session.Sessions['users'], handle: string) => Promise<unknown>][]) {
    test(`is ended by ${name}, even if it does so at the same time`, async () => {
      const store = staleIndex(() => agent.get('/renew').expect(200))
      const { app, sessions } = shop({ store, user })
      const agent = request.agent(app)
      await agent.get('/login')
      const [{ handle }] = (await sessions.users.list('ada')) as [session.UserSession]
      expect(await end(sessions.users, handle)).toBeTruthy()
      expect((await agent.get('/me')).body).toMatchObject({ user: null })
      expect(await sessions.users.list('ada')).toEqual([])
    })
  }

  test('stays in the index, if it is stored after all were ended', async () => {
    const store = new session.MemoryStore()
    const write = store.write.bind(store)
    let endAll: Promise<number> | undefined
    const { app, sessions } = shop({ store, user })
    store.write = (async (...args: Parameters<typeof write>) => {
      await (endAll ??= sessions.users.endAll('ada'))
      return write(...args)
    }) as never
    const agent = request.agent(app)
    await agent.get('/login')
    expect(await endAll).toBe(0)
    expect((await agent.get('/me')).body).toMatchObject({ user: 'ada' })
    expect(await sessions.users.list('ada')).toHaveLength(1)
    expect(await sessions.users.endAll('ada')).toBe(1)
    expect((await agent.get('/me')).body).toMatchObject({ user: null })
  })

  test('is no new one, that could be refused', async () => {
    const store = new session.MemoryStore()
    const before = shop({ store, user })
    const agents = [request.agent(before.app), request.agent(before.app), request.agent(before.app)] as const
    const cookies = await Promise.all(agents.map(async (agent) => cookieOf(await agent.get('/login'))))
    const { app } = shop({ store, user, maxSessionsPerUser: 1, onSessionLimit: 'refuse' })
    const renewed = await request(app)
      .get('/renew')
      .set('Cookie', cookies[0] ?? '')
      .expect(200)
    const { body } = await request(app).get('/me').set('Cookie', cookieOf(renewed))
    expect(body).toMatchObject({ user: 'ada', id: renewed.text })
  })
})

describe.each(['endOldest', 'refuse'] as const)(
  'of many that log in at the same time, onSessionLimit %s',
  (onSessionLimit) => {
    test('no more stay than may', async () => {
      const user = (data: object): string | undefined => (data as { user?: string }).user
      const { app, sessions } = shop({ user, maxSessionsPerUser: 3, onSessionLimit })
      const answers = await Promise.all(Array.from({ length: 20 }, () => request(app).get('/login')))
      const live = await sessions.users.list('ada')
      expect(live.length).toBeLessThanOrEqual(3)
      expect(live.length).toBeGreaterThan(0)
      for (const { status, text } of answers) expect([200, 500], text).toContain(status)
    })
  },
)

describe('outside of a request', () => {
  test('get, update and destroy by ID; load for an upgrade', async () => {
    const { app, sessions } = shop()
    const agent = request.agent(app)
    const login = await agent.get('/login')
    await Promise.all(
      Array.from({ length: 100 }, () =>
        sessions.update(login.text, (data) => {
          const counted = data as { count?: number }
          counted.count = (counted.count ?? 0) + 1
        }),
      ),
    )
    expect(await sessions.get(login.text)).toMatchObject({ user: 'ada', count: 100 })
    const req = { headers: { cookie: cookieOf(login) }, url: '/socket' } as never
    expect(await sessions.load(req)).toMatchObject({ user: 'ada' })
    expect(await sessions.load({ headers: {}, url: '/socket' } as never)).toBeUndefined()
    await sessions.destroy(login.text)
    expect(await sessions.get(login.text)).toBeUndefined()
    await expect(sessions.update(login.text, () => undefined)).rejects.toMatchObject({ code: 'ERR_SESSION_MISSING' })
  })
})
