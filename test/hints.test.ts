import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import express from 'express'
import request from 'supertest'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { SessionOptions } from '../src'
import { gate } from './support/app'
import type { Hints } from '../src/features/hints/hints'

type Factory = typeof import('../src/index.js')
type Handler = (req: express.Request, res: express.Response) => unknown

const secret = 'a secret that is long enough for these tests'
const set: Handler = (req, res) => {
  Object.assign(req.session, { n: 1 })
  res.send('set')
}

let told: string[] = []
const listen = (warning: Error): void => {
  if ((warning as Error & { code?: string }).code === 'SESSION_HINT') told.push(warning.message)
}

beforeEach(() => {
  told = []
  process.on('warning', listen)
  // Each hint is told once in a process; a library that is loaded anew has told none.
  vi.resetModules()
})
afterEach(() => {
  process.off('warning', listen)
  vi.unstubAllEnvs()
  vi.useRealTimers()
})

const load = async (): Promise<Factory> => (await import('../src/index.js')).default
const warned = (): Promise<unknown> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))

/** The hints that so many requests to an app with one handler give. */
async function hintsOf(options: SessionOptions, handler: Handler, times = 1, headers = {}): Promise<string[]> {
  const session = await load()
  const app = express()
  app.use(session({ secret, resave: false, saveUninitialized: false, ...options }), handler)
  const server = app.listen(0)
  for (let n = 0; n < times; n++) await request(server).get('/').set(headers)
  server.close()
  await warned()
  return told
}

const aHint = (...parts: (RegExp | string)[]): unknown[] => [
  expect.stringMatching(new RegExp(parts.map((part) => (part instanceof RegExp ? part.source : part)).join('.*'))),
]

