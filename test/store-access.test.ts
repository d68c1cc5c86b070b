import { EventEmitter } from 'node:events'
import { describe, expect, test, vi } from 'vitest'
import session, { MemoryStore, type RecordStore, type SessionData, type WriteCondition } from '../src'
import { serializeData } from '../src/session/text'
import { restoreCookie } from '../src/session/cookie'
import { SessionEvents } from '../src/features/events/events'
import { storeAccess, type AccessSettings, type Stored } from '../src/store/store-access'
import { classicStore } from './faults/fault'
import { settled } from './support/app'

const settings = (changes: Partial<AccessSettings> = {}): AccessSettings => ({
  conflict: 'merge',
  timeout: 0,
  ttl: 86_400_000,
  touchAfter: 0,
  renewalTimeout: 0,
  renewalGrace: 0,
  events: new SessionEvents(),
  ...changes,
})

function sessionOf(id: string, data: object = {}): session.Session & SessionData {
  const store = new MemoryStore()
  return store.createSession({ sessionID: id, sessionStore: store } as never, { cookie: {}, ...data } as never)
}

const textOf = (one: object): string => serializeData(one, JSON)

/** A memory store in which another process changes every session right before it is written. */
class Contested extends MemoryStore {
  writes = 0
  constructor(readonly times: number) {
    super()
  }
  override write(id: string, text: string, expires: number, condition: WriteCondition): string | null {
    if (typeof condition === 'object' && this.writes++ < this.times) {
      const theirs = JSON.parse(super.read(id)?.text ?? '{}') as { others?: number }
      super.write(id, JSON.stringify({ ...theirs, others: (theirs.others ?? 0) + 1 }), expires, 'always')
    }
    return super.write(id, text, expires, condition)
  }
}

async function contested(store: RecordStore, times: Partial<AccessSettings> = {}) {
  const access = storeAccess(store, settings(times))()
  await access.save(sessionOf('a', { mine: 0 }), '{"mine":0}', null)
  const from = (await access.load('a')) as Stored
  const mine = sessionOf('a', { mine: 1 })
  return { access, save: async () => access.save(mine, textOf(mine), from), mine }
}

describe('a session that others keep changing', () => {
  test('is loaded, merged and written again, until nobody was faster', async () => {
    const store = new Contested(5)
    const { save } = await contested(store)
    await save()
    expect(JSON.parse(store.sessions['a'] ?? '')).toMatchObject({ mine: 1, others: 5 })
  })

  test('and after a hundred times is given up, with an error that says so; what others wrote stays', async () => {
    const store = new Contested(Infinity)
    const { save } = await contested(store)
    await expect(save()).rejects.toMatchObject({
      code: 'ERR_SESSION_CONFLICT',
      message: 'session a… could not be saved: other requests changed it before each of 100 tries',
    })
    expect(JSON.parse(store.sessions['a'] ?? '')).toMatchObject({ mine: 0, others: 101 })
  })

  test('is overwritten, where the option says so', async () => {
    const store = new Contested(Infinity)
    const { save } = await contested(store, { conflict: 'overwrite' })
    store.sessions['a'] = '{"cookie":{},"others":1}'
    await save()
    expect(JSON.parse(store.sessions['a'] ?? '')).not.toHaveProperty('others')
  })

  test('is not written when it was destroyed meanwhile', async () => {
    const store = new MemoryStore()
    for (const conflict of ['merge', 'overwrite'] as const) {
      const { save } = await contested(store, { conflict })
      store.remove('a')
      await expect(save()).rejects.toMatchObject({ code: expect.stringMatching(/DESTROYED|TAKEN/) as string })
      expect(store.read('a')).toBeNull()
    }
  })
})

test('a new session never takes the ID of another one', async () => {
  const store = new MemoryStore()
  store.sessions['a'] = '{"cookie":{},"user":"ada"}'
  const access = storeAccess(store, settings({ genid: () => 'a' }))()
  await expect(async () => access.save(sessionOf('a'), '{}', null)).rejects.toMatchObject({
    code: 'ERR_SESSION_ID_TAKEN',
    message: expect.stringContaining('option genid') as string,
  })
  expect(store.sessions['a']).toContain('ada')
})

test('methods that are replaced on a record store are called', async () => {
  const store = new MemoryStore()
  const calls: string[] = []
  const access = storeAccess(store, settings())
  store.get = ((id: string, callback: (error: null, data: undefined) => void) => {
    calls.push(id)
    callback(null, undefined)
  }) as never
  await access().load('a')
  expect(calls).toEqual(['a'])
})

