import { createServer } from 'node:http'
import express from 'express'
import request from 'supertest'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { SessionOptions } from '../src'

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

  test('but not that a store puts something of its own on the session', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const session = await load()
    const store = new session.MemoryStore()
    const set = store.set.bind(store)
    store.set = (id, data, callback) => set(id, Object.assign(data, { __lastAccess: Date.now() }), callback)
    await hintsOf({ store }, (req, res) => {
      Object.assign(req.session, { n: 1 })
      res.end()
    })
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

  test('a memory store in each worker of a cluster', async () => {
    vi.stubEnv('NODE_UNIQUE_ID', '1')
    expect(await hintsOf({}, (_req, res) => res.end())).toEqual(aHint('worker', '#memory-store-with-workers'))
  })
})

describe('nobody is told', () => {
  test('with hints: false', async () => {
    vi.stubEnv('NODE_UNIQUE_ID', '1')
    expect(await hintsOf({ hints: false, cookie: { secure: true } }, set, 25)).toEqual([])
  })

  test('in production', async () => {
    vi.stubEnv('NODE_ENV', 'production')
    vi.spyOn(console, 'warn').mockReturnValue(undefined)
    vi.stubEnv('NODE_UNIQUE_ID', '1')
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
