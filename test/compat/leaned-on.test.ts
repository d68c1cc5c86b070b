import { execFileSync } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { createRequire } from 'node:module'
import { inherits } from 'node:util'
import signature = require('cookie-signature')
import { afterEach, describe, expect, test } from 'vitest'
import sessile from '../../src'
import { appOf, appWith, classicStore, OPTIONS, record, type AnySession, type Handler } from '../faults/fault'
import { implementations, SECRET, settled, type SessionFactory } from '../support/app'
import { Exchange, exchange } from '../support/exchange'
import { cookieHeader, idIn, setCookies, signedCookie } from '../support/set-cookie'

const load = createRequire(__filename)
/** express-session asks the clock twice, and is a millisecond short at times. */
const aMinute: unknown = expect.closeTo(60_000, -2)
const KNOWN = { cookie: signedCookie('known', SECRET) }

/** Runs one handler with a session on one request. */
async function visit(session: SessionFactory, options: object, handler: Handler, headers: object = KNOWN) {
  const received = await exchange(appWith(session, options, handler) as never, { headers: { ...headers } })
  await settled()
  return received
}

describe.each(Object.entries(implementations))('what other packages lean on: %s', (name, session) => {
  const packageName = name === 'sessile' ? 'sessile' : 'express-session'
  const known = () => classicStore(session, new Map([['known', record({ user: 'ada' })]]))

  describe('1 deep files', () => {
    test.each(['cookie:Cookie', 'session:Session', 'store:Store', 'memory:MemoryStore'])('%s', (pair) => {
      const [file, exported] = pair.split(':') as [string, keyof SessionFactory]
      const whole = load(packageName) as SessionFactory
      expect(load(`${packageName}/session/${file}`)).toBe(whole[exported])
      expect(load(`${packageName}/session/${file}.js`)).toBe(whole[exported])
    })

    test('a new Cookie takes the place of one that was deleted with all the rest', async () => {
      const store = known()
      const { headers } = await visit(session, { store, rolling: true }, (req, res) => {
        for (const key of Object.keys(req.session)) delete req.session[key]
        req.session.cookie = new session.Cookie({ maxAge: 60_000, sameSite: 'lax' })
        req.session.fresh = true
        res.send('done')
      })
      expect(setCookies(Object.fromEntries(headers))[0]).toMatch(/Path=\/; Expires=.*; HttpOnly; SameSite=Lax/)
      expect(JSON.parse(store.records.get('known') ?? '')).toMatchObject({
        cookie: { originalMaxAge: aMinute, sameSite: 'lax', path: '/', httpOnly: true },
        fresh: true,
      })
      expect(store.records.get('known')).not.toContain('ada')
    })
  })

  describe('2 ways to inherit from Store', () => {
    type Old = { records: Map<string, string> }
    const methods = {
      get(this: Old, id: string, callback: (error: null, data?: unknown) => void) {
        const text = this.records.get(id)
        setImmediate(callback, null, text && JSON.parse(text))
      },
      set(this: Old, id: string, data: unknown, callback: () => void) {
        this.records.set(id, JSON.stringify(data))
        setImmediate(callback)
      },
      destroy(this: Old, id: string, callback: () => void) {
        this.records.delete(id)
        setImmediate(callback)
      },
    }
    const ways: Record<string, () => new () => Old> = {
      'util.inherits and Store.call': () => {
        function OldStore(this: Old) {
          ;(session.Store as unknown as () => void).call(this)
          this.records = new Map()
        }
        inherits(OldStore, session.Store)
        Object.assign(OldStore.prototype, methods)
        return OldStore as never
      },
      'util.inherits, and the constructor never called': () => {
        function OldStore(this: Old) {
          this.records = new Map()
        }
        inherits(OldStore, session.Store)
        Object.assign(OldStore.prototype, methods)
        return OldStore as never
      },
      '__proto__ and Store.call with options': () => {
        function OldStore(this: Old) {
          ;(session.Store as unknown as (options: object) => void).call(this, { ttl: 1 })
          this.records = new Map()
        }
        Object.setPrototypeOf(OldStore.prototype as object, session.Store.prototype)
        Object.assign(OldStore.prototype, methods)
        return OldStore as never
      },
      'Object.create of the prototype': () => {
        function OldStore(this: Old) {
          this.records = new Map()
        }
        OldStore.prototype = Object.assign(Object.create(session.Store.prototype), methods)
        return OldStore as never
      },
      'class extends': () => {
        class NewStore extends (session.Store as unknown as new () => object) {
          records = new Map<string, string>()
        }
        Object.assign(NewStore.prototype, methods)
        return NewStore
      },
      'a factory that is given the module': () => {
        const connectStore = ({ Store }: { Store: object }) => {
          class FactoryStore extends (Store as new (options?: object) => object) {
            records = new Map<string, string>()
            constructor() {
              super({})
            }
          }
          Object.assign(FactoryStore.prototype, methods)
          return FactoryStore
        }
        return connectStore(session)
      },
    }

    test.each(Object.keys(ways))('%s', async (way) => {
      const OldStore = (ways[way] as () => new () => Old)()
      const store = new OldStore()
      expect(store).toBeInstanceOf(session.Store)
      expect(store).toBeInstanceOf(EventEmitter)
      const handler: Handler = (req, res) => {
        req.session.views = Number(req.session.views ?? 0) + 1
        res.send(String(req.session.views))
      }
      const { headers } = await visit(session, { store }, handler, {})
      const cookie = cookieHeader(Object.fromEntries(headers))
      expect((await visit(session, { store }, handler, { cookie })).body).toBe('2')
      await visit(session, { store }, (req, res) => req.session.destroy(() => res.send('')), { cookie })
      expect(store.records.size).toBe(0)
    })

    test('Store puts nothing on an object that hides a method of a child', () => {
      const child = new (session.Store as unknown as new () => object)()
      for (const method of [
        'get',
        'set',
        'destroy',
        'touch',
        'all',
        'length',
        'clear',
        'regenerate',
        'load',
        'createSession',
      ]) {
        expect(Object.hasOwn(child, method), method).toBe(false)
      }
    })

    test('MemoryStore can be inherited from in the old way, and its methods replaced', async () => {
      const got: string[] = []
      function Spy(this: object) {
        ;(session.MemoryStore as unknown as () => void).call(this)
      }
      inherits(Spy, session.MemoryStore)
      ;(Spy.prototype as Record<string, unknown>)['get'] = function (id: string, callback: () => void) {
        got.push(id)
        void session.MemoryStore.prototype.get.call(this as never, id, callback)
      }
      const store = new (Spy as unknown as new () => object)()
      await visit(session, { store }, (_req, res) => res.send('done'))
      expect(got).toEqual(['known'])
    })
  })

  test('3 disconnect and connect decide whether there is a session', async () => {
    const store = known()
    const app = appWith(session, { store }, (req, res) => res.send(typeof req.session))
    const kinds = [(await exchange(app as never)).body]
    store.emit('disconnect')
    kinds.push((await exchange(app as never)).body)
    store.emit('connect')
    kinds.push((await exchange(app as never)).body)
    expect(kinds).toEqual(['object', 'undefined', 'object'])
  })

  describe('4 hardly a response', () => {
    const responses: Record<string, () => object> = {
      'no method at all': () => ({}),
      'end only': () => ({ end() {} }),
      'a virtual response': () =>
        Object.assign(new EventEmitter(), {
          headersSent: false,
          setHeader() {},
          getHeader() {},
          removeHeader() {},
          writeHead() {},
          write: () => true,
          end() {},
        }),
    }
    test.each(Object.keys(responses))('%s', async (which) => {
      const store = known()
      const { req } = new Exchange({ headers: KNOWN })
      const middleware = session({ ...OPTIONS, store })
      await new Promise<void>((resolve, reject) =>
        middleware(req as never, (responses[which] as () => object)() as never, (error?: unknown) =>
          error ? reject(error) : resolve(),
        ),
      )
      const { session: loaded } = req as IncomingMessage & { session: AnySession }
      expect(loaded.user).toBe('ada')
      loaded.user = 'grace'
      await new Promise((resolve) => loaded.save(resolve))
      expect(store.records.get('known')).toContain('grace')
    })

    test('a second time on the same request', async () => {
      const store = known()
      const middleware = session({ ...OPTIONS, store })
      const app = appOf([middleware, middleware], (req, res) => {
        req.session.views = 1
        res.send(req.session.user)
      })
      const { body } = await exchange(app as never, { headers: KNOWN })
      await settled()
      expect([body, ...store.calls]).toEqual(['ada', 'get', 'set'])
    })
  })

  test('5 the cookie is read and made by hand', async () => {
    const store = known()
    const made = { cookie: 'connect.sid=' + encodeURIComponent('s:' + signature.sign('known', SECRET)) }
    expect((await visit(session, { store }, (req, res) => res.send(req.session.user), made)).body).toBe('ada')

    const { headers } = await visit(
      session,
      { store, saveUninitialized: true },
      (req, res) => res.send(req.sessionID),
      {},
    )
    const [line = ''] = setCookies(Object.fromEntries(headers))
    const value = decodeURIComponent(line.slice(line.indexOf('=') + 1, line.indexOf(';')))
    expect(value.slice(0, 2)).toBe('s:')
    expect(signature.unsign(value.slice(2), SECRET)).toBe(idIn(line))
  })

  describe('6 what a store is handed', () => {
    test('a session whose cookie has its accessors', async () => {
      const store = known()
      let given: AnySession | undefined
      store.set = (_id, data, callback) => {
        given = data as AnySession
        return setImmediate(() => callback?.())
      }
      const options = { store, cookie: { maxAge: 60_000 } }
      await visit(session, options, (req, res) => ((req.session.user = 'ada'), res.send('')), {})
      const cookie = given?.cookie as AnySession['cookie'] & { _expires: Date }
      expect(cookie.expires).toBeInstanceOf(Date)
      expect(cookie._expires).toBe(cookie.expires)
      expect(cookie.maxAge).toBeGreaterThan(50_000)
      expect(cookie.originalMaxAge).toEqual(aMinute)
      expect(JSON.parse(JSON.stringify(given))).toEqual({
        cookie: { originalMaxAge: aMinute, expires: cookie.expires?.toISOString(), httpOnly: true, path: '/' },
        user: 'ada',
      })
      expect(Object.keys(given ?? {})).toEqual(['cookie', 'user'])
    })

    test('touch gets three arguments, once', async () => {
      const calls: unknown[][] = []
      const store = Object.assign(known(), {
        touch(...args: unknown[]) {
          calls.push(args)
          ;(args[2] as () => void)()
        },
      })
      await visit(session, { store }, (req, res) => res.send(req.session.user))
      expect(calls).toEqual([['known', expect.objectContaining({ user: 'ada' }), expect.any(Function)]])
      expect((calls[0]?.[1] as AnySession).cookie.toJSON()).toMatchObject({ path: '/' })
    })

    const { prototype } = session.Cookie
    const data = Object.getOwnPropertyDescriptor(prototype, 'data') as PropertyDescriptor
    afterEach(() => Object.defineProperty(prototype, 'data', data))

    test('the data accessor of Cookie.prototype can be replaced', async () => {
      expect(data).toMatchObject({ get: expect.any(Function) as unknown, configurable: true })
      Object.defineProperty(prototype, 'data', {
        ...data,
        get(this: object) {
          return { ...(data.get?.call(this) as object), domain: 'example.org' }
        },
      })
      const store = known()
      const { headers } = await visit(session, { store }, (req, res) => ((req.session.user = 'ada'), res.send('')), {})
      expect(setCookies(Object.fromEntries(headers))[0]).toContain('Domain=example.org')
      expect([...store.records.values()].join()).toContain('"domain":"example.org"')
    })

    test('and may say how long each cookie lives', async () => {
      Object.defineProperty(prototype, 'data', {
        ...data,
        get(this: { originalMaxAge: number }) {
          return { ...(data.get?.call(this) as object), maxAge: Math.round(this.originalMaxAge / 1000) }
        },
      })
      const ages: (string | undefined)[] = []
      for (const maxAge of [60_000, 3_600_000]) {
        const setAge: Handler = (req, res) => (
          (req.session.cookie.maxAge = maxAge),
          (req.session.user = 'ada'),
          res.send('')
        )
        const { headers } = await visit(session, {}, setAge, {})
        ages.push(/Max-Age=(\d+)/.exec(setCookies(Object.fromEntries(headers))[0] ?? '')?.[1])
      }
      expect(ages).toEqual(['60', '3600'])
    })
  })

  describe('7 the methods of stores', () => {
    test('generate and createSession are on a store that has gone through session()', () => {
      const store = known() as object
      session({ ...OPTIONS, store: store as never })
      expect(store).toMatchObject({ generate: expect.any(Function), createSession: expect.any(Function) })
    })

    test('generate gives a request a new session', async () => {
      const store = known()
      const { body } = await visit(session, { store }, (req, res) => {
        const before = req.sessionID
        req.sessionStore.generate(req)
        req.session.user = 'new'
        res.send([before, req.sessionID === before, req.session.id === req.sessionID].join())
      })
      expect(body).toBe('known,false,true')
      expect([...store.records.values()].filter((text) => text.includes('"user":"new"'))).toHaveLength(1)
    })

    test('load and regenerate, called on the store', async () => {
      const store = known()
      const { body } = await visit(session, { store }, (req, res) => {
        req.sessionStore.load('known', (_error, loaded) => {
          const user = (loaded as AnySession | undefined)?.user as string
          req.sessionStore.regenerate(req, () => {
            req.session.from = user
            res.send(String(req.sessionID === 'known'))
          })
        })
      })
      expect(body).toBe('false')
      expect([...store.records].map(([id, text]) => [id === 'known', text.includes('"from":"ada"')])).toEqual([
        [false, true],
      ])
    })

    test('load without a session passes nothing', async () => {
      const store = known()
      session({ ...OPTIONS, store })
      expect(await new Promise((resolve) => store.load('unknown', (...args) => resolve(args)))).toSatisfy(
        ([error, found]: unknown[]) => !error && found === undefined,
      )
    })

    test('createSession makes a session of stored data', () => {
      const store = known()
      const req = { sessionID: 'known', sessionStore: store } as never
      const made = store.createSession(
        req,
        JSON.parse(record({ user: 'ada' }, { expires: '2030-01-02T03:04:05.000Z' })) as never,
      )
      expect(made).toBeInstanceOf(session.Session)
      expect(made.cookie).toBeInstanceOf(session.Cookie)
      expect(made.cookie.expires).toEqual(new Date('2030-01-02T03:04:05.000Z'))
      expect((req as { session: unknown }).session).toBe(made)
    })

    test('sessions of the MemoryStore: JSON texts by ID, to read and to write', async () => {
      const store = new session.MemoryStore() as unknown as { sessions: Record<string, string> }
      store.sessions['known'] = record({ user: 'ada' })
      const handler: Handler = (req, res) => {
        req.session.views = 1
        res.send(req.session.user)
      }
      expect((await visit(session, { store }, handler)).body).toBe('ada')
      expect(Object.keys(store.sessions)).toEqual(['known'])
      expect(JSON.parse(store.sessions['known'] ?? '')).toMatchObject({ user: 'ada', views: 1, cookie: { path: '/' } })
      expect('known' in store.sessions).toBe(true)
      delete store.sessions['known']
      expect((await visit(session, { store }, handler)).body).toBe('')
    })
  })

  test('8 for in over a session gives data and cookie only', async () => {
    const { body } = await visit(session, { store: known() }, (req, res) => {
      const names = []
      for (const name in req.session) names.push(name)
      res.send(names.sort().join())
    })
    expect(body).toBe('cookie,user')
  })

  test('8 Passport copies the enumerable keys of the old session to the new one', async () => {
    const store = known()
    await visit(session, { store }, (req, res) => {
      const before = req.session
      req.session.regenerate(() => {
        for (const key in before) if (key !== 'cookie' && !(key in req.session)) req.session[key] = before[key]
        req.session.save(() => res.send(''))
      })
    })
    const [[id, text] = []] = [...store.records]
    expect(id).not.toBe('known')
    expect(JSON.parse(text ?? '')).toMatchObject({ user: 'ada' })
  })

  test('9 ES modules import the classes by name, and they are the same', () => {
    const source = `import session, { Store, MemoryStore, Cookie, Session } from '${packageName}'
      import * as all from '${packageName}'
      import { createRequire } from 'node:module'
      const required = createRequire(process.cwd() + '/x.js')('${packageName}')
      console.log(required === session, Store === required.Store, MemoryStore === required.MemoryStore,
        Cookie === required.Cookie, Session === required.Session, all.default === session, 'session' in all && !all.session.Store)`
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8' })
    expect(output.trim()).toBe('true true true true true true false')
  })
})

test('a refused WebSocket handshake does not end the process: engine.io leaves its response unfinished', async () => {
  const store = classicStore(sessile)
  const { req } = new Exchange()
  const res = Object.assign(new EventEmitter(), {
    setHeader() {},
    getHeader() {},
    writeHead() {},
    end: () => res.emit('ended'),
  })
  const middleware = sessile({ ...OPTIONS, store, saveUninitialized: true })
  await new Promise<void>((resolve) => middleware(req as never, res as never, () => resolve()))
  const ended = once(res, 'ended')
  ;(res.end as () => void)()
  await ended
  expect(store.calls).toContain('set')
})
