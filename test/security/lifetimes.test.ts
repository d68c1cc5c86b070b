import { EventEmitter, once } from 'node:events'
import express from 'express'
import request from 'supertest'
import { afterEach, expect, test, vi } from 'vitest'
import session, { type SessionOptions } from '../../src'
import { onEachStore, type OpenStore } from '../support/each-store'

const secret = 'a secret that is long enough for these tests'
const MINUTE = 60_000
const DAY = 1440 * MINUTE

/** Only the clock of the app is moved: the network goes on, and the servers of the stores have clocks of their own. */
const moveClock = (ms: number): void => void vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + ms })
afterEach(() => vi.useRealTimers())

function appWith(options: SessionOptions) {
  const sessions = session({ secret, resave: false, saveUninitialized: false, hints: false, ...options })
  const events: string[] = []
  for (const name of ['created', 'renewed', 'destroyed', 'staleId'] as const) {
    sessions.events.on(name, () => events.push(name))
  }
  sessions.events.on('expired', ({ reason }) => events.push(`expired: ${reason}`))
  const app = express()
  app.use(sessions)
  app.get('/login', (req, res) => {
    Object.assign(req.session, { user: 'ada' })
    res.send(req.sessionID)
  })
  app.get('/remember', (req, res) => {
    Object.assign(req.session, { user: 'ada' })
    req.session.cookie.maxAge = 30 * DAY
    res.send('')
  })
  app.get('/', (req, res) => {
    const { user = 'nobody' } = req.session as { user?: string }
    res.json({ user, id: req.sessionID })
  })
  const slow = new EventEmitter()
  app.get('/slow/:what', async (req, res) => {
    void (req.session as { user?: string }).user
    setImmediate(() => slow.emit('arrived'))
    await once(slow, 'go')
    if (req.params.what === 'logout') await req.session.destroy()
    else Object.assign(req.session, { user: 'ada the changed' })
    res.send('done')
  })
  return { server: app.listen(0), sessions, events, slow }
}

const cookieOf = (res: request.Response): string | undefined => res.get('Set-Cookie')?.[0]?.split(';')[0]

interface Seen {
  user: string
  id: string
}