describe('the mistakes that are noticed while an app is developed, each told once', () => {
  test('a secure cookie behind a proxy that is not trusted', async () => {
    const hints = await hintsOf({ cookie: { secure: true } }, set, 3, { 'X-Forwarded-Proto': 'https' })
    expect(hints).toEqual(aHint('not set', 'trust proxy', '#secure-cookie'))
  })

  test('a secure cookie without HTTPS', async () => {
    expect(await hintsOf({ cookie: { secure: true } }, set, 3)).toEqual(aHint('not secure', '#secure-cookie'))
  })

  test('a cookie path that no request is below', async () => {
    expect(await hintsOf({ cookie: { path: '/app' } }, (_req, res) => res.end(), 25)).toEqual(
      aHint('cookie path /app', '#cookie-path'),
    )
  })

  test('a cookie that never comes back', async () => {
    expect(await hintsOf({}, set, 25)).toEqual(aHint('20 session cookies', 'sameSite', '#cookie-never-returns'))
  })

  test('a session of more than 64 KB, without the whole of its ID', async () => {
    let id = ''
    const fill: Handler = (req, res) => {
      id = req.sessionID
      Object.assign(req.session, { text: 'x'.repeat(70_000) })
      res.end()
    }
    const hints = await hintsOf({}, fill, 1)
    expect(hints).toEqual(aHint('68 KB', '#large-session'))
    expect(hints[0]).not.toContain(id)
  })

  test('a session that is changed after the response', async () => {
    const late: Handler = (req, res) => {
      res.end()
      res.once('finish', () => setImmediate(() => Object.assign(req.session, { late: true })))
    }
    await hintsOf({}, late)
    await vi.waitUntil(() => told.length > 0, { timeout: 5000 })
    expect(told).toEqual(aHint('after the response to /', '#changed-after-the-end'))
  })

  /** A store that puts something of its own on the sessions that it is handed, as session-file-store does. */
  async function storeOfOwn() {
    const { Store } = await load()
    class Own extends Store {
      readonly texts = new Map<string, string>()
      /** What a call of `set` waits for. */
      wait = (): Promise<void> => Promise.resolve()
      get(id: string, callback: (error: unknown, data?: never) => void): void {
        setImmediate(callback, null, JSON.parse(this.texts.get(id) ?? 'null'))
      }
      set(id: string, data: object, callback: () => void): void {
        Object.assign(data, { __lastAccess: performance.now() })
        this.texts.set(id, JSON.stringify(data))
        void this.wait().then(callback)
      }
      destroy(_id: string, callback: () => void): void {
        setImmediate(callback)
      }
    }
    return new Own()
  }

  test('but not that a store puts something of its own on the session', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    await hintsOf({ store: await storeOfOwn() }, set)
    expect(vi.getTimerCount()).toBeGreaterThan(0)
    vi.advanceTimersByTime(1000)
    await warned()
    expect(told).toEqual([])
  })

  test('nor that it does so later, as another request is being stored', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const session = await load()
    const store = await storeOfOwn()
    const app = express()
    app.use(session({ secret, store, resave: false, saveUninitialized: false }), (req, res) => {
      Object.assign(req.session, { [req.url]: 1 })
      res.send('set')
      if (req.url === '/second') setImmediate(secondHasEnded.open)
    })
    const secondHasEnded = gate()
    const agent = request.agent(app)
    await agent.get('/')
    const firstIsStored = gate()
    store.wait = () => (firstIsStored.open(), secondHasEnded.opened)
    const first = agent.get('/first').then()
    await firstIsStored.opened
    await agent.get('/second')
    await first
    expect(vi.getTimerCount()).toBeGreaterThan(0)
    vi.advanceTimersByTime(1000)
    await warned()
    expect(told).toEqual([])
  })

  test('nor a change after the response that the handler stores itself', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const session = await load()
    const store = new session.MemoryStore()
    let stored: Promise<unknown> | undefined
    const job: Handler = (req, res) => {
      res.send('started')
      res.once('finish', () => {
        Object.assign(req.session, { done: true })
        stored = req.session.save()
      })
    }
    await hintsOf({ store }, job)
    await stored
    expect(Object.values(store.sessions)).toEqual([expect.stringContaining('"done":true')])
    expect(vi.getTimerCount()).toBeGreaterThan(0)
    vi.advanceTimersByTime(1000)
    await warned()
    expect(told).toEqual([])
  })

  test('an error at the end that is given to nobody, as the middleware was wrapped in a promise', async () => {
    const session = await load()
    const sessions = session({ secret, resave: false, saveUninitialized: false })
    const server = createServer((req, res) => {
      const wrapped = new Promise((resolve) => sessions(req as never, res as never, resolve))
      void wrapped.then(() => {
        Object.assign((req as unknown as express.Request).session, { big: 1n })
        res.end()
      })
    }).listen(0)
    request(server)
      .get('/')
      .catch(() => undefined)
    await vi.waitUntil(() => told.length > 0, { timeout: 5000 })
    expect(told).toEqual(aHint('session of / could not be stored', '#unanswered-error'))
    server.closeAllConnections()
    server.close()
  })

  test('but not one that an error handler answers', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    await hintsOf({}, (req, res) => {
      Object.assign(req.session, { big: 1n })
      res.end()
    })
    expect(vi.getTimerCount()).toBeGreaterThan(0)
    vi.advanceTimersByTime(1000)
    await warned()
    expect(told).toEqual([])
  })

  test('a value in the session that the next request finds changed', async () => {
    const dated: Handler = (req, res) => res.send(Object.assign(req.session, { at: new Date() }) && 'set')
    expect(await hintsOf({}, dated)).toEqual(aHint('req.session.at is a Date', '#values-that-change'))
  })

  test('a session that is replaced', async () => {
    const replaced: Handler = (req, res) => {
      Object.assign(req, { session: { user: 1 } })
      res.end()
    }
    expect(await hintsOf({}, replaced)).toEqual(aHint('req.session was replaced', '#replaced-session'))
  })

  test('an ID that is assigned to req.sessionID', async () => {
    const moving: Handler = (req, res) => {
      req.sessionID = 'mine'
      return set(req, res)
    }
    expect(await hintsOf({}, moving)).toEqual(aHint('req.sessionID was assigned', '#assigned-session-id'))
  })

  test('a copy of the session that the function given to update returns', async () => {
    const updatedBy = async (change: (one: object) => unknown): Promise<string[]> => {
      const sessions = (await load())({ secret, resave: false, saveUninitialized: false })
      const app = express()
      app.use(sessions, async (req, res) => {
        await (req.url === '/' ? set(req, res) : sessions.update(req, change).then(() => res.end()))
      })
      const agent = request.agent(app)
      await agent.get('/')
      await agent.get('/update')
      await warned()
      return told
    }
    expect(await updatedBy((one) => Object.assign(one, { n: 2 }))).toEqual([])
    expect(await updatedBy(() => ({ n: 2 }))).toEqual([])
    expect(await updatedBy((one) => ({ ...one, n: 2 }))).toEqual(
      aHint('copy of the session', '#a-copy-that-is-returned'),
    )
  })

  test('but not that of another session, which is put there as well', async () => {
    const exchanging: Handler = (req, res) => {
      req.sessionID = 'mine'
      req.sessionStore.createSession(req, { cookie: {} } as never)
      return set(req, res)
    }
    expect(await hintsOf({}, exchanging)).toEqual([])
    expect(await hintsOf({ genid: () => 'mine' }, (req, res) => req.session.regenerate(() => set(req, res)))).toEqual(
      [],
    )
  })

  test('two middlewares with one cookie', async () => {
    const session = await load()
    const options = { secret, resave: false, saveUninitialized: false }
    const app = express()
    // The second one gets to work where there is no session under its own property yet.
    app.use(session(options), session({ ...options, property: 'other' }), set)
    await request(app).get('/')
    await warned()
    expect(told).toEqual(aHint('two session middlewares use one cookie, connect.sid', '#two-middlewares'))
  })

  test('a memory store in each worker of a cluster', () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'sessile-cluster-'))
    const program = path.join(folder, 'app.cjs')
    writeFileSync(
      program,
      `const cluster = require('node:cluster')
      if (cluster.isPrimary) cluster.fork()
      else {
        process.on('warning', ({ message }) => { console.log(message); process.exit() })
        require(${JSON.stringify(path.resolve('dist'))})({ secret: '${secret}', resave: false, saveUninitialized: false })
      }`,
    )
    const { stdout } = spawnSync(process.execPath, [program], { encoding: 'utf8', timeout: 20_000 })
    expect(stdout).toMatch(/worker.*#memory-store-with-workers/)
    rmSync(folder, { recursive: true })
  })

  const DAY = 86_400_000
  test.each<[object, RegExp]>([
    [{ cookie: { maxAge: 3600 } }, /cookie\.maxAge is 3\.6 seconds \(3600 ms\): is it meant to be in another unit/],
    [{ cookie: { maxAge: 1000 * DAY } }, /cookie\.maxAge is 1000 days/],
    [{ idleTimeout: 1800 }, /idleTimeout is 1\.8 seconds/],
    [{ absoluteTimeout: 43_200 }, /absoluteTimeout is 43\.2 seconds/],
    [{ renewalTimeout: 900 }, /renewalTimeout is 0\.9 seconds/],
    [{ cookie: { expires: new Date(0) } }, /cookie\.expires is past: every session has ended when it begins/],
    [{ cookie: { expires: new Date(4e12) } }, /cookie\.expires is one moment, 2096-.*: every session made after it/],
    [{ cookie: { expires: 3_600_000 } }, /cookie\.expires is the number 3600000, and has to be a Date/],
  ])('lifetimes that are hardly meant: %j', async (options, message) => {
    expect(await hintsOf(options as SessionOptions, (_req, res) => res.end(), 0)).toEqual(
      aHint(message, '#lifetimes-that-are-hardly-meant'),
    )
  })

  test("a store's lifetime in another unit than the store's", async () => {
    const session = await load()
    const store = new session.MemoryStore({ ttl: 3600 })
    expect(await hintsOf({ store }, set, 0)).toEqual(aHint("the store's ttl is 3.6 seconds"))
  })

  test('but not lifetimes as people have them, nor none', async () => {
    const options = { cookie: { maxAge: 400 * DAY }, idleTimeout: 30 * 60_000, absoluteTimeout: 0 }
    expect(await hintsOf(options, set)).toEqual([])
  })

  test('two middlewares whose cookies are good for each other', async () => {
    const session = await load()
    const store = new session.MemoryStore()
    const make = (options: object): unknown =>
      session({ secret, store, resave: false, saveUninitialized: false, ...options })
    make({ name: 'shop' })
    make({ name: 'shop' })
    make({ name: 'other', secret: `${secret}, another one` })
    await warned()
    expect(told).toEqual([])
    make({ name: 'admin' })
    await warned()
    expect(told).toEqual(aHint('shop and admin, share a store and a secret', 'signName', '#one-store-for-two'))
  })

  test('but not those that sign their names', async () => {
    const session = await load()
    const store = new session.MemoryStore()
    const options = { secret, store, resave: false, saveUninitialized: false, signName: true }
    session({ ...options, name: 'shop' })
    session({ ...options, name: 'admin' })
    await warned()
    expect(told).toEqual([])
  })
})

