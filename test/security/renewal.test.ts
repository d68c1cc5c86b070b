import { once } from 'node:events'
import type { Server } from 'node:http'
import express from 'express'
import request from 'supertest'
import { afterEach, describe, expect, test, vi } from 'vitest'
import session from '../../src'
import { classicStore } from '../faults/fault'

const secret = 'a secret that is long enough for these tests'
const MINUTE = 60_000
const RENEWAL = 15 * MINUTE

type Data = Record<string, unknown>
const dataOf = (req: express.Request): Data => req.session as unknown as Data

/** The same memory, answering later, as a store on another machine does. */
class FarStore extends session.RecordStore {
  readonly memory = new session.MemoryStore()
  async read(id: string) {
    await turn()
    return this.memory.read(id)
  }
  async write(...args: Parameters<session.MemoryStore['write']>) {
    await turn()
    return this.memory.write(...args)
  }
  async renew(id: string, expires: number) {
    await turn()
    return this.memory.renew(id, expires)
  }
  async remove(...args: Parameters<session.MemoryStore['remove']>) {
    await turn()
    return this.memory.remove(...args)
  }
  scan(cursor: string | null, limit: number) {
    return this.memory.scan(cursor, limit)
  }
}

const turn = (): Promise<unknown> => new Promise((resolve) => setImmediate(resolve))

const servers: Server[] = []
afterEach(() => {
  vi.useRealTimers()
  for (const server of servers.splice(0)) server.close()
})

const moveClock = (ms: number): void => void vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + ms })

type Handler = (req: express.Request, sessions: session.Sessions) => unknown

/** A shop whose slow page waits until it is let go, and then does what it is told to. */
function shop(options: session.SessionOptions, slow: Handler = () => undefined) {
  const sessions = session({
    secret,
    resave: false,
    saveUninitialized: false,
    hints: false,
    cookie: { maxAge: 60 * MINUTE },
    ...options,
  })
  const gate = { arrived: () => {}, go: () => {} }
  const app = express()
  app.use(sessions)
  app.get('/login', (req, res) => {
    Object.assign(req.session, { user: 'ada', nested: { a: 1 } })
    res.send(req.sessionID)
  })
  app.get('/renew', async (req, res) => {
    await sessions.renew(req)
    dataOf(req)['renewed'] = true
    res.send(req.sessionID)
  })
  app.get('/slow', async (req, res) => {
    void dataOf(req)['user']
    await new Promise<void>((resolve) => {
      gate.go = resolve
      gate.arrived()
    })
    await slow(req, sessions)
    res.end('slow')
  })
  app.get('/me', async (req, res) => {
    const { cookie: _, ...data } = req.session as unknown as Data
    res.json({ ...data, flash: await sessions.flash(req).take('info') })
  })
  const server = app.listen(0)
  servers.push(server)

  /** Starts the slow page; answers, when it has arrived there, what lets it go on to its end. */
  async function startSlow(cookie: string): Promise<() => Promise<request.Response>> {
    const arrived = new Promise<void>((resolve) => (gate.arrived = resolve))
    const answer = request(server)
      .get('/slow')
      .set('Cookie', cookie)
      .then((res) => res)
    await arrived
    return () => {
      gate.go()
      return answer
    }
  }

  const get = async (url: string, cookie = ''): Promise<request.Response> =>
    request(server).get(url).set('Cookie', cookie).expect(200)
  return { sessions, server, get, startSlow }
}

/** The cookie that a browser has after these answers. */
function jar(...answers: request.Response[]): string {
  const set = answers.flatMap((res) => res.get('Set-Cookie') ?? [])
  return set.at(-1)?.split(';')[0] ?? ''
}

/** What a slow request may do, and what the session then has beside what it had. */
const CHANGES: { [name: string]: [Handler, Data] } = {
  'changes the session': [(req) => void (dataOf(req)['slow'] = true), { slow: true }],
  'changes it deep inside': [(req) => void ((dataOf(req)['nested'] as Data)['b'] = 2), { nested: { a: 1, b: 2 } }],
  'saves it and changes it again': [
    async (req) => {
      const { session } = req
      dataOf(req)['slow'] = 1
      await session.save()
      Object.assign(session, { slower: 2 })
    },
    { slow: 1, slower: 2 },
  ],
  'answers piece by piece, and changes it': [
    (req) => {
      req.res?.write('one, ')
      dataOf(req)['slow'] = true
    },
    { slow: true },
  ],
  'answers piece by piece, saves it and changes it again': [
    async (req) => {
      req.res?.write('one, ')
      dataOf(req)['slow'] = 1
      await req.session.save()
      dataOf(req)['slower'] = 2
    },
    { slow: 1, slower: 2 },
  ],
  'updates it': [
    (req, sessions) => sessions.update(req, (data) => void Object.assign(data, { slow: true })),
    { slow: true },
  ],
  'reloads it and changes it': [
    async (req) => {
      await req.session.reload()
      dataOf(req)['slow'] = true
    },
    { slow: true },
  ],
  'renews it itself, with changes': [
    (req, sessions) => {
      dataOf(req)['slow'] = true
      return sessions.renew(req)
    },
    { slow: true },
  ],
  'adds a flash message': [(req, sessions) => sessions.flash(req).add('info', 'hello'), { flash: ['hello'] }],
  'only looks': [() => undefined, {}],
}

