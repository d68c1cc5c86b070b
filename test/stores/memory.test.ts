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
const TEXT = JSON.stringify({ cookie: {} })
const withVersion = (record?: { text: string }): object | undefined => record && { ...record, version: record.text }
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

  test('a session leaves by itself, too, when it ends before all that were stored earlier', async () => {
    const store = new MemoryStore()
    await store.set('long', endingIn(DAY))
    await store.set('short', endingIn(1000))
    vi.advanceTimersByTime(60_000)
    expect(store.prune(Infinity)).toBe(0)
    expect(idsIn(store)).toEqual(['long'])
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

  test('it costs no memory per use, nor for sessions that are gone', () => {
    const program = `
      const { MemoryStore } = require(${JSON.stringify(path.join(__dirname, '../../dist'))})
      const store = new MemoryStore({ max: 100_000 })
      const end = Date.now() + 1e6
      const put = (id) => store.write(id, '{"cookie":{}}', end, 'always')
      const use = () => {
        for (let n = 0; n < 300_000; n++) {
          store.read(n % 2 ? 'a' : 'b')
          put('gone' + n)
          store.remove('gone' + n)
        }
        gc()
        return process.memoryUsage().heapUsed
      }
      for (const id of ['a', 'b']) put(id)
      const before = use()
      console.log(use() - before)`
    const grown = Number(execFileSync(process.execPath, ['--expose-gc', '-e', program], { encoding: 'utf8' }))
    // Of 300,000 uses: a word for each would be more than two million bytes.
    expect(grown).toBeLessThan(500_000)
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

  test('nor who is then logged in as somebody else', async () => {
    const store = new MemoryStore({ max: 3 })
    await fill(store, 'a')
    store.link('ada', 'a')
    store.link('grace', 'a')
    store.unlink('ada', 'a')
    await fill(store, 'bcdef')
    expect(idsIn(store)).toEqual(['a', 'e', 'f'])
    expect([store.linked('ada'), store.linked('grace')]).toEqual([[], ['a']])
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

describe("a user's sessions", () => {
  test('a link waits for its session until it ends, and leaves by itself', () => {
    const store = new MemoryStore()
    store.link('ada', 'stored', Date.now() + 1000)
    store.link('ada', 'later', Date.now() + 1000)
    store.link('ada', 'later', Date.now() + 5000)
    store.link('ada', 'later', Date.now() + 2000)
    store.link('ada', 'never', Date.now() + 1000)
    store.link('ada', 'gone', Date.now() + 1000)
    store.write('stored', TEXT, Date.now() + DAY, 'absent')
    store.write('gone', TEXT, Date.now() + DAY, 'absent')
    store.remove('gone')
    vi.advanceTimersByTime(4000)
    expect(store.linked('ada')).toEqual(['stored', 'later'])
    vi.advanceTimersByTime(60_000)
    expect(store.linked('ada')).toEqual(['stored'])
    store.unlink('ada', 'stored')
    store.link('ada', 'never', Date.now() + 1000)
    store.unlink('ada', 'never')
    expect(store.linked('ada')).toEqual([])
    vi.advanceTimersByTime(DAY)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('a session that is stored as its link ends keeps it, though room is made for it', () => {
    const store = new MemoryStore({ max: 1 })
    store.write('other', TEXT, Date.now() + DAY, 'absent')
    store.link('ada', 'a', Date.now())
    store.write('a', TEXT, Date.now() + DAY, 'absent')
    store.prune(Infinity)
    expect(store.linked('ada')).toEqual(['a'])
  })
})

/** What a store with a bound has to do, told as simply as can be: sessions stand in the order of their last use. */
class Model {
  readonly sessions = new Map<string, { text: string; expires: number }>()
  /** Pairs: `<user> <id>`. */
  readonly links = new Set<string>()
  readonly linkedUntil = new Map<string, number>()

  constructor(readonly max: number) {}

  use(id: string): { text: string; expires: number } | undefined {
    const found = this.sessions.get(id)
    if (!found) return undefined
    if (found.expires <= Date.now()) return void this.end(id)
    this.sessions.delete(id)
    this.sessions.set(id, found)
    return found
  }

  end(id: string): void {
    this.sessions.delete(id)
    for (const link of this.linksOf(id)) this.links.delete(link)
  }

  linksOf(id: string): string[] {
    return [...this.links].filter((link) => link.endsWith(` ${id}`))
  }

  write(id: string, text: string, expires: number, condition: 'always' | 'absent' | 'present'): boolean {
    const found = this.use(id)
    if (condition === (found ? 'absent' : 'present')) return false
    if (expires <= Date.now()) {
      if (found) this.end(id)
      return true
    }
    if (!found) this.makeRoom()
    this.sessions.set(id, { text, expires })
    return true
  }

  makeRoom(): void {
    const live = (): string[] => [...this.sessions].flatMap(([id, { expires }]) => (expires > Date.now() ? [id] : []))
    while (live().length >= this.max)
      this.end(live().find((id) => this.linksOf(id).length === 0) ?? (live()[0] as string))
  }

  renew(id: string, expires: number): boolean {
    const found = this.use(id)
    if (found) found.expires = expires
    return found !== undefined
  }

  remove(id: string): boolean {
    const found = this.use(id)
    if (found) this.end(id)
    return found !== undefined
  }

  link(user: string, id: string, expires: number): void {
    const found = this.use(id)
    const isWaiting = !found && this.linksOf(id).length > 0
    this.links.add(`${user} ${id}`)
    this.linkedUntil.set(id, Math.max(expires, isWaiting ? (this.linkedUntil.get(id) as number) : 0))
  }

  unlink(user: string, id: string): void {
    if (this.links.delete(`${user} ${id}`)) this.use(id)
  }

  linked(user: string): string[] {
    return [...this.links].flatMap((link) => (link.startsWith(`${user} `) ? [link.slice(user.length + 1)] : []))
  }

  prune(): void {
    for (const [id, { expires }] of this.sessions) if (expires <= Date.now()) this.end(id)
    for (const id of new Set([...this.links].map((link) => link.slice(link.indexOf(' ') + 1)))) {
      if (!this.sessions.has(id) && (this.linkedUntil.get(id) as number) <= Date.now()) this.end(id)
    }
  }
}

describe('whatever is done, in whatever order', () => {
  test.each(Array.from({ length: 50 }, (_, seed) => seed))('seed %i', (seed) => {
    let state = seed
    const below = (n: number): number => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff
      return (state >> 8) % n
    }
    const max = 1 + below(6)
    const store = new MemoryStore({ max })
    const model = new Model(max)
    for (let step = 0; step < 200; step++) {
      const [id, user, end] = [`s${below(9)}`, `u${below(3)}`, Date.now() + 1000 * below(300)]
      const text = JSON.stringify({ cookie: {}, step })
      const condition = (['always', 'absent', 'present'] as const)[below(3)] as 'always'
      const steps = [
        () => expect(store.write(id, text, end, condition) !== null).toBe(model.write(id, text, end, condition)),
        () => expect(store.read(id) ?? undefined).toEqual(withVersion(model.use(id))),
        () => expect(store.renew(id, end)).toBe(model.renew(id, end)),
        () => expect(store.remove(id)).toBe(model.remove(id)),
        () => [store, model].forEach((either) => either.link(user, id, end + 1000)),
        () => [store, model].forEach((either) => either.unlink(user, id)),
        () => {
          vi.advanceTimersByTime(1000 * below(40))
          store.prune(Infinity)
          model.prune()
          for (const u of ['u0', 'u1', 'u2']) expect(store.linked(u).sort()).toEqual(model.linked(u).sort())
          expect(store.count()).toBe(model.sessions.size)
        },
      ]
      steps[Math.max(0, below(steps.length + 3) - 3)]?.()
      const live = [...model.sessions].filter(([, { expires }]) => expires > Date.now())
      expect(
        store
          .scan(null, Infinity)
          .records.map((record) => record.id)
          .sort(),
      ).toEqual(live.map(([id]) => id).sort())
    }
    vi.advanceTimersByTime(400_000)
    expect(vi.getTimerCount()).toBe(0)
    expect([store.prune(Infinity), store.count()]).toEqual([0, 0])
  })
})
