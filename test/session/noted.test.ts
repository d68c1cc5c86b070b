import { inspect } from 'node:util'
import { serialize, deserialize } from 'node:v8'
import lodash from 'lodash'
import { describe, expect, test } from 'vitest'
import session, { Cookie, MemoryStore, type SessionData } from '../../src'
import { notedOf } from '../../src/session/noted'
import { notingSession } from '../../src/session/session'
import { serializeData } from '../../src/session/text'
import { appWithSessions, type AnySession } from '../faults/fault'
import { gate } from '../support/app'
import { visitAndSettle, type Jar } from '../support/browser'

/** A session as a request of a record store has it. */
function noting(data: object = { user: 'ada', cart: [1, 2] }): AnySession {
  const store = new MemoryStore()
  const req = { sessionID: 'id', sessionStore: store } as never
  const owner = {} as never
  return notingSession(req, { ...data }, new Cookie(), owner, 'id')
}

/** Which of these keys of a session count as looked at after an application has done something with it. */
function looksOf(action: (one: AnySession) => unknown, data?: object): string[] {
  const one = noting(data)
  action(one)
  return ['user', 'cart', 'absent'].filter((key) => notedOf(one)?.hasLookedAt(key))
}

/** Passport copies what `for in` shows of the old session into the new one. */
function merge(to: AnySession, from: AnySession): AnySession {
  for (const key in from) to[key] = from[key]
  return to
}

const ALL = ['user', 'cart', 'absent']

describe('what people do with a session', () => {
  const data = { user: 'ada', cart: [1, 2] }

  test('it is an object with the data, the cookie and nothing else', () => {
    const one = noting()
    expect(Object.keys(one)).toEqual(['cookie', 'user', 'cart'])
    expect(Object.values(one).slice(1)).toEqual(['ada', [1, 2]])
    expect(Object.getOwnPropertySymbols(one)).toEqual([])
    const keys = []
    for (const key in one) keys.push(key)
    expect(keys).toEqual(['cookie', 'user', 'cart'])
    expect('user' in one && 'save' in one && !('absent' in one)).toBe(true)
    expect(Object.hasOwn(one, 'user') && !Object.hasOwn(one, 'absent')).toBe(true)
    expect(one).toBeInstanceOf(session.Session)
  })

  test('it is copied by all the ways there are', () => {
    const one = noting()
    const { cookie, ...rest } = one
    expect(cookie).toBe(one.cookie)
    expect(rest).toEqual(data)
    expect({ ...one }).toEqual({ cookie: one.cookie, ...data })
    expect(Object.assign({}, one)).toMatchObject(data)
    expect(Object.fromEntries(Object.entries(one))).toMatchObject(data)
    expect(lodash.clone(one)).toMatchObject(data)
    expect(lodash.cloneDeep(one)).toMatchObject(data)
    expect(lodash.pick(one, 'user')).toEqual({ user: 'ada' })
    expect(lodash.omit(one, 'cookie')).toMatchObject(data)
    expect(merge({} as AnySession, one)).toMatchObject(data)
    expect(JSON.parse(JSON.stringify(one))).toMatchObject(data)
    expect(structuredClone(one)).toMatchObject(data)
    expect(deserialize(serialize(one))).toMatchObject(data)
  })

  test('what is put there is what one gets back, and changes inside of it are changes', () => {
    const one = noting()
    const list: unknown[] = []
    one['list'] = list
    expect(one['list']).toBe(list)
    list.push(1)
    expect(JSON.parse(JSON.stringify(one))).toMatchObject({ list: [1] })
    expect(one['cart']).toBe(one['cart'])
  })

  test('keys are deleted, and set again', () => {
    const one = noting()
    delete one['user']
    expect(Reflect.deleteProperty(one, 'absent')).toBe(true)
    expect([one['user'], 'user' in one, Object.keys(one)]).toEqual([undefined, false, ['cookie', 'cart']])
    one['user'] = 'bob'
    expect([one['user'], Object.keys(one)]).toEqual(['bob', ['cookie', 'cart', 'user']])
  })

  test('keys are defined as properties, of any name', () => {
    const one = noting()
    Object.defineProperty(one, 'hidden', { value: 1, enumerable: false, configurable: true })
    Object.defineProperty(one, 'shown', { value: 2, enumerable: true, configurable: true, writable: true })
    one['constructor '] = 3
    one['0'] = 4
    expect(JSON.parse(JSON.stringify(one))).toMatchObject({ shown: 2, 'constructor ': 3, 0: 4 })
    expect(JSON.stringify(one)).not.toContain('hidden')
  })

  test('console.log shows what is in it, under its name, as of an express-session', () => {
    const one = noting({ user: 'ada' })
    expect(inspect(one)).toMatch(/^Session \{\n {2}cookie: Cookie \{[^}]*\},\n {2}user: 'ada'\n\}$/)
    expect(inspect({ one }, { depth: 0 })).toContain('[Session]')
  })

  test('an object that inherits from it reads its keys, and has its own', () => {
    const one = noting()
    const heir = Object.create(one) as AnySession
    heir['user'] = 'bob'
    expect([heir['user'], heir['cart'], one['user']]).toEqual(['bob', [1, 2], 'ada'])
  })

  test('a frozen one stays as it is', () => {
    const one = noting()
    Object.freeze(one)
    expect(() => (one['absent'] = 1)).toThrow(TypeError)
    expect(one['user']).toBe('ada')
  })
})