const ENDS: { [name: string]: Handler } = {
  'logs out': (req) => req.session.destroy(),
  'begins a new session': (req) => req.session.regenerate(),
  'unsets the session': (req) => void (req.session = null as never),
}

const STORES = { 'in memory': () => new session.MemoryStore(), 'far away': () => new FarStore() }

describe.each(Object.entries(STORES))(
  'the client of a session %s gets a new token while a request is under way',
  (_where, makeStore) => {
    for (const [name, [slow]] of Object.entries(CHANGES)) {
      test(`which ${name}: by sessions.renew, after which nothing of that request counts`, async () => {
        const { get, startSlow } = shop({ store: makeStore(), hints: false }, async (req, sessions) => {
          // What it waits for fails, as after a logout: it is told so, and the end of its response is silent.
          await Promise.resolve(slow(req, sessions)).catch((error: unknown) =>
            expect(error).toMatchObject({ code: expect.stringMatching(/^ERR_SESSION_(DESTROYED|MISSING)$/) as string }),
          )
        })
        const old = jar(await get('/login'))
        const finish = await startSlow(old)
        const renewed = await get('/renew', old)
        const answer = await finish()
        expect(answer.get('Set-Cookie')).toBeUndefined()
        const { body } = await get('/me', jar(renewed, answer))
        expect(body).toMatchObject({ user: 'ada', renewed: true, nested: { a: 1 } })
        if (name !== 'reloads it and changes it') expect(body).not.toHaveProperty('slow')
        expect((await get('/me', old)).body).not.toHaveProperty('user')
      })
    }

    describe.each(['merge', 'overwrite'] as const)('with conflict: %s', (conflict) => {
      for (const [name, [slow, expected]] of Object.entries(CHANGES)) {
        if (name === 'renews it itself, with changes') continue
        test(`which ${name}: by renewalTimeout, in another process, and what it changes is kept`, async () => {
          const store = makeStore()
          const options = { store, conflict, renewalTimeout: RENEWAL, rolling: true }
          const [here, there] = [shop(options, slow), shop(options)]
          const old = jar(await here.get('/login'))
          moveClock(RENEWAL - MINUTE)
          const finish = await here.startSlow(old)
          moveClock(2 * MINUTE)
          const renewed = await there.get('/me', old)
          expect(jar(renewed)).not.toBe(old)
          const answer = await finish()
          expect(answer.status).toBe(200)
          moveClock(5 * MINUTE)
          expect((await here.get('/me', jar(renewed, answer))).body).toMatchObject({ user: 'ada', ...expected })
        })
      }
    })

    for (const [name, slow] of Object.entries(ENDS)) {
      test(`which ${name}: nothing of it is left`, async () => {
        const store = makeStore()
        const { get, startSlow } = shop({ store, unset: 'destroy' }, slow)
        const old = jar(await get('/login'))
        const finish = await startSlow(old)
        const renewed = await get('/renew', old)
        await finish()
        for (const cookie of [old, jar(renewed)]) expect((await get('/me', cookie)).body).not.toHaveProperty('user')
        expect(Object.values((await store.all()) ?? {}).filter((data) => 'user' in data)).toEqual([])
      })
    }
  },
)

describe('an ID that was planted before a login', () => {
  test('opens nothing after sessions.renew, and who brings it is given nothing', async () => {
    const { get } = shop({})
    const planted = jar(await get('/login'))
    const answer = await get('/renew', planted)
    for (const wait of [0, 5000, 5 * MINUTE]) {
      moveClock(wait)
      const thief = await get('/me', planted)
      expect(thief.body).not.toHaveProperty('user')
      expect(thief.get('Set-Cookie')).toBeUndefined()
    }
    vi.useRealTimers()
    expect((await get('/me', jar(answer))).body).toMatchObject({ user: 'ada', renewed: true })
  })

  test('an empty session is given to a request that was under way, and what it puts there leaves no trace', async () => {
    const store = new session.MemoryStore()
    const { get } = shop({ store })
    const old = jar(await get('/login'))
    const renewed = jar(await get('/renew', old))
    expect(store.sessions).toHaveProperty(Object.keys(store.sessions))
    const before = Object.keys(store.sessions)
    const late = await get('/login', old)
    expect(late.get('Set-Cookie')).toBeUndefined()
    expect(Object.keys(store.sessions)).toEqual(before)
    expect((await get('/me', renewed)).body).toMatchObject({ user: 'ada', renewed: true })
  })
})

