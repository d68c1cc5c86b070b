import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import express from 'express'
import request from 'supertest'
import { afterEach, describe, expect, test, vi } from 'vitest'
import session, { MemoryStore, type SessionOptions } from '../../src'
import { appWithSessions } from '../faults/fault'
import { visitAndSettle, type Jar } from '../support/browser'
import { signedCookie } from '../support/set-cookie'

const secret = 'a secret that is long enough for these tests'
const NAMES = [
  'created',
  'loaded',
  'saved',
  'renewed',
  'destroyed',
  'expired',
  'staleId',
  'conflict',
  'invalid',
  'storeError',
] as const

const cleanUps: (() => void)[] = []
afterEach(() => {
  for (const cleanUp of cleanUps.splice(0)) cleanUp()
  vi.useRealTimers()
})

type Told = [name: string, event: object]

function appWith(options: SessionOptions = {}) {
  const store = new MemoryStore()
  const sessions = session({ secret, store, resave: false, saveUninitialized: false, ...options })
  const emitted: Told[] = []
  const published: Told[] = []
  for (const name of NAMES) {
    sessions.events.on(name, (event: object) => emitted.push([name, event]))
    const listener = (event: unknown): void => void published.push([name, event as object])
    subscribe(`sessile:${name}`, listener)
    cleanUps.push(() => unsubscribe(`sessile:${name}`, listener))
  }
  const { app, agent } = appOf(sessions)
  return {
    agent,
    app,
    sessions,
    store,
    /** What was told since, and that the channels tell the same as the emitter. */
    told(): Told[] {
      expect(published.splice(0)).toEqual(emitted)
      return emitted.splice(0)
    },
  }
}

function appOf(sessions: session.Sessions) {
  const app = express()
  app.use(sessions)
  app.get('/set/:key', async (req, res) => {
    Object.assign(req.session, { [req.params.key]: 1 })
    if (req.query['by'])
      await request(app)
        .get(`/set/${req.query['by'] as string}`)
        .set('Cookie', req.get('Cookie') ?? '')
    res.send(req.sessionID)
  })
  app.get('/renew', async (req, res) => {
    await sessions.renew(req)
    res.send(req.sessionID)
  })
  app.get('/logout', async (req, res) => {
    await req.session.destroy()
    res.send('out')
  })
  app.get('/', (_req, res) => res.send('hello'))
  app.use(((_error, _req, res, _next) => void res.status(500).end()) as express.ErrorRequestHandler)
  return { app, agent: request.agent(app) }
}

