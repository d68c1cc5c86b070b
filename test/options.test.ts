import { AsyncLocalStorage } from 'node:async_hooks'
import { spawnSync } from 'node:child_process'
import { createSecretKey } from 'node:crypto'
import { once } from 'node:events'
import path from 'node:path'
import { sign, unsign } from 'cookie-signature'
import express from 'express'
import original from 'express-session'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import request from 'supertest'
import { afterEach, describe, expect, test, vi } from 'vitest'
import session from '../src'
import { resolveOptions, type ResolvedOptions } from '../src/options/resolve'
import { MysqlStore } from '../src/stores/mysql'
import { PostgresStore } from '../src/stores/postgres'
import { RedisStore } from '../src/stores/redis'
import { SqliteStore } from '../src/stores/sqlite'

const secret = 'a secret that is long enough for these tests'
const plain = { secret, resave: false, saveUninitialized: false, hints: false }
/** As JavaScript lets a store be written. */
class Half extends (session.RecordStore as unknown as new () => session.MemoryStore) {
  override read = (): null => null
}
type Data = Record<string, unknown>
const dataOf = (req: express.Request): Data => req.session as unknown as Data

async function warningFrom(make: () => unknown): Promise<string> {
  const warned = once(process, 'warning') as Promise<[Error]>
  make()
  return (await warned)[0].message
}