describe('a periodic renewal', () => {
  test('keeps the ID, the object and the record; only what the client holds changes', async () => {
    const store = new session.MemoryStore()
    const { sessions, get } = shop({ store, renewalTimeout: RENEWAL })
    const events: unknown[] = []
    sessions.events.on('renewed', (event) => events.push(event))
    const login = await get('/login')
    moveClock(RENEWAL + MINUTE)
    const renewed = jar(await get('/me', jar(login)))
    expect(Object.keys(store.sessions)).toEqual([login.text])
    expect(decodeURIComponent(renewed)).toContain(`s:${login.text}~`)
    expect(events).toEqual([{ id: login.text }])
  })

  test('whose answer is lost leaves the client in its session, and gives it another token after a while', async () => {
    const { get } = shop({ renewalTimeout: RENEWAL, onStaleId: 'destroy' })
    const old = jar(await get('/login'))
    moveClock(RENEWAL + MINUTE)
    await get('/me', old) // this answer never arrives
    moveClock(20_000)
    const again = await get('/me', old)
    expect(again.body).toMatchObject({ user: 'ada' })
    moveClock(2 * MINUTE)
    const another = await get('/me', old)
    expect(another.body).toMatchObject({ user: 'ada' })
    expect(jar(another)).not.toBe('')
    expect((await get('/me', jar(another))).body).toMatchObject({ user: 'ada' })
    moveClock(MINUTE)
    expect((await get('/me', old)).body).not.toHaveProperty('user')
  })

  test('of many requests at once gives the browser one token, which is good, whatever answer comes last', async () => {
    const { get } = shop({ renewalTimeout: RENEWAL, store: new FarStore() })
    const old = jar(await get('/login'))
    moveClock(RENEWAL + MINUTE)
    const answers = await Promise.all(Array.from({ length: 20 }, () => get('/me', old)))
    const given = answers.map((answer) => jar(answer)).filter((cookie) => cookie !== '')
    expect(given).toHaveLength(1)
    moveClock(MINUTE)
    expect((await get('/me', given[0])).body).toMatchObject({ user: 'ada' })
  })

  for (const [name, use] of Object.entries<(sessions: session.Sessions, id: string, cookie: string) => unknown>({
    'sessions.update with an ID': (sessions, id) =>
      sessions.update(id, (data) => void Object.assign(data, { seen: 1 })),
    'sessions.load of a WebSocket': async (sessions, _id, cookie) => {
      const loaded = await sessions.load({ headers: { cookie }, url: '/socket' } as never)
      await Object.assign(loaded as object as express.Request['session'], { seen: 1 }).save()
    },
  })) {
    test(`${name} gives no token to anybody, as there is no response`, async () => {
      const { sessions, get } = shop({ renewalTimeout: RENEWAL })
      const login = await get('/login')
      moveClock(RENEWAL + MINUTE)
      await use(sessions, login.text, jar(login))
      moveClock(5 * MINUTE)
      const next = await get('/me', jar(login))
      expect(next.body).toMatchObject({ user: 'ada', seen: 1 })
      expect(jar(next), 'which the next request replaces').not.toBe('')
    })
  }
})

describe('on a classic store', () => {
  test('sessions.renew works as well', async () => {
    const store = classicStore(session as never)
    const { get } = shop({ store: store })
    const login = await get('/login')
    const answer = await get('/renew', jar(login))
    expect([...store.records.keys()]).toEqual([login.text])
    expect((await get('/me', jar(login))).body).not.toHaveProperty('user')
    expect((await get('/me', jar(answer))).body).toMatchObject({ user: 'ada', renewed: true })
  })

  test('a request under way does not store the former token again', async () => {
    const store = classicStore(session as never)
    const { get, startSlow } = shop({ store }, (req) => void (dataOf(req)['slow'] = true))
    const old = jar(await get('/login'))
    const finish = await startSlow(old)
    const renewed = jar(await get('/renew', old))
    await finish()
    expect((await get('/me', old)).body).not.toHaveProperty('user')
    expect((await get('/me', renewed)).body).toMatchObject({ user: 'ada' })
  })
})

describe('an ID that the application kept leads to the session, whatever its client holds', () => {
  async function renewed() {
    const { sessions, get } = shop({ onStaleId: 'destroy' })
    const login = await get('/login')
    const id = login.text
    const cookie = jar(await get('/renew', jar(login)))
    moveClock(5 * MINUTE)
    return { id, sessions, me: async () => (await get('/me', cookie)).body as Data }
  }

  test('to read and change it', async () => {
    const { id, sessions, me } = await renewed()
    expect(await sessions.get(id)).toMatchObject({ user: 'ada', renewed: true })
    await sessions.update(id, (data) => void Object.assign(data, { by: 'a job' }))
    expect(await me()).toMatchObject({ user: 'ada', by: 'a job' })
  })

  test('to destroy it', async () => {
    const { id, sessions, me } = await renewed()
    await sessions.destroy(id)
    expect(await me()).not.toHaveProperty('user')
    expect(await sessions.get(id)).toBeUndefined()
  })

  test('but a browser that brings no token long after is somebody else', async () => {
    const { sessions, get } = shop({ onStaleId: 'destroy' })
    const stale = once(sessions.events as never, 'staleId')
    const login = await get('/login')
    const cookie = jar(await get('/renew', jar(login)))
    moveClock(5 * MINUTE)
    expect((await get('/me', jar(login))).body).not.toHaveProperty('user')
    await stale
    expect((await get('/me', cookie)).body).not.toHaveProperty('user')
  })
})
