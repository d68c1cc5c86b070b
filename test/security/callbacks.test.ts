import express, { type ErrorRequestHandler } from 'express'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import session from '../../src'
import { classicStore, OPTIONS, type AnySession, type Handler } from '../faults/fault'
import { caught, settled } from '../support/app'
import { visit, type Jar } from '../support/browser'

const BAD = 'a mistake of the application'

/** What is wrong with what a callback does. */
const mistakes: Record<string, () => unknown> = {
  throws: () => {
    throw new Error(BAD)
  },
  rejects: () => Promise.reject(new Error(BAD)),
  'returns a promise': () => Promise.resolve('late'),
  'returns NaN': () => NaN,
  'returns an object': () => ({ an: 'object' }),
}

const ADA = { user: 'ada', n: 1 }
const SIGNED_OUT = {}

interface Action {
  handler(sessions: session.Sessions): Handler
  /** What the session is after it. */
  done: object
  /** What else it may be when something in it has failed. */
  failed?: object
}

/** What a request does. */
const actions: Record<string, Action> = {
  read: {
    handler: () => (req, res) => res.json({ user: req.session['user'] as string, n: req.session['n'] as number }),
    done: ADA,
  },
  change: { handler: () => (req, res) => void ((req.session['n'] = 2), res.end()), done: { user: 'ada', n: 2 } },
  save: {
    handler: () => async (req, res) => {
      req.session['n'] = 2
      await req.session.save()
      res.end()
    },
    done: { user: 'ada', n: 2 },
  },
  reload: {
    handler: () => async (req, res) => {
      // The session that a client gets whose ID could not be read is none of the store.
      if (req.session['n']) await req.session.reload()
      res.end()
    },
    done: ADA,
  },
  stream: {
    handler: () => (req, res) => {
      req.session['n'] = 2
      res.write('a part')
      setImmediate(() => res.end())
    },
    done: { user: 'ada', n: 2 },
  },
  'log in': {
    handler: (sessions) => async (req, res) => {
      await sessions.login(req, { user: 'ada', n: 2 } as never)
      res.end()
    },
    done: { user: 'ada', n: 2 },
    failed: SIGNED_OUT,
  },
  'log out': {
    handler: (sessions) => async (req, res) => {
      await sessions.logout(req)
      res.end()
    },
    done: SIGNED_OUT,
  },
  renew: {
    handler: (sessions) => async (req, res) => {
      req.session['n'] = 2
      await sessions.renew(req)
      res.end()
    },
    done: { user: 'ada', n: 2 },
  },
  update: {
    handler: (sessions) => async (req, res) => {
      await sessions.update(req, (data) => void Object.assign(data, { n: 2 }))
      res.end()
    },
    done: { user: 'ada', n: 2 },
  },
  'change the user': {
    handler: () => (req, res) => {
      Object.assign(req.session, { user: 'bob', n: 2 })
      res.end()
    },
    done: { user: 'bob', n: 2 },
  },
}

/** Where callbacks of the application are called; `wrap` makes one that makes a mistake when the test says so. */
type Wrap = <A extends unknown[], R>(good: (...args: A) => R) => (...args: A) => R
interface Callback {
  options(wrap: Wrap): session.SessionOptions
  /** What is no mistake of this one. */
  may?: string[]
  /** What this one is tried with, if not with all. */
  tried?: string[]
  /** Whether the client cannot be told its session when this fails. */
  lost?: boolean
}
const user = (data: object): string => (data as AnySession)['user'] as string
const memory = (change: (store: session.MemoryStore) => void): session.MemoryStore => {
  const store = new session.MemoryStore()
  change(store)
  return store
}
const callbacks: Record<string, Callback> = {
  cookie: {
    options: (wrap) => ({ cookie: wrap(() => ({ maxAge: 60_000 })) }),
    may: ['returns an object', 'returns NaN'],
  },
  skip: { options: (wrap) => ({ skip: wrap(() => false) }), may: ['returns an object', 'returns NaN'] },
  genid: { options: (wrap) => ({ genid: wrap(() => `id-${Math.random()}`) }), may: ['returns a promise'] },
  user: { options: (wrap) => ({ user: wrap(user) }) },
  describe: {
    options: (wrap) => ({ user, describe: wrap(() => 'a browser') }),
    may: ['returns NaN', 'returns an object'],
  },
  'transport.read': {
    options: (wrap) => ({
      transport: {
        read: wrap((req) => /sid=([^;]*)/.exec(req.headers.cookie ?? '')?.[1]),
        write: (_req, res, id) => void res.setHeader('Set-Cookie', `sid=${id}`),
      },
    }),
    // The client may have sent something else.
    may: ['returns NaN', 'returns an object'],
  },
  'transport.write': {
    options: (wrap) => ({
      transport: {
        read: (req) => /sid=([^;]*)/.exec(req.headers.cookie ?? '')?.[1],
        write: wrap((_req, res, id) => void res.setHeader('Set-Cookie', `sid=${id}`)),
      },
    }),
    may: ['returns a promise', 'returns NaN', 'returns an object'],
    lost: true,
  },
  'serializer.stringify': {
    options: (wrap) => ({
      store: memory((store) => (store.serializer = { stringify: wrap(JSON.stringify), parse: JSON.parse })),
    }),
  },
  'serializer.parse': {
    options: (wrap) => ({
      store: memory((store) => (store.serializer = { stringify: JSON.stringify, parse: wrap(JSON.parse) })),
    }),
  },
}

