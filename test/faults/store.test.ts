import { AsyncLocalStorage } from 'node:async_hooks'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import express from 'express'
import request from 'supertest'
import { afterEach, expect, vi } from 'vitest'
import type { SessionData } from '../../src'
import { SECRET, settled, type SessionFactory } from '../support/app'
import { Exchange, exchange } from '../support/exchange'
import { setCookies, signedCookie } from '../support/set-cookie'
import { appWith, appOf, classicStore, fault, inProcess, OPTIONS, record, type AnySession } from './fault'

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

const cookie = signedCookie('known', SECRET)
const known = (): Map<string, string> => new Map([['known', record({ user: 'ada' })]])

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

function usedMegabytes(): number {
  collectGarbage()
  return process.memoryUsage().heapUsed / 1e6
}

fault(6, 'the MemoryStore keeps every expired session until its ID is asked for again', {
  async scenario(session) {
    vi.useFakeTimers()
    const store = new session.MemoryStore()
    const before = usedMegabytes()
    for (let i = 0; i < 500; i++) {
      const data = {
        cookie: { originalMaxAge: 1000, expires: new Date(Date.now() + 1000) },
        text: `${i}`.repeat(40_000),
      }
      void store.set(`session ${i}`, data as never)
    }
    const filled = usedMegabytes() - before
    await vi.advanceTimersByTimeAsync(60_000)
    const left = usedMegabytes() - before
    const kept = left > filled / 2
    // The store is used once more, so that it lives until here.
    void store.clear?.()
    return { filled: filled > 20, kept }
  },
  original: { filled: true, kept: true },
  sessile: { filled: true, kept: false },
})

fault(6, 'the MemoryStore has no bound', {
  async scenario(session) {
    const store = new session.MemoryStore({ max: 10 })
    for (let i = 0; i < 50; i++) void store.set(`session ${i}`, JSON.parse(record({ i })) as SessionData)
    return new Promise<number | undefined>((resolve) => void store.length?.((_error, length) => resolve(length)))
  },
  original: 50,
  sessile: 10,
})

fault(9, 'a store that throws when it loads ends the process, where nothing catches it', {
  scenario: (session) =>
    inProcess(
      session,
      `const http = require('node:http')
      class Broken extends session.Store {
        get() { throw new Error('broken') }
        set() { throw new Error('broken') }
        destroy() { throw new Error('broken') }
      }
      const sessions = session({ secret: 's', resave: false, saveUninitialized: false, store: new Broken() })
      const server = http.createServer((req, res) => sessions(req, res, (error) => res.end(error ? error.message : 'fine')))
      server.listen(0, async () => {
        const cookie = 'connect.sid=s:x.' + require('node:crypto').createHmac('sha256', 's').update('x').digest('base64').replace(/=+$/, '')
        console.log(await (await fetch('http://localhost:' + server.address().port, { headers: { cookie } })).text())
        process.exit()
      })`,
    ),
  original: 'dies',
  sessile: 'broken',
})

fault(9, 'a store that throws when it saves makes the request hang', {
  async scenario(session) {
    const store = classicStore(session)
    store.set = () => {
      throw new Error('broken')
    }
    const app = appWith(session, { store }, (req, res) => {
      req.session.user = 'ada'
      res.send('hello')
    })
    return answerOf(app)
  },
  original: 'hangs',
  sessile: '500 broken',
})

fault(9, 'a store whose methods return promises and ignore the callback makes the request hang', {
  async scenario(session) {
    const records = known()
    const store = Object.assign(classicStore(session, records), {
      get: async (id: string) => Promise.resolve(JSON.parse(records.get(id) ?? 'null') as SessionData),
      set: async (id: string, data: SessionData) => Promise.resolve(void records.set(id, JSON.stringify(data))),
      destroy: async (id: string) => Promise.resolve(void records.delete(id)),
    })
    const app = appWith(session, { store }, (req, res) => {
      req.session.views = 1
      res.send(`user ${req.session.user}`)
    })
    return [await answerOf(app, { cookie }), JSON.parse(records.get('known') ?? '').views as unknown]
  },
  original: ['hangs', undefined] as unknown[],
  sessile: ['200 user ada', 1],
})

