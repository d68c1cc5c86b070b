import express, { type ErrorRequestHandler, type Request, type RequestHandler } from 'express'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { SessionData } from '../../src'
import { appWith, classicStore, OPTIONS, type AnySession, type Handler } from '../faults/fault'
import { caught, implementations, SECRET, settled, original } from '../support/app'
import { visitAndSettle, type Jar } from '../support/browser'
import { exchange, type Received } from '../support/exchange'
import { signedCookie } from '../support/set-cookie'

/** What a callback is told: an error, or nothing. */
const resultOf = (call: (done: (error?: unknown) => void) => unknown): Promise<unknown> =>
  new Promise((resolve) => void call(resolve))

/** What applications were seen to do with sessions, and what comes of it: the same on both implementations. */
describe.each(Object.entries(implementations))('%s', (_name, session) => {
  /** Asks an app for some pages, as one browser. */
  function browser(options: object, handler: Handler) {
    const app = appWith(session, options, handler)
    const jar: Jar = {}
    return (url: string): Promise<Received> => visitAndSettle(app, url, jar)
  }
  const any = (req: object): { session: unknown } => req as { session: unknown }

  test('a proxy stands for the session: it has its ID, and is stored, regenerated and destroyed', async () => {
    const store = classicStore(session)
    const ask = browser({ store }, async (req, res) => {
      const { id } = req.session
      any(req).session = new Proxy(req.session, {})
      expect(req.session.id).toBe(id)
      if (req.url === '/login') {
        await new Promise<void>((resolve) => void req.session.regenerate(() => resolve()))
        any(req).session = new Proxy(req.session, {})
        req.session.user = 'ada'
        await new Promise((resolve) => req.session.save(resolve))
      }
      if (req.url === '/logout') await new Promise((resolve) => req.session.destroy(resolve))
      return res.send(String((req.session as AnySession | undefined)?.user))
    })
    expect((await ask('/login')).body).toBe('ada')
    expect((await ask('/')).body).toBe('ada')
    expect((await ask('/logout')).body).toBe('undefined')
    expect(store.records.size).toBe(0)
  })

  test.each([false, 0, ''])('req.session = %j is none, and nothing is stored', async (none) => {
    const store = classicStore(session)
    const ask = browser({ store, unset: 'destroy' }, (req, res) => {
      if (req.url === '/login') req.session.user = 'ada'
      if (req.url === '/none') any(req).session = none
      res.send(String((req.session as AnySession | undefined)?.user))
    })
    await ask('/login')
    expect(await ask('/none')).toMatchObject({ status: 200, body: 'undefined' })
    expect((await ask('/')).body).toBe('ada')
  })

  test('a session whose cookie the application lets end is gone, and what it changes after that is no error', async () => {
    const errors: unknown[] = []
    const handler: Handler = async (req, res) => {
      if (req.url === '/login') req.session.user = 'ada'
      if (req.url === '/logout') {
        req.session.cookie.maxAge = -1000
        await resultOf((done) => req.session.save(done))
        req.session.notice = 'bye'
      }
      res.send(String(req.session.user))
    }
    const app = express()
    app.use(session({ ...OPTIONS, store: new session.MemoryStore() }))
    app.use(caught(handler as RequestHandler))
    app.use(((error, _req, _res, _next) => errors.push(error)) as ErrorRequestHandler)
    const jar: Jar = {}
    await visitAndSettle(app, '/login', jar)
    expect((await visitAndSettle(app, '/', { ...jar })).body).toBe('ada')
    await visitAndSettle(app, '/logout', { ...jar })
    expect((await visitAndSettle(app, '/', { ...jar })).body).toBe('undefined')
    expect(errors).toEqual([])
  })

  test('a request made of another one has a session of its own', async () => {
    const ask = browser({ store: classicStore(session) }, (req, res) => {
      req.session.user = 'ada'
      const guest = Object.create(req) as Request
      any(guest).session = { user: 'guest' }
      guest.sessionID = 'none'
      res.send(`${String(req.session.user)} ${String((guest.session as AnySession).user)} ${req.sessionID.length}`)
    })
    expect(await ask('/')).toMatchObject({ status: 200, body: 'ada guest 32' })
  })

  test('callbacks get no arguments when there is nothing to tell', async () => {
    const seen: Record<string, unknown[]> = {}
    const store = new session.MemoryStore()
    const call = (name: string, method: (callback: (...args: unknown[]) => void) => unknown): Promise<void> =>
      new Promise((resolve) => {
        method((...args) => {
          seen[name] = args.filter((arg, at) => at > 0 || (arg !== undefined && arg !== null))
          resolve()
        })
      })
    const ask = browser({ store }, async (req, res) => {
      req.session.user = 'ada'
      await call('save', (callback) => req.session.save(callback))
      await call('reload', (callback) => req.session.reload(callback))
      await call('regenerate', (callback) => req.session.regenerate(callback))
      await call('destroy', (callback) => req.session.destroy(callback))
      await call('get', (callback) => store.get('missing', callback as never))
      await call('load', (callback) => store.load('missing', callback as never))
      await call('clear', (callback) => store.clear?.(callback))
      res.send('done')
    })
    await ask('/')
    const nothing: unknown[] = []
    expect(seen).toEqual({
      save: nothing,
      reload: nothing,
      regenerate: nothing,
      destroy: nothing,
      get: [undefined],
      load: nothing,
      clear: nothing,
    })
  })

  test('a plain object in place of the cookie is stored; what is sent has the settings of the option, where the original sends none', async () => {
    const store = classicStore(session)
    const ask = browser({ store }, (req, res) => {
      if (req.url === '/login') {
        req.session.user = 'ada'
        req.session.cookie = { maxAge: 60_000, path: '/', sessile: { user: 'eve' } } as never
      }
      res.send(String(req.session.user))
    })
    const { headers } = await ask('/login')
    expect(headers.find(([name]) => name === 'set-cookie')?.[1]).toMatch(
      session === original ? /^connect\.sid=[^;]+$/ : /^connect\.sid=[^;]+; Path=\/; HttpOnly$/,
    )
    expect((await ask('/')).body).toBe('ada')
  })

  const replacing: Record<string, (store: any) => void> = {
    'on the store': (store) => replace(store, session.Store.prototype),
    'in a subclass': (store) => {
      const between = Object.create(Object.getPrototypeOf(store) as object) as object
      replace(between, session.Store.prototype)
      Object.setPrototypeOf(store as object, between)
    },
  }

  /** Has sessions get a method when they are made, and tells of new IDs. */
  function replace(target: any, { createSession, regenerate }: any): void {
    target.createSession = function (req: object, data: SessionData) {
      const created = createSession.call(this, req, data) as object
      return Object.defineProperty(created, 'hasRole', { value: (role: string) => role === 'admin' })
    }
    target.regenerate = function (req: Request, callback: () => void) {
      told.push('regenerates')
      regenerate.call(this, req, callback)
    }
  }
  let told: string[] = []

  describe.each(Object.entries(replacing))('createSession and regenerate, replaced %s', (_where, put) => {
    test.each(['a classic store', 'MemoryStore'])('are called, on %s', async (kind) => {
      told = []
      const store = kind === 'MemoryStore' ? new session.MemoryStore() : classicStore(session)
      put(store)
      const ask = browser({ store }, async (req, res) => {
        if (req.url === '/login') {
          await new Promise<void>((resolve) => void req.session.regenerate(() => resolve()))
          req.session.user = 'ada'
        }
        if (req.url === '/reload') await new Promise((resolve) => req.session.reload(resolve))
        res.send(`${String(req.session.user)} ${String(req.session.hasRole?.('admin'))}`)
      })
      await ask('/login')
      expect(told).toEqual(['regenerates'])
      expect((await ask('/')).body).toBe('ada true')
      expect((await ask('/reload')).body).toBe('ada true')
      expect(told).toEqual(['regenerates'])
    })
  })

  test('a wrapped generate is called for new sessions and by regenerate', async () => {
    const store = new session.MemoryStore()
    const app = appWith(session, { store }, async (req, res) => {
      const { token } = req.session
      await new Promise<void>((resolve) => void req.session.regenerate(() => resolve()))
      res.send(`${String(token)} ${String(req.session.token)}`)
    })
    const wrapped = store as unknown as { generate(req: Request): void }
    const { generate } = wrapped
    let count = 0
    wrapped.generate = (req) => {
      generate.call(store, req)
      ;(req.session as AnySession).token = ++count
    }
    expect((await exchange(app as never)).body).toBe('1 2')
  })

  test('a new session that the application stores by itself is stored, and gets its cookie', async () => {
    const store = new session.MemoryStore()
    const ask = browser({ store }, async (req, res) => {
      if (req.url === '/login') {
        req.session.user = 'ada'
        await new Promise((resolve) => req.sessionStore.set(req.sessionID, req.session, resolve))
        req.session.more = true
      }
      res.send(`${String(req.session.user)} ${String(req.session.more)}`)
    })
    expect(await ask('/login')).toMatchObject({ status: 200 })
    expect((await ask('/')).body).toBe('ada true')
  })

  test('a session made outside of a request leaves it when it is destroyed', async () => {
    const store = new session.MemoryStore()
    const req = { sessionID: 'a', sessionStore: store }
    store.createSession(req as never, { cookie: { originalMaxAge: null } } as never)
    await new Promise<void>((resolve) => void (req as unknown as Request).session.destroy(() => resolve()))
    expect(req).not.toHaveProperty('session')
  })

  test('the store’s regenerate makes a new session though the old one could not be destroyed', async () => {
    const store = classicStore(session)
    store.destroy = (_id, callback) => callback?.(new Error('the store is down'))
    const ask = browser({ store }, async (req, res) => {
      const { sessionID } = req
      const error = await new Promise((resolve) => void req.sessionStore.regenerate(req, resolve))
      res.send(`${(error as Error).message}, ${sessionID === req.sessionID ? 'the old one' : 'a new one'}`)
    })
    expect((await ask('/')).body).toBe('the store is down, a new one')
  })

  test('a subclass of MemoryStore may have a ttl of its own, in seconds', async () => {
    class Store extends session.MemoryStore {
      constructor() {
        super()
        ;(this as { ttl: number }).ttl = 1 / 1000
      }
    }
    const ask = browser({ store: new Store() }, (req, res) => {
      if (req.url === '/login') req.session.user = 'ada'
      res.send(String(req.session.user))
    })
    await ask('/login')
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect((await ask('/')).body).toBe('ada')
  })

  test.each([
    ['', 'MemoryStore'],
    ['regenerated, ', 'MemoryStore'],
    ['', 'a classic store'],
    ['regenerated, ', 'a classic store'],
  ])('a new session that is %ssaved and reloaded gets its cookie: %s', async (first, kind) => {
    const store = kind === 'MemoryStore' ? new session.MemoryStore() : classicStore(session)
    const ask = browser({ store }, async (req, res) => {
      if (req.url === '/login') {
        if (first) await resultOf((done) => req.session.regenerate(done))
        req.session.user = 'ada'
        await resultOf((done) => req.session.save(done))
        await resultOf((done) => req.session.reload(done))
      }
      res.send(String(req.session.user))
    })
    expect((await ask('/login')).body).toBe('ada')
    expect((await ask('/')).body).toBe('ada')
  })

  test.each(['genid', 'destroy and generate'])('a proxy stands for a session made by %s', async (how) => {
    const store = classicStore(session)
    let visitors = 0
    const genid = (): string => `id-of-visitor-${++visitors}`
    const ask = browser(how === 'genid' ? { store, genid } : { store }, async (req, res) => {
      if (how !== 'genid' && req.url !== '/') {
        await resultOf((done) => req.session.destroy(done))
        req.sessionStore.generate(req)
      }
      any(req).session = new Proxy(req.session, {})
      if (req.url !== '/') req.session.user = req.url
      res.send(`${String(req.session.user)} ${req.session.id === req.sessionID}`)
    })
    expect((await ask('/ada')).body).toBe('/ada true')
    expect([...store.records.keys()]).not.toContain('undefined')
    expect((await ask('/')).body).toBe('/ada true')
  })

  describe('errors', () => {
    function appThatFails(method: 'get' | 'set', handler: Handler) {
      const store = classicStore(session)
      let calls = 0
      store[method] = ((...args: unknown[]) => {
        calls++
        setImmediate(args.at(-1) as (error: Error) => void, new Error('the store is down'))
      }) as never
      const app = express().use(session({ ...OPTIONS, store }), caught(handler as RequestHandler))
      const errors: string[] = []
      app.use(((error: Error, req, res, _next) => {
        errors.push(`${error.message}, ${String(req.sessionID)}`)
        if (!res.headersSent) res.status(500).send('failed')
      }) as ErrorRequestHandler)
      return { app, errors, calls: () => calls }
    }

    test('of loading: the error handler knows the session ID', async () => {
      const { app, errors } = appThatFails('get', (_req, res) => res.send(''))
      await exchange(app as never, { headers: { cookie: signedCookie('known', SECRET) } })
      expect(errors).toEqual(['the store is down, known'])
    })

    test('of a save that the handler has dealt with are told to nobody else, and nothing is tried again', async () => {
      const { app, errors, calls } = appThatFails('set', async (req, res) => {
        req.session.user = 'ada'
        const error = await resultOf((done) => req.session.save(done))
        res.status(error ? 503 : 200).send('')
      })
      expect(await exchange(app as never, {})).toMatchObject({ status: 503 })
      await settled()
      expect({ calls: calls(), errors }).toEqual({ calls: 1, errors: [] })
    })
  })

  test('a stored cookie without an end has null for it; with a lifetime alone, a change renews it', async () => {
    const store = classicStore(session)
    store.records.set('known', '{"cookie":{"originalMaxAge":null,"path":"/"}}')
    store.records.set('other', '{"cookie":{"originalMaxAge":60000,"path":"/"}}')
    const app = appWith(session, { store }, (req, res) => {
      const { expires } = req.session.cookie
      if (req.sessionID === 'other') req.session.user = 'ada'
      res.send(String(expires))
    })
    const visit = (id: string) => exchange(app as never, { headers: { cookie: signedCookie(id, SECRET) } })
    expect((await visit('known')).body).toBe('null')
    expect((await visit('other')).headers.map(([name]) => name)).toContain('set-cookie')
  })

  test('resave: a request that outlives its session and changes nothing is no error', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() })
    onTestFinished(() => void vi.useRealTimers())
    const ask = browser({ store: new session.MemoryStore(), resave: true, cookie: { maxAge: 60_000 } }, (req, res) => {
      if (req.url === '/login') req.session.user = 'ada'
      else vi.setSystemTime(Date.now() + 61_000)
      res.send('')
    })
    await ask('/login')
    expect(await ask('/')).toMatchObject({ status: 200, body: '' })
  })
})
