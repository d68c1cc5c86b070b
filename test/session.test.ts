import { execFileSync } from 'node:child_process'
import path from 'node:path'
import request from 'supertest'
import { afterEach, describe, expect, test, vi } from 'vitest'
import session, { type SessionData } from '../src'
import { appWith, appWithSessions, classicStore, type AnySession } from './faults/fault'
import { implementations, SECRET } from './support/app'
import { exchange } from './support/exchange'
import { signedCookie } from './support/set-cookie'

afterEach(() => vi.useRealTimers())

const headers = { cookie: signedCookie('known', SECRET) }
const STORED = '{"cookie":{"originalMaxAge":60000,"expires":"2099-01-01T00:00:00.000Z","path":"/"},"user":"ada"}'

interface Looked {
  session: AnySession
  sessionStore: { records: Map<string, string> }
}

describe.each(Object.entries(implementations))('the session object, on %s', (name, factory) => {
  /** What comes of a handler that has a stored session. */
  async function within<T>(look: (session: AnySession, req: Looked) => T | Promise<T>): Promise<T> {
    const store = classicStore(factory, new Map([['known', STORED]]))
    let seen: { value: T } | undefined
    const app = appWith(factory, { store }, async (req, res) => {
      seen = { value: await look(req.session, req as never) }
      res.end()
    })
    await exchange(app as never, { headers })
    if (!seen) throw new Error('the handler was not reached')
    return seen.value
  }

  test('the names on it are the data’s, and those that it has always had', async () => {
    const names = await within((session) => {
      const inherited: string[] = []
      for (let object: object = session; object !== Object.prototype; object = Object.getPrototypeOf(object) as object)
        if (object !== session) inherited.push(...Object.getOwnPropertyNames(object))
      const own = Object.getOwnPropertyNames(session)
      const all: string[] = []
      for (const key in session) all.push(key)
      // express-session has `req` and `id` on each session, here they are inherited: neither is enumerable.
      const reachable = [...new Set([...own, ...inherited])].sort()
      return { enumerable: Object.keys(session), all, reachable, symbols: Object.getOwnPropertySymbols(session) }
    })
    const methods = ['destroy', 'regenerate', 'reload', 'resetMaxAge', 'save', 'touch']
    expect(names).toEqual({
      enumerable: ['cookie', 'user'],
      all: ['cookie', 'user'],
      reachable: ['constructor', 'cookie', 'id', 'req', 'user', ...methods].sort(),
      symbols: [],
    })
  })

  test('with a callback, every method returns the session', async () => {
    const same = await within(async (session) => {
      const returned: boolean[] = []
      for (const method of ['save', 'reload', 'regenerate', 'destroy'] as const) {
        await new Promise((resolve) => returned.push(session[method](resolve) === session))
      }
      return [...returned, session.touch() === session, session.resetMaxAge() === session]
    })
    // On express-session `save` and `reload` are wrapped, and return nothing.
    const wrapped = name === 'sessile'
    expect(same).toEqual([wrapped, wrapped, true, true, true, true])
  })

  test('the ID cannot be changed', async () => {
    const id = await within((session) => {
      try {
        ;(session as { id: string }).id = 'another'
      } catch {
        // In strict code this throws.
      }
      return session.id
    })
    expect(id).toBe('known')
  })

  test('touch gives the full lifetime again, and resetMaxAge does', async () => {
    for (const method of ['touch', 'resetMaxAge'] as const) {
      const age = await within((session) => {
        session.cookie.maxAge = 60_000
        session.cookie.expires = new Date(Date.now() + 60_000)
        session.cookie.originalMaxAge = 120_000
        session[method]()
        return session.cookie.maxAge
      })
      expect(age, method).toBeGreaterThan(119_000)
      expect(age, method).toBeLessThanOrEqual(120_000)
    }
  })

  test('regenerate: another ID, no data; reload: what the store holds', async () => {
    const seen = await within(async (session, req) => {
      session.user = 'changed'
      await new Promise((resolve) => session.reload(resolve))
      const reloaded = req.session.user as unknown
      await new Promise((resolve) => req.session.regenerate(resolve))
      return { reloaded, regenerated: Object.keys(req.session), isNew: req.session.id !== 'known' }
    })
    expect(seen).toEqual({ reloaded: 'ada', regenerated: ['cookie'], isNew: true })
  })

  test('save and reload can be replaced on one session, and are not stored', async () => {
    const json = await within((session) => {
      session.save = ((callback: () => void) => callback()) as never
      session.reload = (() => undefined) as never
      return JSON.stringify(Object.keys(session))
    })
    // On express-session they are enumerable from then on, and JSON passes functions over.
    expect((JSON.parse(json) as string[]).filter((key) => key !== 'save' && key !== 'reload')).toEqual([
      'cookie',
      'user',
    ])
    if (name === 'sessile') expect(json).not.toContain('save')
  })

  test('reload of a session that is gone fails with the same words', async () => {
    const error = await within((session, { sessionStore }) => {
      sessionStore.records.clear()
      return new Promise<Error>((resolve) => void session.reload(resolve))
    })
    expect(error.message).toBe('failed to load session')
  })

  test('data under the names of methods, and of what every object has, does not get in', () => {
    const store = classicStore(factory)
    const text = '{"cookie":{},"save":1,"id":2,"req":3,"__proto__":{"polluted":true},"constructor":4,"user":"ada"}'
    const req = { sessionID: 'x', sessionStore: store }
    const session = store.createSession(req as never, JSON.parse(text) as SessionData) as AnySession
    expect(typeof session.save).toBe('function')
    expect(session.id).toBe('x')
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined()
    expect(session['polluted']).toBeUndefined()
  })
})

describe.each<[string, () => session.Store]>([
  ['a record store', () => new session.MemoryStore()],
  ['a classic store', () => classicStore(session)],
])('a save of a session that is gone says who has destroyed it, on %s', (_kind, open) => {
  test.each([
    ['this', false],
    ['another', true],
  ])('%s request', async (who, byAnother) => {
    const { app, sessions } = appWithSessions({ store: open() }, async (req, res) => {
      const { session } = req
      session.user = 'ada'
      if (req.url === '/gone') {
        if (byAnother)
          await request(app)
            .get('/out')
            .set('Cookie', req.headers.cookie as string)
        else await session.destroy()
        await session.save()
      }
      if (req.url === '/out') await sessions.destroy(req.sessionID)
      res.send('done')
    })
    const agent = request.agent(app)
    await agent.get('/login').expect(200, 'done')
    await agent.get('/gone').expect(500, new RegExp(`was destroyed by ${who} request and is not saved`))
  })
})

test('a promise that nobody awaits and that fails does not end the process', () => {
  const program = `
    const session = require(${JSON.stringify(path.resolve('dist'))})
    class Broken extends session.Store {
      get(id, callback) { setImmediate(callback, new Error('get')) }
      set(id, data, callback) { setImmediate(callback, new Error('set')) }
      destroy(id, callback) { setImmediate(callback, new Error('destroy')) }
    }
    const req = { headers: {}, url: '/', socket: {} }
    session({ secret: 'a secret that is long enough for it', resave: false, saveUninitialized: false, store: new Broken() })(req, {}, () => {
      const { session: one } = req
      one.save(); one.reload(); one.destroy(); one.regenerate()
      setTimeout(() => console.log('alive'), 50)
    })`
  expect(execFileSync(process.execPath, ['-e', program], { encoding: 'utf8' })).toBe('alive\n')
})