describe('what is stored of it is what JSON makes of it, without the cookie', () => {
  const odd: Record<string, (one: AnySession) => unknown> = {
    nothing: () => undefined,
    'a key is set': (one) => (one['user'] = 'bob'),
    'a key is deleted': (one) => delete one['user'],
    'the last key is deleted': (one) => delete one['cart'],
    'a key is deleted, and set again': (one) => delete one['user'] && (one['user'] = 'eve'),
    'a key is defined anew': (one) =>
      Object.defineProperty(one, 'user', { value: 'eve', enumerable: true, configurable: true, writable: true }),
    'a key is hidden': (one) => Object.defineProperty(one, 'user', { enumerable: false }),
    'a key is added behind': (one) => (one['last'] = { deep: [1] }),
    'a key is defined behind': (one) => Object.defineProperty(one, 'last', { value: 3, enumerable: true }),
    'the cookie is deleted': (one) => delete (one as { cookie?: unknown }).cookie,
    'another cookie is put behind': (one) => {
      delete (one as { cookie?: unknown }).cookie
      one.cookie = new Cookie()
    },
    'it has a toJSON of its own': (one) => Object.defineProperty(one, 'toJSON', { value: () => ({ user: 'shown' }) }),
    'a value is undefined': (one) => (one['user'] = undefined),
    'a value is a function': (one) => (one['user'] = () => 1),
  }
  test.each(Object.entries(odd))('%s', (_, action) => {
    const one = noting()
    action(one)
    const { cookie: _cookie, ...shown } = JSON.parse(JSON.stringify(one)) as { cookie?: unknown }
    expect(JSON.parse(serializeData(one, JSON))).toEqual(shown)
  })

  test('a toJSON that all sessions have', () => {
    const { prototype } = session.Session as unknown as { prototype: { toJSON?: () => object } }
    prototype.toJSON = () => ({ user: 'shown' })
    try {
      expect(serializeData(noting(), JSON)).toBe('{"user":"shown"}')
    } finally {
      delete prototype.toJSON
    }
    expect(serializeData(noting(), JSON)).toBe('{"user":"ada","cart":[1,2]}')
  })

  test('to make that text is no look at anything', () => {
    const one = noting()
    serializeData(one, JSON)
    expect(['user', 'cart', 'absent'].some((key) => notedOf(one)?.hasLookedAt(key))).toBe(false)
  })
})