describe('events: each once, on the emitter and on its channel', () => {
  test('a visit to a new session, without a change, is none', async () => {
    const { agent, told } = appWith()
    await agent.get('/')
    expect(told()).toEqual([])
  })

  test('created, saved, loaded, destroyed', async () => {
    const { agent, told } = appWith()
    const { text: id } = await agent.get('/set/a')
    expect(told()).toEqual([
      ['created', { id }],
      ['saved', { id }],
    ])
    await agent.get('/')
    expect(told()).toEqual([['loaded', { id }]])
    await agent.get('/set/b')
    expect(told()).toEqual([
      ['loaded', { id }],
      ['saved', { id }],
    ])
    await agent.get('/logout')
    expect(told()).toEqual([
      ['loaded', { id }],
      ['destroyed', { id }],
    ])
  })

  test('destroyed, for each session of a user that is ended', async () => {
    const { app, agent, sessions, told } = appWith({ user: () => 'ada' })
    const { text: one } = await agent.get('/set/a')
    const { text: other } = await request(app).get('/set/a')
    told()
    await sessions.users.endAll('ada')
    expect(told()).toEqual(expect.arrayContaining([one, other].map((id) => ['destroyed', { id }])))
    await sessions.users.endAll('ada')
    expect(told()).toEqual([])
  })

  test('renewed, and staleId when the old one is used too late', async () => {
    const { agent, app, told } = appWith({ renewalGrace: 1000 })
    const first = await agent.get('/set/a')
    const [cookie = ''] = first.get('Set-Cookie') ?? []
    const { text: id } = await agent.get('/renew')
    expect(told().slice(2)).toEqual([
      ['loaded', { id }],
      ['renewed', { id }],
      ['saved', { id }],
    ])
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2000 })
    await request(app).get('/').set('Cookie', cookie)
    expect(told()).toEqual([['staleId', { id }]])
  })

  test.each([
    ['idle', { idleTimeout: 1000 }],
    ['absolute', { absoluteTimeout: 1000 }],
  ])('expired: %s', async (reason, options) => {
    const { agent, told } = appWith(options)
    const { text: id } = await agent.get('/set/a')
    told()
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2000 })
    await agent.get('/')
    expect(told().filter(([name]) => name !== 'loaded')).toEqual([['expired', { id, reason }]])
  })

  test('conflict: the changes of two requests are merged', async () => {
    const { agent, told } = appWith()
    const { text: id } = await agent.get('/set/a')
    told()
    await agent.get('/set/b?by=c')
    expect(told().filter(([name]) => name === 'conflict')).toEqual([['conflict', { id, tries: 1, merged: true }]])
  })

  test('invalid: a record that is no session', async () => {
    const { app, store, told } = appWith({ onInvalidRecord: 'replace' })
    store.write('bad', '"text"', Date.now() + 60_000, 'always')
    await request(app).get('/').set('Cookie', signedCookie('bad', secret)).expect(200)
    expect(told()).toEqual([['invalid', { id: 'bad', error: expect.any(Error) as Error }]])
  })

  test('storeError: loading fails, and the visitor goes on without a session', async () => {
    const broken = new Error('broken')
    const { agent, store, told } = appWith({ onLoadError: 'skip' })
    await agent.get('/set/a')
    told()
    store.read = () => {
      throw broken
    }
    await agent.get('/').expect(200)
    expect(told()).toEqual([['storeError', { error: broken, id: expect.any(String) as string }]])
  })

  test.each(['error', 'skip'] as const)(
    'failure: each of the store, though the error handler has it, or nobody; with onLoadError %s',
    async (onLoadError) => {
      const store = new session.MemoryStore()
      const { app, sessions } = appWithSessions({ store, onLoadError, onSaveError: 'error' }, (req, res) => {
        if (req.session) req.session['n'] = ((req.session['n'] as number | undefined) ?? 0) + 1
        res.send('answered')
      })
      const failures: object[] = []
      sessions.events.on('failure', (failure) => failures.push(failure))
      const jar: Jar = {}
      await visitAndSettle(app, '/', jar)
      expect(failures).toEqual([])

      const away = new Error('the store is away')
      const fails = (): never => Promise.reject(away) as never
      const seen = (operation: string) => ({
        operation,
        id: expect.any(String) as string,
        error: away,
        duration: expect.any(Number) as number,
      })
      Object.assign(store, { write: fails })
      await visitAndSettle(app, '/', jar)
      await visitAndSettle(app, '/', {})
      expect(failures).toEqual([seen('save'), seen('save')])

      failures.splice(0)
      Object.assign(store, { read: fails, remove: fails })
      await visitAndSettle(app, '/', jar)
      await sessions.get('an id').catch(() => undefined)
      await sessions.destroy('an id').catch(() => undefined)
      expect(failures).toEqual([seen('load'), seen('load'), seen('destroy')])
    },
  )

  test('a listener that is taken off hears nothing; one for once hears one', async () => {
    const sessions = session({ secret, resave: false, saveUninitialized: true })
    const heard: string[] = []
    const off = (): void => void heard.push('off')
    sessions.events.on('created', off).off('created', off)
    sessions.events.once('created', () => heard.push('once'))
    const app = express()
    app.use(sessions, (_req, res) => res.send('hello'))
    for (let n = 0; n < 3; n++) await request(app).get('/')
    expect(heard).toEqual(['once'])
  })
})

describe('what becomes of a session at the end of a response, and why', () => {
  test.each([
    ['/', {}, undefined, 'none for a new session that nobody has looked at'],
    ['/set/a', {}, ['save', 'it is new and has data', 'new and changed']],
    ['/', { known: true }, ['touch', 'nobody has looked at it', undefined]],
    ['/', { known: true, rolling: true }, ['touch', 'it is stored as it is', 'rolling']],
    ['/set/b', { known: true }, ['save', 'its data has changed', undefined]],
    ['/renew', { known: true }, ['touch', 'it is stored as it is', 'new token']],
    [
      '/logout',
      { known: true },
      ['nothing', "it was destroyed by this request, or is not this client's any more", undefined],
    ],
    ['/', { saveUninitialized: true }, ['save', 'an option has each session stored', 'new']],
  ] as [string, SessionOptions & { known?: boolean }, string[] | undefined][])(
    'GET %s with %o',
    async (path, { known, ...options }, expected) => {
      const sessions = session({ secret, resave: false, saveUninitialized: false, ...options })
      const { app } = appOf(sessions)
      const agent = request.agent(app)
      if (known) await agent.get('/set/a')
      const decided: unknown[] = []
      sessions.events.on('decided', ({ action, why, cookie }) => decided.push([action, why, cookie]))
      await agent.get(path)
      expect(decided).toEqual(expected ? [expected] : [])
    },
  )
})
