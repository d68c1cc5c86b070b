import { execFileSync } from 'node:child_process'
import path from 'node:path'
import express from 'express'
import request from 'supertest'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import session, { MemoryStore } from '../../src'

const DAY = 86_400_000
const FIRST = Date.parse('2026-01-01T00:00:00Z')

interface Session {
  cookie: { expires?: Date | null; originalMaxAge?: number | null }
  [key: string]: unknown
}

/** The clock stands still, but for what a test advances it by. */
beforeEach(() => void vi.useFakeTimers({ now: FIRST, toFake: ['Date', 'setTimeout', 'clearTimeout'] }))
afterEach(() => vi.useRealTimers())

const endingIn = (ms: number, data: object = {}): never =>
  ({ cookie: { originalMaxAge: ms, expires: new Date(Date.now() + ms) }, ...data }) as never
const endless = (data: object = {}): never => ({ cookie: {}, ...data }) as never
const idsIn = (store: MemoryStore): string[] => Object.keys(store.sessions).sort()

async function fill(store: MemoryStore, ids: string, ms = DAY): Promise<void> {
  for (const id of ids) {
    await store.set(id, endingIn(ms))
    vi.advanceTimersByTime(1)
  }
}

describe('copies', () => {
  test('what is changed after set is not stored, and what get gave can be changed', async () => {
    const store = new MemoryStore()
    const given: Session = { cookie: {}, cart: ['shirt'] }
    await store.set('a', given as never)
    ;(given['cart'] as string[]).push('hat')
    const got = (await store.get('a')) as unknown as Session
    expect(got['cart']).toEqual(['shirt'])
    ;(got['cart'] as string[]).push('coat')
    expect(await store.get('a')).toMatchObject({ cart: ['shirt'] })
  })
})