/** What the middleware tells its hints when it notices something. */
describe('what the middleware notices', () => {
  const { parse, stringify } = JSON
  class Money {
    amount = 5
  }

  async function toldBy(notice: (hints: Hints) => void, option?: boolean): Promise<string[]> {
    const { hintsBy } = await import('../src/features/hints/hints.js')
    const hints = hintsBy(option)
    if (hints) notice(hints)
    await warned()
    return told
  }

  test.each<[string, object, string]>([
    ['a Date', { at: new Date() }, 'req.session.at is a Date, and the next request finds a string there'],
    ['a Map', { cart: new Map() }, 'req.session.cart is a Map, and the next request finds an empty object there'],
    ['a Set', { seen: { ids: new Set([1]) } }, 'req.session.seen.ids is a Set'],
    [
      'a class',
      { list: [{ price: new Money() }] },
      'req.session.list[0].price is a Money, .* finds a plain object there',
    ],
    ['a function', { greet: () => 'hi' }, 'req.session.greet is a function, and the next request finds nothing there'],
    ['NaN', { total: NaN }, 'req.session.total is NaN, and the next request finds null there'],
    ['a Buffer', { key: Buffer.from('a') }, 'req.session.key is a Buffer, .* finds what its toJSON answers there'],
  ])('a value that comes back as something else: %s', async (_name, data, message) => {
    const expected = message.replace(/[.[\]]/g, '\\$&').replace('\\.*', '.*')
    expect(await toldBy((hints) => hints.storing(data, JSON))).toEqual(aHint(expected, '#values-that-change'))
  })

  test('values that come back as they were, and those that a serializer keeps, give no hint', async () => {
    const fine = {
      n: 1,
      list: [{ a: null, b: undefined }],
      none: Object.create(null) as object,
      text: '',
      cookie: new Money(),
    }
    const circle: Record<string, unknown> = {}
    circle['self'] = circle
    const hints = await toldBy((hints) => {
      hints.storing(fine, JSON)
      hints.storing(circle, JSON)
      hints.storing(Object.assign(Object.create({}) as object, { save: () => 1 }), JSON)
      hints.storing({ at: new Date() }, { stringify, parse })
    })
    expect(hints).toEqual([])
  })

  test('only the first sessions are looked through', async () => {
    const look = vi.fn(() => 1)
    await toldBy((hints) => {
      for (let n = 0; n < 1000; n++)
        hints.storing(
          {
            get a() {
              return look()
            },
          },
          JSON,
        )
    })
    expect(look).toHaveBeenCalledTimes(50)
  })

  test('a replaced session', async () => {
    expect(await toldBy((hints) => hints.replaced({ user: 1 }))).toEqual(
      aHint('req.session was replaced', 'req.session.user = …', '#replaced-session'),
    )
  })

  test('but not one that was removed', async () => {
    const hints = await toldBy((hints) => {
      hints.replaced(null)
      hints.replaced(undefined)
    })
    expect(hints).toEqual([])
  })

  test('the ID of a session that is not stored', async () => {
    expect(await toldBy((hints) => hints.idOfUnstored('/form?token=x'))).toEqual(
      aHint('session of /form was used, .* has another ID', '#id-of-a-session-that-is-not-stored'),
    )
  })

  test('a login without a new ID', async () => {
    expect(await toldBy((hints) => hints.storedAgain({}, { user: 'ada' }))).toEqual(
      aHint('regenerate', '#login-without-a-new-id'),
    )
  })

  test('the ID of a new session, used by a handler that stores nothing, and not that of one that is stored', async () => {
    const usesId: Handler = (req, res) => res.send(req.sessionID)
    expect(await hintsOf({}, usesId, 2)).toEqual(aHint('session of / was used', '#id-of-a-session-that-is-not-stored'))
    told = []
    vi.resetModules()
    expect(await hintsOf({}, (req, res) => (req.sessionID, set(req, res)))).toEqual([])
  })

  test('a user who logs in to the session that was there, and not one who gets a new token', async () => {
    const loggingIn = async (renews: boolean): Promise<string[]> => {
      const sessions = (await load())({
        ...{ secret, resave: false, saveUninitialized: false },
        user: (session) => (session as { user?: string }).user,
      })
      const app = express()
      app.use(sessions, async (req, res) => {
        if (req.url === '/login') Object.assign(req.session, { user: 'ada' })
        else Object.assign(req.session, { cart: [1] })
        if (req.url === '/login' && renews) await sessions.renew(req)
        res.end()
      })
      const browser = request.agent(app)
      await browser.get('/')
      await browser.get('/login')
      await warned()
      return told
    }
    expect(await loggingIn(true)).toEqual([])
    expect(await loggingIn(false)).toEqual(aHint('regenerate', '#login-without-a-new-id'))
  })

  test('no hint has the query of a request', async () => {
    const hints = await toldBy((hints) => {
      for (let n = 0; n < 20; n++) hints.pathMissed('/app', '/a?password=1')
      hints.idOfUnstored('/a?password=1')
    })
    expect(hints).toHaveLength(2)
    expect(hints.join()).not.toContain('password')
  })

  test('in production only the cookie that no browser gets, as the proxy is not trusted', async () => {
    vi.stubEnv('NODE_ENV', 'production')
    const hints = await toldBy((hints) => {
      expect(hints.watchesNext()).toBe(false)
      hints.storing({ at: new Date() }, JSON)
      hints.replaced({})
      hints.idOfUnstored('/')
      hints.idReplaced()
      hints.storedAgain({}, { user: 'ada' })
      hints.secondMiddleware('a')
      hints.stored('x'.repeat(100_000), 'id')
      hints.memoryStore()
      for (let n = 0; n < 30; n++) hints.cookieGiven()
      for (let n = 0; n < 30; n++) hints.pathMissed('/app', '/')
      hints.made({ name: 'a', secrets: [], signName: false, cookie: { maxAge: 1 } }, {})
      hints.insecure(false)
      hints.insecure(true)
    })
    expect(hints).toEqual(aHint('a proxy says it is, but is not trusted', '#secure-cookie'))
  })

  test('and with hints: true all of them', async () => {
    vi.stubEnv('NODE_ENV', 'production')
    expect(await toldBy((hints) => hints.storedAgain({}, { user: 'ada' }), true)).toHaveLength(1)
  })
})

describe('nobody is told', () => {
  test('with hints: false', async () => {
    const options = { hints: false, cookie: { secure: true, maxAge: 1 } }
    expect(await hintsOf(options, set, 25, { 'X-Forwarded-Proto': 'https' })).toEqual([])
  })

  test('in production, but for the proxy that is not trusted', async () => {
    vi.stubEnv('NODE_ENV', 'production')
    vi.spyOn(console, 'warn').mockReturnValue(undefined)
    expect(await hintsOf({ cookie: { secure: true } }, set, 25)).toEqual([])
  })

  test('who makes none of the mistakes', async () => {
    const session = await load()
    const app = express()
    app.use(session({ secret, resave: false, saveUninitialized: false }), set)
    const agent = request.agent(app)
    for (let n = 0; n < 30; n++) await agent.get('/')
    await warned()
    expect(told).toEqual([])
  })
})