fault(9, 'a store that calls back twice has the handlers run twice', {
  async scenario(session) {
    const store = classicStore(session)
    store.get = (_id, callback) => {
      callback(null, JSON.parse(record({})) as SessionData)
      callback(null, JSON.parse(record({})) as SessionData)
    }
    let runs = 0
    const middleware = session({ ...OPTIONS, store })
    const { req, res } = new Exchange({ headers: { cookie } })
    middleware(req as never, res as never, () => runs++)
    await settled()
    return runs
  },
  original: 2,
  sessile: 1,
})

fault(12, 'length of the MemoryStore parses every session', {
  async scenario(session) {
    const store = new session.MemoryStore()
    for (let i = 0; i < 100; i++) void store.set(`session ${i}`, JSON.parse(record({ i })) as SessionData)
    const parse = vi.spyOn(JSON, 'parse')
    const length = await new Promise((resolve) => void store.length?.((_error, count) => resolve(count)))
    return { length, parsed: parse.mock.calls.length }
  },
  original: { length: 100, parsed: 100 },
  sessile: { length: 100, parsed: 0 },
})

fault(15, 'two middlewares that share one store overwrite the cookie options of each other', {
  async scenario(session) {
    const store = new session.MemoryStore()
    const options = { ...OPTIONS, store, saveUninitialized: true }
    const shop = session({ ...options, name: 'shop' })
    const admin = session({ ...options, name: 'admin', cookie: { sameSite: 'strict', maxAge: 60_000 } })
    const app = appOf([(req, res, next) => (req.url === '/admin' ? admin : shop)(req, res, next)], (_req, res) => {
      res.send('done')
    })
    const { headers } = await exchange(app as never, { url: '/' })
    const [line = ''] = setCookies(Object.fromEntries(headers))
    return line.slice(line.indexOf(';'))
  },
  original: expect.stringContaining('; SameSite=Strict') as string,
  sessile: '; Path=/; HttpOnly',
})

/** Calls back from outside of the request, as clients with a pool of connections do. */
function pooled(session: SessionFactory) {
  const waiting: (() => void)[] = []
  const pool = setInterval(() => waiting.splice(0).forEach((callback) => callback()), 1)
  const records = known()
  const store = Object.assign(classicStore(session, records), {
    get: (id: string, callback: (error: unknown, data?: SessionData) => void) =>
      waiting.push(() => callback(null, JSON.parse(records.get(id) ?? 'null') as SessionData)),
    set: (_id: string, _data: SessionData, callback?: () => void) => waiting.push(() => callback?.()),
  })
  return { store, close: () => clearInterval(pool) }
}

fault(18, 'asynchronous context is lost behind a store that calls back from a pool', {
  async scenario(session) {
    const context = new AsyncLocalStorage<string>()
    const { store, close } = pooled(session)
    const seen: Record<string, string | undefined> = {}
    const app = appWith(session, { store }, (req, res) => {
      seen['handler'] = context.getStore()
      req.session.save(() => {
        seen['save'] = context.getStore()
        req.session.reload(() => {
          seen['reload'] = context.getStore()
          res.send('done')
        })
      })
    })
    await context.run('request 1', () => exchange(app as never, { headers: { cookie } }))
    close()
    return seen
  },
  original: { handler: undefined, save: undefined, reload: undefined },
  sessile: { handler: 'request 1', save: 'request 1', reload: 'request 1' },
})

async function answerOf(app: unknown, headers = {}): Promise<string> {
  const one = new Exchange({ headers })
  ;(app as (req: unknown, res: unknown) => void)(one.req, one.res)
  await settled()
  return one.res.writableFinished ? `${one.received.status} ${one.received.body}` : 'hangs'
}

fault(23, 'an answer is cut off when the expiry of its session cannot be renewed', {
  async scenario(session) {
    const store = classicStore(session, new Map([['id', record({ user: 'ada' })]]))
    Object.assign(store, {
      touch: (_id: string, _data: unknown, callback: (error: Error) => void) => callback(new Error('out of order')),
    })
    const app = express()
    app.set('env', 'test')
    app.use(session({ ...OPTIONS, store }))
    app.get('/', (req, res) => void res.send(`${(req.session as AnySession).user}${'!'.repeat(20_000_000)}`))
    const answer: Promise<{ text: string }> = request(app)
      .get('/')
      .set('Cookie', signedCookie('id', SECRET))
      .then((res) => res)
    return answer.then(({ text }) => text.length, String)
  },
  original: 'Error: aborted',
  sessile: 20_000_003,
})