describe('what counts as a look', () => {
  test.each<[string, (one: AnySession) => unknown, string[]]>([
    ['nothing', () => undefined, []],
    ['reading a key', (one) => one['user'], ['user']],
    ['reading a key that is not there', (one) => one['absent'], ['absent']],
    ['destructuring', ({ cart }) => cart, ['cart']],
    ['asking for a key that is not there by in', (one) => 'absent' in one, ['absent']],
    ['reading through an object that inherits from it', (one) => (Object.create(one) as AnySession)['user'], ['user']],
    ['asking by hasOwnProperty', (one) => Object.prototype.hasOwnProperty.call(one, 'user'), []],
    ['assigning', (one) => (one['user'] = 'bob'), []],
    ['deleting', (one) => delete one['user'], []],
    ['the cookie and its settings', (one) => (one.cookie.maxAge = 1000), []],
    ['a key, then the cookie', (one) => [one['user'], one.cookie], ['user']],
    ['the cookie, then a key', (one) => [one.cookie, one['user']], ['user']],
    ['the cookie, then the keys in another order', (one) => [one.cookie, one['cart'], one['user']], ['user', 'cart']],
    ['its ID and its methods', (one) => [one.id, one.save, one.touch()], []],
    ['console.log', (one) => inspect(one), []],
    ['its JSON', (one) => JSON.stringify(one), ALL],
    ['a copy by spreading', (one) => ({ ...one }), ALL],
    ['a copy by Object.assign', (one) => Object.assign({}, one), ALL],
    ['a copy by Object.entries', (one) => Object.entries(one), ALL],
    ['a copy without the cookie', ({ cookie: _, ...rest }) => rest, ALL],
    ['a copy of what is left beside a key', ({ user: _u, cookie: _c, ...rest }) => rest, ALL],
    ['a copy by structuredClone', (one) => structuredClone(one), ALL],
    ["lodash's clone", (one) => lodash.clone(one), ALL],
    ["Passport's copy", (one) => merge({} as AnySession, one), ALL],
    ['its own hasOwnProperty', (one) => Reflect.get(one, 'hasOwnProperty').call(one, 'user'), ALL],
  ])('%s', (_, action, looks) => {
    expect(looksOf(action)).toEqual(looks)
  })

  test('a copy of a session that has only a cookie is one of everything', () => {
    expect(looksOf((one) => ({ ...one }), {})).toEqual(ALL)
  })

  test('for in and in, which are not told of which session, count for each session of that time and no later one', () => {
    const [one, other] = [noting(), noting()]
    expect('absent' in one).toBe(false)
    const later = noting()
    expect([one, other, later].map((each) => notedOf(each)?.hasLookedAt('absent'))).toEqual([true, true, false])
  })

  test('thousands of names that clients choose are not remembered one by one', () => {
    const one = noting()
    for (let n = 0; n < 5000; n++) void (`name${n}` in one)
    expect(notedOf(one)?.hasLookedAt('name1')).toBe(true)
    expect(notedOf(one)?.hasLookedAt('anything')).toBe(true)
  })
})

describe('the settings of the cookie in two requests at once', () => {
  const HOUR = 3_600_000
  const MONTH = 720 * HOUR

  /** What is stored when a request has loaded the session, another one changes it, and then the first one does. */
  async function after(first: (one: AnySession) => unknown, second: (one: AnySession) => unknown) {
    const store = new MemoryStore()
    const { app } = appWithSessions({ store, cookie: { maxAge: HOUR } }, async (req, res) => {
      const { session: one } = req
      if (req.url === '/login') one['user'] = 'ada'
      if (req.url === '/first') {
        one['first'] = true
        first(one)
      }
      if (req.url === '/second') {
        void one['user']
        arrived.open()
        await mayGoOn.opened
        one['second'] = true
        second(one)
      }
      res.send('done')
    })
    const [arrived, mayGoOn] = [gate(), gate()]
    const jar: Jar = {}
    await visitAndSettle(app, '/login', jar)
    const late = visitAndSettle(app, '/second', jar)
    await arrived.opened
    await visitAndSettle(app, '/first', { ...jar })
    mayGoOn.open()
    expect((await late).status).toBe(200)
    const { cookie, ...stored } = JSON.parse(Object.values(store.sessions)[0] ?? '') as SessionData
    expect(stored).toEqual({ user: 'ada', first: true, second: true })
    return { ...cookie, hours: Math.round((Date.parse(String(cookie.expires)) - Date.now()) / HOUR) }
  }
  const remember = (one: AnySession): number => (one.cookie.maxAge = MONTH)

  test('what the first changed, the second keeps', async () => {
    expect(await after(remember, () => undefined)).toMatchObject({ originalMaxAge: MONTH, hours: 720 })
  })
  test('what the second changed, stays', async () => {
    expect(await after(() => undefined, remember)).toMatchObject({ originalMaxAge: MONTH, hours: 720 })
    expect(await after(remember, (one) => (one.cookie.maxAge = 2 * HOUR))).toMatchObject({ hours: 2 })
  })
})