describe('classic stores', () => {
  test('a session destroyed in this process is not saved or touched again by who loaded it before', async () => {
    const store = classicStore(session as never, new Map([['a', '{"cookie":{}}']]))
    expect(store).toBeInstanceOf(EventEmitter)
    const access = storeAccess(store, settings())()
    const from = (await access.load('a')) as Stored
    await access.destroy('a')
    await expect(async () => access.save(sessionOf('a'), '{}', from)).rejects.toMatchObject({
      code: 'ERR_SESSION_DESTROYED',
    })
    await access.touch(sessionOf('a'), from)
    expect(store.records.has('a')).toBe(false)
    expect(store.calls).toEqual(['get', 'destroy'])
  })

  test('whoever writes to a session waits for those who came before', async () => {
    const order: string[] = []
    const going: (() => void)[] = []
    const method =
      (name: string) =>
      (...args: unknown[]): void => {
        order.push(name)
        going.push(args.at(-1) as () => void)
      }
    const store = Object.assign(classicStore(session as never), {
      touch: method('touch'),
      set: method('set'),
      destroy: method('destroy'),
    })
    const access = storeAccess(store, settings())()
    const one = sessionOf('a')
    const writes: unknown[] = [access.touch(one, undefined), access.save(one, '{}', undefined), access.destroy('a')]
    for (const name of ['touch', 'set', 'destroy']) {
      expect(order).toEqual([...order.slice(0, -1), name])
      going.shift()?.()
      await settled()
    }
    await Promise.all(writes)
    expect(order).toEqual(['touch', 'set', 'destroy'])
  })

  test('one whose store never answers does not keep the others for ever', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const store = Object.assign(classicStore(session as never), { touch: () => undefined })
    const access = storeAccess(store, settings())()
    void access.touch(sessionOf('a'), undefined)
    const saved = access.save(sessionOf('a'), '{}', undefined)
    await vi.advanceTimersByTimeAsync(10_000)
    vi.useRealTimers()
    await saved
    expect(store.records.has('a')).toBe(true)
  })

  test('a save under way when the session is destroyed does not bring it back', async () => {
    const store = classicStore(session as never)
    const { set } = store
    store.set = (...args) => setTimeout(() => set.apply(store, args), 5)
    const access = storeAccess(store, settings())()
    await Promise.all([access.save(sessionOf('a'), '{}', undefined), access.destroy('a')])
    expect([...store.records]).toEqual([])
  })

  test.each<[string, unknown]>([
    ['a string', 'ada'],
    ['a number', 1],
    ['an object without a cookie', {}],
    ['a cookie that is null', { cookie: null }],
  ])('%s is no session: the error begins as on express-session, and names the record', async (_, data) => {
    const store = Object.assign(classicStore(session as never), {
      get: (_id: string, callback: (error: null, data: unknown) => void) => callback(null, data),
    })
    await expect(async () => storeAccess(store, settings())().load('a')).rejects.toMatchObject({
      code: 'ERR_SESSION_INVALID_RECORD',
      message: expect.stringMatching(/^Cannot read properties of undefined .*session a… /) as string,
    })
  })

  test('ENOENT is no session', async () => {
    const store = Object.assign(classicStore(session as never), {
      get: (_id: string, callback: (error: unknown) => void) =>
        callback(Object.assign(new Error(), { code: 'ENOENT' })),
    })
    expect(await storeAccess(store, settings())().load('a')).toBeNull()
  })
})

describe('the cookie’s settings of two requests at once', () => {
  const HOUR = 3_600_000
  const MONTH = 720 * HOUR

  /** Stores a session; one request changes it, then another that had loaded it before; answers the stored cookie. */
  async function after(first: (cookie: session.Cookie) => void, second: (cookie: session.Cookie) => void) {
    const store = new MemoryStore()
    const access = storeAccess(store, settings())()
    const original = sessionOf('a', { user: 'ada' })
    original.cookie.maxAge = HOUR
    await access.save(original, textOf(original), null)
    const load = async (): Promise<[session.Session & SessionData, Stored]> => {
      const from = (await access.load('a')) as Stored
      const { cookie, ...data } = access.dataOf('a', from)
      const loaded = sessionOf('a', data)
      loaded.cookie = restoreCookie(cookie, new Date(Date.now() + HOUR))
      return [loaded, from]
    }
    const requests = [await load(), await load()] as const
    for (const [n, change] of [first, second].entries()) {
      const [loaded, from] = requests[n] as (typeof requests)[0]
      Object.assign(loaded, { [`by${n}`]: true })
      change(loaded.cookie)
      await access.save(loaded, textOf(loaded), from)
    }
    const stored = JSON.parse(store.sessions['a'] ?? '') as { cookie: { originalMaxAge: number; expires: string } }
    expect(stored).toMatchObject({ user: 'ada', by0: true, by1: true })
    return { ...stored.cookie, hours: Math.round((Date.parse(stored.cookie.expires) - Date.now()) / HOUR) }
  }
  const remember = (cookie: session.Cookie): void => void (cookie.maxAge = MONTH)
  const nothing = (): void => undefined

  test('what the first changed, the second keeps', async () => {
    expect(await after(remember, nothing)).toMatchObject({ originalMaxAge: MONTH, hours: 720 })
    expect(await after((cookie) => void (cookie.sameSite = 'strict'), nothing)).toMatchObject({ sameSite: 'strict' })
    expect(await after((cookie) => void (cookie.expires = null), nothing)).toMatchObject({ originalMaxAge: null })
  })

  test('what the second changed, stays', async () => {
    expect(await after(nothing, remember)).toMatchObject({ originalMaxAge: MONTH })
    expect(await after(remember, (cookie) => void (cookie.maxAge = 2 * HOUR))).toMatchObject({
      originalMaxAge: 2 * HOUR,
      hours: 2,
    })
  })
})