describe('what cannot be used is refused when the middleware is made', () => {
  test.each<[string, object, RegExp]>([
    ['genid', { genid: 'x' }, /^genid option must be a function$/],
    ['unset', { unset: 'never' }, /^unset option must be "destroy" or "keep"$/],
    ['an empty list of secrets', { secret: [] }, /^secret option array must contain one or more strings$/],
    ['an empty secret in a list', { secret: ['', secret] }, /secret option must be a string, a Buffer/],
    ['an empty Buffer as a secret', { secret: Buffer.alloc(0) }, /secret option must be .* none of them empty/],
    ['an empty KeyObject', { secret: createSecretKey('', 'utf8') }, /secret option must be .* none of them empty/],
    ['name', { name: 5 }, /name option must be a string; it is 5/],
    ['a name that no cookie can have', { name: 'a b' }, /name option has a character that cookies cannot.* "a b"$/],
    ['cookie.maxAge', { cookie: { maxAge: '1h' } }, /cookie.maxAge option must be a number of ms .*; it is "1h"/],
    ['cookie.maxAge of no number', { cookie: { maxAge: NaN } }, /cookie.maxAge option must be a number .*; it is NaN/],
    ['cookie.maxAge without end', { cookie: { maxAge: Infinity } }, /cookie.maxAge option must .*; it is Infinity/],
    ['cookie.expires', { cookie: { expires: 'tomorrow' } }, /cookie.expires option must be a Date; it is "tomorrow"/],
    [
      'cookie.path',
      { cookie: { path: 'admin' } },
      /cookie.path option must be a string that begins with '\/'; it is "a/,
    ],
    [
      'cookie.domain',
      { cookie: { domain: 'localhost:3000' } },
      /cookie.domain option must be a domain such as .*:3000"/,
    ],
    ['cookie.sameSite', { cookie: { sameSite: 'sometimes' } }, /cookie.sameSite option must be true, false, "lax"/],
    ['__Secure- without secure', { name: '__Secure-sid' }, /needs the option cookie.secure/],
    [
      '__Host- with a domain',
      { name: '__Host-sid', cookie: { secure: true, domain: 'a.test' } },
      /must have the cookie.path '\/' and no cookie.domain/,
    ],
    ['store', { store: {} }, /store option must be a session store, with the methods get, set and destroy.*an object$/],
    ['the class of a store', { store: session.MemoryStore }, /store option must be a session store, .* a function$/],
    [
      'a client of redis',
      { store: createClient() },
      /store option must be .* new RedisStore\(\{ client \}\), and not the cli/,
    ],
    ['a client of ioredis', { store: new Redis({ lazyConnect: true }) }, /store option must be .* new RedisStore\(/],
    [
      'a record store that lacks a method',
      { store: new Half() },
      /store option must be .* of RecordStore, write too; .* Half$/,
    ],
    ['maxSessionsPerUser without user', { maxSessionsPerUser: 5 }, /maxSessionsPerUser option needs the option user/],
    ['onSessionLimit without user', { onSessionLimit: 'refuse' }, /onSessionLimit option needs the option user/],
    ['describe without user', { describe: () => 1 }, /describe option needs the option user/],
    ['timeout', { timeout: -1 }, /timeout option must be a number of ms, not below 0/],
    ['conflict', { conflict: 'last' }, /conflict option must be one of "merge", "overwrite", "error"; it is "last"/],
    ['signName', { signName: 'yes' }, /signName option must be true or false; it is "yes"/],
    [
      'signName where nothing is signed',
      { signName: true, transport: { read: () => null, write: () => undefined } },
      /signName option is for the cookie, which the option transport replaces/,
    ],
    ['onSaveError', { onSaveError: 'retry' }, /onSaveError option must be one of "respond", "error", "disconnect"/],
    ['encryption', { encryption: 'short' }, /encryption option/],
    ['an empty encryption', { encryption: '' }, /encryption option/],
    ['encryption by a variable that is not set', { encryption: undefined }, /encryption option is undefined/],
  ])('%s', (_name, options, message) => {
    const make = (): unknown => session({ ...plain, ...options })
    expect(make).toThrow(message)
    expect(make).toThrow(TypeError)
  })

  test.each(['touchAfter', 'timeout', 'idleTimeout', 'absoluteTimeout', 'renewalTimeout', 'renewalGrace'])(
    '%s as a text with a unit',
    (name) => {
      expect(() => session({ ...plain, [name]: '30m' })).toThrow(`${name} option must be a number of ms, not below 0`)
    },
  )

  test('cookie.maxAge as a text with a unit', () => {
    const make = (): unknown => session({ ...plain, cookie: { maxAge: '30m' as never } })
    expect(make).toThrow('cookie.maxAge option must be a number of ms that leads to a date; it is "30m"')
  })

  test.each([undefined, null, '', Buffer.alloc(0)])('a secret alone that is %j', (none) => {
    expect(() => session(none as never)).toThrow(/^session\(\) was given a secret that is undefined or empty/)
  })

  const store = new session.MemoryStore()
  test.each<[unknown[], RegExp]>([
    [[secret, { store }, 5], /takes a secret and an object of options, and nothing more;/],
    [[secret, undefined], /what follows the secret in session\(\) must be an object of options; it is undefined$/],
    [[secret, null], /what follows the secret .* it is null$/],
    [[secret, 'another secret'], /what follows the secret .* it is "another secret"$/],
    [[secret, [store]], /what follows the secret .* it is an Array$/],
    [[secret, Buffer.alloc(32)], /what follows the secret .* it is a Buffer$/],
    [[secret, { secret }], /two secrets: leave the option secret out$/],
    [[{ secret }, { store }], /takes options after a secret, and only there/],
    [[undefined, { store }], /a secret that is undefined or empty; is the environment variable set/],
    [[5], /takes a secret, a list of secrets, or an object of options$/],
    [[secret, { cookie: 5 }], /cookie option must be an object of cookie settings/],
    [[secret, { encryption: undefined }], /encryption option is undefined/],
  ])('what session() is called with: %j', (given, message) => {
    const make = (): unknown => (session as (...given: unknown[]) => unknown)(...given)
    expect(make).toThrow(message)
    expect(make).toThrow(TypeError)
  })

  test('app.use(session), without the call, is an error that shows the call', async () => {
    const app = express()
    app.use(session as never)
    app.use(((error: Error, _req, res, _next) => void res.send(error.message)) as express.ErrorRequestHandler)
    expect((await request(app).get('/')).text).toMatch(/app\.use\(session\(secret\)\)/)
  })

  test('a secret that is undefined or empty among the options is told when the middleware is made, in production, too', () => {
    const library = JSON.stringify(path.resolve('dist'))
    const program = `
      const session = require(${library})
      process.on('warning', ({ code, message }) => console.log(code, message))
      session({ secret: process.env.NOWHERE, resave: false, saveUninitialized: false, store: new session.MemoryStore() })`
    const { stdout } = spawnSync(process.execPath, ['-e', program], {
      encoding: 'utf8',
      env: { ...process.env, NODE_ENV: 'production', NO_DEPRECATION: 'express-session' },
    })
    expect(stdout).toMatch(/^SESSION_OPTION secret option is undefined or empty, .*environment variable/)
  })

  test('deprecation notices name the line that calls session(), each of them', () => {
    const told: string[] = []
    const listen = ({ stack = '' }: Error): void => void told.push(stack.split('\n')[1] ?? '')
    process.on('deprecation' as never, listen as never)
    session({ secret, saveUninitialized: false })
    session({ secret, saveUninitialized: false })
    process.off('deprecation', listen)
    expect(told).toEqual([expect.stringContaining(__filename), expect.stringContaining(__filename)])
    expect(told[0]).not.toBe(told[1])
  })

  test.each<[string, object, string]>([
    ['saveUnitialized', { saveUnitialized: true }, '; did you mean saveUninitialized?'],
    ['secure', { secure: true }, '; did you mean cookie.secure?'],
    ['hashIds.kee', { hashIds: { kee: 'x' } }, '; did you mean hashIds.key?'],
    ['cookie.maxage', { cookie: { maxage: 1 } }, '; did you mean cookie.maxAge?'],
    ['colour', { colour: 'red' }, ''],
  ])('an unknown option, %s, gives a warning with the nearest known one', async (name, options, hint) => {
    expect(await warningFrom(() => session({ ...plain, ...options }))).toBe(`session() has no option ${name}${hint}`)
  })

  test.each<[object, string]>([
    [{ cookie: { sameSite: 'None' } }, "cookie.sameSite option 'none' without cookie.secure: browsers refuse"],
    [{ cookie: { partitioned: true } }, 'cookie.partitioned option without cookie.secure: browsers refuse'],
    [{ secret: 'keyboard cat' }, 'well-known example'],
    [{ secret: undefined }, 'secret option is undefined or empty, and every request fails'],
    [{ touchAfter: 60_000, cookie: { maxAge: 60_000 } }, 'touchAfter option is not below cookie.maxAge'],
    [{ resave: 'false' }, 'resave option must be true or false; "false" counts as true'],
    [{ proxy: 1 }, 'proxy option must be true or false; 1 is ignored'],
    [{ cookie: { secure: 1 } }, 'cookie.secure option must be true or false; 1 counts as true'],
  ])('what works, and hardly as it is meant, gives a warning: %j', async (options, message) => {
    expect(await warningFrom(() => session({ ...plain, ...options }))).toContain(message)
  })

  test('a touchAfter without end is for sessions that end some time after their last change', () => {
    const warned = vi.spyOn(process, 'emitWarning')
    session({ ...plain, touchAfter: Infinity, cookie: { maxAge: 60_000 } })
    expect(warned).not.toHaveBeenCalled()
    warned.mockRestore()
  })
})

describe('a secret, and what is to be different from the recommended options', () => {
  const resolved = (...given: unknown[]): ResolvedOptions => resolveOptions(given, () => undefined)
  const DEVELOPMENT = { resave: false, saveUninitialized: false, clearCookie: true, timeout: 30_000, cookie: {} }
  const IN_PRODUCTION = { httpOnly: true, secure: 'auto', sameSite: 'lax' }
  const inProduction = (): unknown => vi.stubEnv('NODE_ENV', 'production')
  afterEach(() => void vi.unstubAllEnvs())

  test.each([[[secret]], [[[secret, 'the one before']]], [[secret, {}]]])('the recommended ones: %j', (given) => {
    expect(resolved(...given)).toMatchObject(DEVELOPMENT)
    inProduction()
    expect(resolved(...given)).toMatchObject({ ...DEVELOPMENT, cookie: IN_PRODUCTION })
  })

  test('those given win, and the others stay', () => {
    const store = new session.MemoryStore()
    const given = { store, resave: true, clearCookie: false, timeout: 0, name: 'sid', idleTimeout: 60_000 }
    expect(resolved(secret, given)).toMatchObject({ ...given, saveUninitialized: false, secrets: [secret] })
  })

  test('the cookie is merged, setting by setting', () => {
    inProduction()
    expect(resolved(secret, { cookie: { maxAge: 60_000, sameSite: 'strict' } }).cookie).toEqual({
      ...IN_PRODUCTION,
      maxAge: 60_000,
      sameSite: 'strict',
    })
    const { cookie } = resolved(secret, { cookie: () => ({ secure: true }) })
    expect((cookie as (req: unknown) => unknown)({})).toEqual({ ...IN_PRODUCTION, secure: true })
  })

  test('an option that is undefined is not given', () => {
    inProduction()
    const nothing = { resave: undefined, saveUninitialized: undefined, timeout: undefined, cookie: undefined }
    expect(resolved(secret, nothing)).toMatchObject({ ...DEVELOPMENT, cookie: IN_PRODUCTION })
  })

  test('no deprecation notice', () => {
    const told: string[] = []
    resolveOptions([secret, { name: 'sid' }], (message) => told.push(message))
    resolveOptions([secret, { resave: undefined }], (message) => told.push(message))
    expect(told).toEqual([])
  })

  test('the store that is given keeps the sessions', async () => {
    const store = new session.MemoryStore()
    const app = express().use(session(secret, { store, hints: false }))
    app.get('/', (req, res) => void res.send(String((dataOf(req)['n'] = 1))))
    await request(app).get('/').expect(200)
    expect(await store.length()).toBe(1)
  })

  test('timeout: by default only for record stores, in the classic form', () => {
    class Classic extends session.Store {
      get = (): void => undefined
      set = (): void => undefined
      destroy = (): void => undefined
    }
    const { timeout: ofClassic } = resolved({ ...plain, store: new Classic() })
    const { timeout: ofClassicInShort } = resolved(secret, { store: new Classic() })
    const { timeout: ofRecords } = resolved({ ...plain, store: new session.MemoryStore() })
    const { timeout: ofTheDefault } = resolved(plain)
    expect([ofClassic, ofClassicInShort, ofRecords, ofTheDefault]).toEqual([0, 30_000, 30_000, 30_000])
    expect(resolved({ ...plain, timeout: 0 }).timeout).toBe(0)
    expect(resolved({ ...plain, timeout: 2 ** 31 }).timeout, 'longer than a timer can wait').toBe(0)
  })

  test('signName and conflict have the defaults of express-session and of sessile', () => {
    expect(resolved(plain)).toMatchObject({ signName: false, conflict: 'merge' })
    expect(resolved({ ...plain, signName: true, conflict: 'error' })).toMatchObject({
      signName: true,
      conflict: 'error',
    })
  })
})

describe('options of stores', () => {
  const client = createClient()
  const statement = { get: () => undefined, all: () => [{}], run: () => ({ changes: 0 }) }
  const database = { exec: () => undefined, prepare: () => statement, close: () => undefined } as never

  test.each<[string, () => unknown]>([
    ['MemoryStore has no option maxx; did you mean max?', () => new session.MemoryStore({ maxx: 5 } as never)],
    ['RedisStore has no option perfix; did you mean prefix?', () => new RedisStore({ client, perfix: 'a:' } as never)],
    [
      'PostgresStore has no option tablename; did you mean tableName?',
      () => new PostgresStore({ conString: 'postgres://127.0.0.1/test', tablename: 'x' } as never),
    ],
    ['MysqlStore has no option ssl', () => new MysqlStore({ host: '127.0.0.1', ssl: {} } as never)],
    ['SqliteStore has no option path', () => new SqliteStore({ database, path: 'x.db' } as never)],
  ])('%s', async (message, make) => {
    expect(await warningFrom(make)).toBe(message)
  })

  test('no warning of what another package asks for by default, nor of what a subclass takes', () => {
    class Named extends session.MemoryStore {
      constructor(options: { label: string }) {
        super(options as object)
      }
    }
    const warned = vi.spyOn(process, 'emitWarning')
    new Named({ label: 'mine' })
    new session.MemoryStore(null as never)
    expect(() => new RedisStore(client as never)).toThrow(/option client must be a client made by/)
    new RedisStore({ client, prefix: null, disableTTL: false, disableTouch: false } as never)
    new PostgresStore({ conString: 'postgres://127.0.0.1/test', schemaName: null, disableTouch: false } as never)
    new MysqlStore({ host: '127.0.0.1', charset: 'utf8mb4_bin', disableTouch: false } as never)
    expect(warned).not.toHaveBeenCalled()
    warned.mockRestore()
  })

  test('a MemoryStore takes a serializer, too', () => {
    const serializer = { stringify: (data: object) => `text:${JSON.stringify(data)}`, parse: () => ({ cookie: {} }) }
    const store = new session.MemoryStore({ serializer })
    void store.set('a', { cookie: {} } as never)
    expect(store.read('a')?.text).toMatch(/^text:/)
    expect(() => new session.MemoryStore({ serializer: {} as never })).toThrow(
      /option serializer must be an object with/,
    )
  })
})

describe('what express-session works with works here, too', () => {
  /** The status, and the cookie but for its value, of a first visit and of one that sets something. */
  async function seenWith(factory: typeof session, options: object): Promise<unknown[]> {
    const app = express().use(factory({ ...plain, ...options }))
    app.get('/set', (req, res) => void res.send(String((dataOf(req)['n'] = 1))))
    app.get('/', (req, res) => void res.send(typeof req.session))
    const answers = [await request(app).get('/'), await request(app).get('/set')]
    return answers.map(({ status, text, headers }) => [
      status,
      text,
      String(headers['set-cookie']).replace(/=s%3A[^;]*/, ''),
    ])
  }

  test.each([
    [{ name: '', key: 'sid' }],
    [{ name: null, key: '' }],
    [{ resave: null, saveUninitialized: null }],
    [{ resave: 1, saveUninitialized: 'yes', rolling: 0 }],
    [{ rolling: 'yes', proxy: 'yes', unset: '', genid: false, store: false, cookie: '' }],
    [{ cookie: { maxAge: false, path: '', domain: '', sameSite: '', priority: '' } }],
    [{ cookie: { maxAge: 0, expires: false, httpOnly: 0, secure: '', partitioned: 1 } }],
    [{ cookie: { expires: 5, sameSite: 'LAX', priority: 'HIGH', httpOnly: null, path: null } }],
    [{ cookie: null, secret: [secret, Buffer.from(secret)] }],
  ])('%j', async (options) => {
    const [ours, theirs] = [await seenWith(session, options), await seenWith(original as never, options)]
    const date = /(Expires=)[^;]*/
    const withoutDates = (seen: unknown[]): unknown =>
      JSON.parse(JSON.stringify(seen).replaceAll(new RegExp(date, 'g'), '$1'))
    expect(withoutDates(ours)).toEqual(withoutDates(theirs))
  })
})

describe('the small things', () => {
  test('the short form stores nothing that did not change', async () => {
    const store = new session.MemoryStore()
    const set = vi.spyOn(store, 'set')
    const app = express().use(session(secret))
    app.get('/', (req, res) => void res.send(req.sessionID))
    const { headers } = await request(app).get('/')
    expect(headers['set-cookie']).toBeUndefined()
    expect(set).not.toHaveBeenCalled()
  })

  test('the short form takes a list of secrets: the first signs, all verify', async () => {
    const older = 'an older secret that is long enough, too'
    const app = express().use(session([secret, older]))
    app.get('/', (req, res) => void res.send(String((dataOf(req)['n'] = Number(dataOf(req)['n'] ?? 0) + 1))))
    const { headers } = await request(app).get('/').expect('1')
    const signed = decodeURIComponent(/=s%3A([^;]*)/.exec(String(headers['set-cookie']))?.[1] ?? '')
    const id = unsign(signed, secret)
    expect(id).toBeTruthy()
    const cookie = `connect.sid=${encodeURIComponent(`s:${sign(id as string, older)}`)}`
    await request(app).get('/').set('Cookie', cookie).expect('2')
    expect(() => session([])).toThrow(/^secret option array must contain one or more strings$/)
    expect(() => session([secret, ''])).toThrow(/none of them empty/)
  })

  test('a genid that returns no ID gives a warning', async () => {
    const app = express().use(session({ ...plain, genid: () => 1 as unknown as string }))
    app.get('/', (req, res) => {
      dataOf(req)['user'] = 'ada'
      res.send('done')
    })
    const warned = once(process, 'warning') as Promise<[Error]>
    await request(app).get('/').expect(200, 'done')
    expect((await warned)[0].message).toBe(
      'genid option returned a number; without a string for an ID the session is not kept',
    )
  })

  test('a cookie function that returns a promise is an error', async () => {
    const app = express().use(session({ ...plain, cookie: (() => Promise.resolve({ secure: true })) as never }))
    app.set('env', 'test')
    const { status, text } = await request(app).get('/')
    expect(status).toBe(500)
    expect(text).toContain('cookie option must return settings, not a promise')
  })

  test('genid may return a promise; an ID that exists is never given to another visitor', async () => {
    const app = express().use(session({ ...plain, genid: () => Promise.resolve('always-the-same') }))
    app.get('/', (req, res) => {
      dataOf(req)['owner'] ??= req.query['owner']
      res.send(dataOf(req)['owner'])
    })
    app.use(
      ((error: { code?: string }, _req, res, _next) =>
        void res.status(500).send(error.code)) as express.ErrorRequestHandler,
    )
    await request(app).get('/?owner=ada').expect(200, 'ada')
    const second = await request(app).get('/?owner=eve').expect(500, 'ERR_SESSION_ID_TAKEN')
    expect(second.headers['set-cookie']).toBeUndefined()
  })

  test('skip: requests without a session', async () => {
    const app = express().use(session({ ...plain, skip: (req) => req.path === '/health' }))
    app.use((req, res) => void res.send(String('session' in req)))
    await request(app).get('/health').expect('false')
    await request(app).get('/').expect('true')
  })

  test('transport: the ID travels in a header, and no cookie is set', async () => {
    const transport: session.Transport = {
      read: (req) => req.get('x-session'),
      write: (_req, res, id) => void res.setHeader('x-session', id),
    }
    const app = express().use(session({ resave: false, saveUninitialized: false, transport }))
    app.get('/', (req, res) => {
      dataOf(req)['views'] = Number(dataOf(req)['views'] ?? 0) + 1
      res.json(dataOf(req)['views'])
    })
    const { headers } = await request(app).get('/').expect('1')
    expect(headers['set-cookie']).toBeUndefined()
    await request(app)
      .get('/')
      .set('x-session', headers['x-session'] as string)
      .expect('2')
  })

  test('property: two sessions in one app on one store', async () => {
    const store = new session.MemoryStore()
    const app = express()
    app.use(
      session({ ...plain, store, name: 'user' }),
      session({ ...plain, store, name: 'admin', property: 'adminSession' }),
    )
    app.get('/', (req, res) => {
      const admin = (req as unknown as { adminSession: Data }).adminSession
      dataOf(req)['n'] = Number(dataOf(req)['n'] ?? 0) + 1
      admin['n'] = Number(admin['n'] ?? 10) + 1
      res.json([
        dataOf(req)['n'],
        admin['n'],
        req.sessionID === (req as unknown as { adminSessionID: string }).adminSessionID,
      ])
    })
    const agent = request.agent(app)
    await agent.get('/').expect('[1,11,false]')
    await agent.get('/').expect('[2,12,false]')
  })

  test('AsyncLocalStorage survives a store that calls back from elsewhere', async () => {
    const storage = new AsyncLocalStorage<string>()
    const waiting: (() => void)[] = []
    setInterval(() => waiting.splice(0).forEach((call) => call()), 1).unref()
    class PoolStore extends session.MemoryStore {
      override get(...[id, callback]: Parameters<session.MemoryStore['get']>): never {
        return void waiting.push(() => void super.get(id, callback as never)) as never
      }
    }
    const app = express()
    app.use((_req, _res, next) => storage.run('this request', next))
    app.use(session({ ...plain, store: new PoolStore() }))
    app.get('/', (req, res) => {
      dataOf(req)['seen'] = true
      res.send(String(storage.getStore()))
    })
    const agent = request.agent(app)
    await agent.get('/').expect('this request')
    await agent.get('/').expect('this request')
  })

  test.each([
    ['error', 500],
    ['disconnect', 0],
    ['respond', 200],
  ] as const)('onSaveError: %s', async (onSaveError, status) => {
    class Failing extends session.Store {
      get(_id: string, callback: (error: unknown) => void) {
        callback(null)
      }
      set(_id: string, _data: unknown, callback?: (error?: unknown) => void) {
        setImmediate(() => callback?.(new Error('the disk is full')))
      }
      destroy(_id: string, callback?: (error?: unknown) => void) {
        callback?.()
      }
    }
    const told: string[] = []
    const app = express().use(session({ ...plain, store: new Failing(), onSaveError }))
    app.get('/', (req, res) => {
      dataOf(req)['a'] = 1
      res.send('done')
    })
    app.use(((error: Error, _req, res, _next) => {
      told.push(error.message)
      if (!res.headersSent) res.status(500).send('failed')
    }) as express.ErrorRequestHandler)
    const answered = await request(app)
      .get('/')
      .then(
        ({ status }) => status,
        () => 0,
      )
    expect(answered).toBe(status)
    await new Promise((resolve) => setImmediate(resolve))
    if (status !== 0) expect(told).toEqual(['the disk is full'])
  })

  test('a value that cannot be stored: a 500 that names the key, and the connection lives', async () => {
    const app = express().use(session(plain))
    app.get('/bad', (req, res) => {
      const cart: { items: unknown[] } = { items: [1, 10n] }
      dataOf(req)['cart'] = cart
      res.send('never')
    })
    app.get('/circle', (req, res) => {
      const a: Data = {}
      a['self'] = a
      dataOf(req)['a'] = a
      res.send('never')
    })
    app.get('/good', (_req, res) => void res.send('good'))
    app.use(
      ((error: Error, _req, res, _next) => void res.status(500).send(error.message)) as express.ErrorRequestHandler,
    )
    await request(app)
      .get('/bad')
      .expect(500, /^req\.session\.cart\.items\[1\] cannot be stored: /)
    await request(app)
      .get('/circle')
      .expect(500, /^req\.session\.a\.self cannot be stored: /)
    await request(app).get('/good').expect(200)
  })

  test('touchAfter: the expiry is renewed at most so often', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const store = new session.MemoryStore()
    const renew = vi.spyOn(store, 'renew')
    const app = express().use(session({ ...plain, store, cookie: { maxAge: 3_600_000 }, touchAfter: 60_000 }))
    app.get('/login', (req, res) => {
      dataOf(req)['a'] = 1
      res.send('in')
    })
    app.get('/', (req, res) => void res.send(String(dataOf(req)['a'])))
    const agent = request.agent(app)
    await agent.get('/login')
    vi.setSystemTime(Date.now() + 30_000)
    await agent.get('/')
    expect(renew).not.toHaveBeenCalled()
    vi.setSystemTime(Date.now() + 40_000)
    await agent.get('/')
    expect(renew).toHaveBeenCalledTimes(1)
    vi.useRealTimers()
  })

  test('timeout: Infinity is none, as is what no timer of Node can wait for', async () => {
    class Slow extends session.MemoryStore {
      override get(...[id, callback]: Parameters<session.MemoryStore['get']>): never {
        return void setTimeout(() => void super.get(id, callback), 50) as never
      }
    }
    for (const timeout of [Infinity, 2 ** 31]) {
      const app = express().use(session({ ...plain, store: new Slow(), timeout }))
      app.get('/', (req, res) => {
        Object.assign(req.session, { user: 'ada' })
        res.send('in')
      })
      const agent = request.agent(app)
      await agent.get('/').expect(200)
      await agent.get('/').expect(200)
    }
  })

  test('timeout and onLoadError: a store that does not answer costs a request no more than that', async () => {
    class Silent extends session.MemoryStore {
      override get(): never {
        return undefined as never
      }
    }
    const cookie = `connect.sid=${encodeURIComponent(`s:${(await import('cookie-signature')).sign('id', secret)}`)}`
    const make = (options: session.SessionOptions): express.Express => {
      const app = express().use(session({ ...plain, store: new Silent(), timeout: 20, ...options }))
      app.get('/', (req, res) => void res.send(String(req.session === undefined)))
      app.use(
        ((error: { code?: string }, _req, res, _next) =>
          void res.status(503).send(error.code)) as express.ErrorRequestHandler,
      )
      return app
    }
    await request(make({})).get('/').set('Cookie', cookie).expect(503, 'ERR_SESSION_STORE_TIMEOUT')
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
    const skipping = make({ onLoadError: 'skip' })
    for (let visits = 0; visits < 2; visits++)
      await request(skipping).get('/').set('Cookie', cookie).expect(200, 'true')
    // A store that is down is told, though every visitor gets an answer.
    expect(warned.mock.calls).toEqual([
      [
        expect.stringMatching(/^a session could not be loaded \(SessionError: the session store did not answer load/),
        { type: 'SessionWarning', code: 'SESSION_LOAD_SKIPPED' },
      ],
    ])
    warned.mockRestore()
  })
})