const FAILS = ['throws', 'rejects']
for (const method of ['get', 'set', 'destroy', 'touch'] as const) {
  callbacks[`${method} of a classic store`] = {
    options: (wrap) => {
      const touch = (_id: string, _data: object, done: () => void): void => done()
      const store = Object.assign(classicStore(session), { touch })
      return { store: Object.assign(store, { [method]: wrap(store[method].bind(store) as never) }) }
    },
    tried: FAILS,
  }
}
for (const method of ['read', 'write', 'renew', 'remove', 'link', 'unlink', 'linked'] as const) {
  callbacks[`${method} of a record store`] = {
    options: (wrap) => ({
      user,
      maxSessionsPerUser: 2,
      store: memory((store) => Object.assign(store, { [method]: wrap(store[method].bind(store) as never) })),
    }),
    tried: FAILS,
  }
}

const unhandled: unknown[] = []
const note = (error: unknown): void => void unhandled.push(error)
beforeAll(() => void process.on('unhandledRejection', note).on('uncaughtException', note))
afterAll(() => void process.off('unhandledRejection', note).off('uncaughtException', note))
beforeEach(() => void unhandled.splice(0))

/** An app that does what the URL says, and what it was told of. */
function appFor({ options }: Callback, mistake: () => unknown) {
  const state = { isWrong: false, calls: 0 }
  const wrap: Wrap =
    (good) =>
    (...args) => {
      if (!state.isWrong) return good(...args)
      state.calls++
      return mistake() as ReturnType<typeof good>
    }
  const sessions = session({ ...OPTIONS, hints: false, ...options(wrap) })
  const told: unknown[] = []
  sessions.events.on('storeError', ({ error }) => told.push(error))
  const app = express()
  app.use(sessions, (req, res, next) => void (req.session ? next() : res.end()))
  app.get(
    '/start',
    caught(async (req, res) => {
      await sessions.login(req, ADA as never)
      res.end()
    }),
  )
  for (const [name, { handler }] of Object.entries(actions)) {
    app.get(`/${encodeURIComponent(name)}`, caught(handler(sessions) as never))
  }
  app.use(((error: Error, _req, res, _next) => {
    told.push(error)
    if (!res.writableEnded) res.status(500).end()
  }) as ErrorRequestHandler)
  return { app, state, told }
}

describe.each(Object.keys(callbacks))('the callback %s', (name) => {
  const callback = callbacks[name]!
  const { lost = false, may = [], tried } = callback
  describe.each(tried ?? Object.keys(mistakes))('%s', (mistake) => {
    test.each(Object.keys(actions))(
      'in a request that would %s: that is told, once, and nothing is half done',
      async (action) => {
        const { app, state, told } = appFor(callback, mistakes[mistake]!)
        const jar: Jar = {}
        const session = async (): Promise<unknown> => JSON.parse((await visit(app, '/read', jar)).body) as unknown
        await visit(app, '/start', jar)
        expect({ told, session: await session() }).toEqual({ told: [], session: ADA })

        state.isWrong = true
        await visit(app, `/${encodeURIComponent(action)}`, jar)
        await settled()
        state.isWrong = false
        expect(unhandled).toEqual([])
        const isWrong = state.calls > 0 && !may.includes(mistake)
        // A save that fails may be tried again at the end of the response, and fail again.
        if (isWrong && tried) expect(told.length >= 1 && told.length <= state.calls).toBe(true)
        else expect(told).toHaveLength(isWrong ? 1 : 0)
        const { done, failed } = actions[action]!
        // What is no mistake means something else: that there is no session, or that the client has another one.
        if (isWrong) expect([ADA, done, failed, lost && SIGNED_OUT]).toContainEqual(await session())
        else if (state.calls === 0) expect(await session()).toEqual(done)

        told.splice(0)
        await visit(app, '/start', jar)
        expect({ told, session: await session() }).toEqual({ told: [], session: ADA })
      },
    )
  })
})