function lifetimesOn(open: OpenStore): void {
  let close: (() => void) | undefined
  afterEach(() => close?.())

  function visits(options: SessionOptions) {
    const store = open()
    const { server, sessions, events, slow } = appWith({ store, ...options })
    close = () => void server.close()
    const visit = async (cookie: string, path = '/'): Promise<request.Response> =>
      request(server).get(path).set('Cookie', cookie)
    const login = async (): Promise<string> => cookieOf(await visit('', '/login')) ?? ''
    const user = async (cookie: string): Promise<string> => ((await visit(cookie)).body as Seen).user
    return { store, sessions, events, slow, visit, login, user }
  }

  for (const [kind, cookie] of Object.entries({
    'that ends with the browser': {},
    'of 8 hours': { maxAge: 480 * MINUTE },
  })) {
    test(`idleTimeout, with a cookie ${kind}: without requests for so long a session ends, in the store, too`, async () => {
      const { store, events, login, user } = visits({ idleTimeout: 20 * MINUTE, cookie })
      const ada = await login()
      for (let n = 0; n < 3; n++) {
        moveClock(15 * MINUTE)
        expect(await user(ada)).toBe('ada')
      }
      moveClock(22 * MINUTE)
      expect(await user(ada)).toBe('nobody')
      expect(events).toEqual(['created', 'expired: idle'])
      expect(await store.length()).toBe(0)
    })

    test(`absoluteTimeout, with a cookie ${kind}: however busy it is, a session ends, in the store, too`, async () => {
      const { store, events, login, user } = visits({ absoluteTimeout: 60 * MINUTE, idleTimeout: 20 * MINUTE, cookie })
      const ada = await login()
      for (let n = 0; n < 3; n++) {
        moveClock(15 * MINUTE)
        expect(await user(ada)).toBe('ada')
      }
      moveClock(15 * MINUTE)
      expect(await user(ada)).toBe('nobody')
      expect(events).toEqual(['created', 'expired: absolute'])
      expect(await store.length()).toBe(0)
    })
  }

  test('renewalTimeout: of 100 requests at once with the old ID none loses the session, and there is one new token', async () => {
    const { events, login, visit, user } = visits({ renewalTimeout: 15 * MINUTE, renewalGrace: 10_000 })
    const old = await login()
    moveClock(16 * MINUTE)
    const answers = await Promise.all(Array.from({ length: 100 }, () => visit(old)))
    expect(new Set(answers.map(({ body }) => (body as Seen).user))).toEqual(new Set(['ada']))
    const cookies = answers.map(cookieOf).filter((cookie) => cookie !== undefined)
    expect(cookies, 'one is given the new token').toHaveLength(1)
    const [renewed = ''] = cookies
    expect(renewed).not.toBe(old)
    expect(events).toEqual(['created', 'renewed'])
    expect(await user(renewed)).toBe('ada')

    moveClock(9000)
    expect(await user(old)).toBe('ada')
    moveClock(2000)
    expect(await user(old)).toBe('nobody')
    expect(await user(renewed)).toBe('ada')
    expect(events).toEqual(['created', 'renewed', 'staleId'])
  })

  for (const [what, then] of [
    ['change', 'ada the changed'],
    ['logout', 'nobody'],
  ] as const) {
    test(`renewalTimeout: the ${what} of a request that was under way with the old ID counts`, async () => {
      const { slow, login, visit, user } = visits({ renewalTimeout: 15 * MINUTE })
      const old = await login()
      moveClock(14 * MINUTE)
      const arrived = once(slow, 'arrived')
      const answer = visit(old, `/slow/${what}`)
      await arrived
      moveClock(16 * MINUTE)
      const renewed = cookieOf(await visit(old)) ?? ''
      expect(renewed).not.toBe(old)
      slow.emit('go')
      expect((await answer).status).toBe(200)
      expect(await user(renewed)).toBe(then)
      expect(await user(old)).toBe(then)
      // The browser is left with the new ID, whichever answer came last.
      expect([undefined, renewed]).toContain(cookieOf(await answer))
    })
  }

  for (const resave of [false, true]) {
    test(`resave ${resave}: a session that is about to end is renewed before its request goes on`, async () => {
      const { store, slow, login, visit, user } = visits({ resave, cookie: { maxAge: 4 * MINUTE } })
      const ada = await login()
      const id = decodeURIComponent(ada).split(/[:.]/)[2] as string
      await store.renew(id, Date.now() + 20_000)
      const arrived = once(slow, 'arrived')
      const answer = visit(ada, '/slow/change')
      await arrived
      expect((await store.read(id))?.expires).toBeGreaterThan(Date.now() + 3 * MINUTE)
      slow.emit('go')
      expect((await answer).status).toBe(200)
      expect(await user(ada)).toBe('ada the changed')
    })
  }

  test('a lifetime of its own outlives requests that are never answered, and is what a handler sees', async () => {
    const { store, sessions, visit } = visits({ cookie: { maxAge: 30 * MINUTE } })
    const ada = cookieOf(await visit('', '/remember')) ?? ''
    const id = decodeURIComponent(ada).split(/[:.]/)[2] as string
    const loaded = await sessions.load({ headers: { cookie: ada }, url: '/' } as never)
    expect(loaded?.cookie.maxAge).toBeGreaterThan(30 * DAY - MINUTE)
    expect((await store.read(id))?.expires).toBeGreaterThan(Date.now() + 30 * DAY - MINUTE)
  })

  test('onStaleId destroy: a replaced token that is used after the grace period ends the session', async () => {
    const { events, login, visit, user } = visits({ renewalTimeout: 15 * MINUTE, onStaleId: 'destroy' })
    const old = await login()
    moveClock(16 * MINUTE)
    const renewed = cookieOf(await visit(old)) ?? ''
    expect(await user(renewed)).toBe('ada')
    moveClock(11_000)
    expect(await user(old)).toBe('nobody')
    expect(await user(renewed)).toBe('nobody')
    expect(events).toEqual(['created', 'renewed', 'staleId'])
  })
}

onEachStore(lifetimesOn)

test('a session that ends all the same while a request changes it: the application is told', async () => {
  const errors: unknown[] = []
  const sessions = session({ secret, hints: false, cookie: { maxAge: MINUTE } })
  sessions.events.on('storeError', ({ error }) => errors.push(error))
  const app = express()
  app.use(sessions)
  app.get('/', (req, res) => {
    Object.assign(req.session, { views: req.query['slow'] ? 2 : 1 })
    if (req.query['slow']) moveClock(2 * MINUTE)
    res.send('done')
  })
  const agent = request.agent(app)
  await agent.get('/').expect(200)
  await agent.get('/?slow=1').expect(200)
  await vi.waitFor(() => expect(errors).toMatchObject([{ code: 'ERR_SESSION_EXPIRED' }]))
})

/** As the Redis store does, but by the clock of this process. */
class RenewsOnRead extends session.MemoryStore {
  override readonly inProcess = false
  override read(id: string, renewTo?: number): session.SessionRecord | null {
    const isRenewed = renewTo !== undefined && super.renew(id, renewTo)
    const record = super.read(id)
    return record && { ...record, renewed: isRenewed }
  }
}

test('a request that takes most of a short lifetime leaves the session with all of it', async () => {
  const app = express()
  app.use(session({ secret, hints: false, store: new RenewsOnRead(), rolling: true, cookie: { maxAge: MINUTE } }))
  app.get('/:page', (req, res) => {
    if (req.params.page === 'login') Object.assign(req.session, { user: 'ada' })
    if (req.params.page === 'slow') moveClock(50_000)
    res.send(String((req.session as { user?: string }).user))
  })
  const cookie = cookieOf(await request(app).get('/login')) ?? ''
  await request(app).get('/slow').set('Cookie', cookie)
  moveClock(15_000)
  expect((await request(app).get('/me').set('Cookie', cookie)).text).toBe('ada')
})