describe('lifetimes', () => {
  test('a session ends when its cookie does, and leaves by itself', async () => {
    const store = new MemoryStore()
    await store.set('short', endingIn(5000))
    await store.set('long', endingIn(60_000))
    vi.advanceTimersByTime(4999)
    expect(await store.get('short')).toBeDefined()
    vi.advanceTimersByTime(1)
    expect(await store.get('short')).toBeUndefined()
    vi.advanceTimersByTime(120_000)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('many leave in steps, and no timer is left when all are gone', async () => {
    const store = new MemoryStore()
    for (let n = 0; n < 2000; n++) await store.set(`${n}`, endingIn(1000))
    vi.advanceTimersByTime(1000)
    expect(vi.getTimerCount()).toBe(1)
    vi.advanceTimersByTime(10)
    expect(vi.getTimerCount()).toBe(0)
    expect(await store.length()).toBe(0)
  })

  test('without an expiry it lives for a day, and touch renews that', async () => {
    const store = new MemoryStore()
    await store.set('kept', endless())
    await store.set('left', endless())
    vi.advanceTimersByTime(DAY - 1)
    await store.touch('kept', endless())
    expect(idsIn(store)).toEqual(['kept', 'left'])
    vi.advanceTimersByTime(1)
    expect(idsIn(store)).toEqual(['kept'])
    vi.advanceTimersByTime(DAY - 1)
    expect(idsIn(store)).toEqual([])
  })

  test('ttl says how long instead', async () => {
    const store = new MemoryStore({ ttl: 1000 })
    await store.set('a', endless())
    vi.advanceTimersByTime(999)
    expect(idsIn(store)).toEqual(['a'])
    vi.advanceTimersByTime(1)
    expect(idsIn(store)).toEqual([])
  })

  test('touch moves the end and leaves the data; a session that is gone it does not bring back', async () => {
    const store = new MemoryStore()
    await store.set('a', endingIn(1000, { n: 1 }))
    await store.touch('a', endingIn(5000, { n: 2 }))
    await store.touch('b', endingIn(5000))
    vi.advanceTimersByTime(4999)
    expect(await store.get('a')).toMatchObject({ n: 1 })
    expect(idsIn(store)).toEqual(['a'])
    vi.advanceTimersByTime(1)
    expect(idsIn(store)).toEqual([])
  })

  test('its timer keeps no process alive', () => {
    const program = `const { MemoryStore } = require(${JSON.stringify(path.resolve('dist'))})
      new MemoryStore().set('a', { cookie: { expires: new Date(Date.now() + 3_600_000) } })
      process.on('exit', () => console.log('ended'))`
    expect(execFileSync(process.execPath, ['-e', program], { encoding: 'utf8', timeout: 20_000 })).toBe('ended\n')
  })
})

describe('all, length and clear', () => {
  test('tell of what lives, and delete all of it', async () => {
    const store = new MemoryStore()
    await store.set('a', endingIn(1000, { n: 1 }))
    await store.set('b', endingIn(2000, { n: 2 }))
    expect(await store.all()).toMatchObject({ a: { n: 1 }, b: { n: 2 } })
    vi.advanceTimersByTime(1000)
    expect(await store.all()).toEqual({ b: expect.objectContaining({ n: 2 }) as unknown })
    expect(await store.length()).toBe(1)
    await store.clear()
    expect(await store.length()).toBe(0)
    await store.set('c', endless())
    expect(idsIn(store)).toEqual(['c'])
  })
})

describe('max', () => {
  test('there is no bound unless it is set', async () => {
    const store = new MemoryStore()
    for (let n = 0; n < 20_000; n++) await store.set(`${n}`, endless())
    expect(await store.length()).toBe(20_000)
  })

  test('when it is reached, the one used longest ago goes: set, get and touch are uses', async () => {
    const store = new MemoryStore({ max: 4 })
    await fill(store, 'abcd')
    await store.get('a')
    await store.touch('b', endless())
    await store.set('c', endless())
    await fill(store, 'e')
    expect(idsIn(store)).toEqual(['a', 'b', 'c', 'e'])
    await fill(store, 'fgh')
    expect(idsIn(store)).toEqual(['e', 'f', 'g', 'h'])
  })

  test('expired ones go before any that lives, however recently they were used', async () => {
    const store = new MemoryStore({ max: 3 })
    await fill(store, 'ab')
    await fill(store, 'x', 100)
    await store.get('x')
    vi.setSystemTime(Date.now() + 200)
    await fill(store, 'c')
    expect(idsIn(store)).toEqual(['a', 'b', 'c'])
  })

  test('those without a user go before those of users, the oldest of either first', async () => {
    const store = new MemoryStore({ max: 4 })
    await fill(store, 'abcd')
    store.link('ada', 'a')
    store.link('grace', 'c')
    await fill(store, 'e')
    expect(idsIn(store)).toEqual(['a', 'c', 'd', 'e'])
    await fill(store, 'f')
    expect(idsIn(store)).toEqual(['a', 'c', 'e', 'f'])
    store.link('ada', 'e')
    store.link('ada', 'f')
    await fill(store, 'g')
    expect(idsIn(store)).toEqual(['c', 'e', 'f', 'g'])
    store.unlink('grace', 'c')
    await store.get('g')
    await fill(store, 'h')
    expect(idsIn(store)).toEqual(['e', 'f', 'g', 'h'])
  })

  test('a flood of new visitors does not push out who is logged in', async () => {
    vi.useRealTimers()
    const app = express()
    const user = (data: object): string | undefined => (data as { user?: string }).user
    const secret = 'a secret that is long enough for this'
    app.use(session({ secret, resave: false, saveUninitialized: true, store: new MemoryStore({ max: 10 }), user }))
    app.get('/login', (req, res) => {
      Object.assign(req.session, { user: 'ada' })
      res.send('in')
    })
    app.get('/', (req, res) => res.send(user(req.session) ?? 'nobody'))
    const ada = request.agent(app)
    await ada.get('/login').expect('in')
    const visitor = request.agent(app)
    await visitor.get('/').expect('nobody')
    const [cookie = ''] = (await request(app).get('/login')).get('Set-Cookie') ?? []
    for (let n = 0; n < 30; n++) await request(app).get('/').expect('nobody')
    await ada.get('/').expect('ada')
    await request(app).get('/').set('Cookie', cookie).expect('ada')
  })

  test.each([
    [{ max: 0 }, /MemoryStore: option max must be a whole number of at least 1/],
    [{ max: NaN }, /option max/],
    [{ ttl: 0 }, /MemoryStore: option ttl must be a positive number of ms/],
    [{ ttl: '1 day' }, /option ttl/],
  ])('%o is refused', (options, message) => {
    expect(() => new MemoryStore(options as never)).toThrow(message)
  })
})
