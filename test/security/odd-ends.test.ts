import { afterEach, describe, expect, test, vi } from 'vitest'
import session from '../../src'
import { appWithSessions } from '../faults/fault'
import { visitAndSettle, type Jar } from '../support/browser'
import { onEachStore, type OpenStore } from '../support/each-store'

const SECOND = 1000
const HOUR = 3600 * SECOND
const DAY = 24 * HOUR
const LAST_DATE = 8.64e15

type Cookie = session.Cookie
type Set = (cookie: Cookie) => unknown
const maxAge =
  (value: () => unknown): Set =>
  (cookie) =>
    (cookie.maxAge = value() as number)
const expires =
  (value: () => unknown): Set =>
  (cookie) =>
    (cookie.expires = value() as Date)
const inAnHour = (): Date => new Date(Date.now() + HOUR)

/** Sessions that are there at the next request, and for how many ms from now their record is kept. */
const living: Record<string, [set: Set, lifetime: () => number]> = {
  'expires in an hour': [expires(inAnHour), () => HOUR],
  'maxAge of an hour': [maxAge(() => HOUR), () => HOUR],
  'maxAge of a part of a ms': [maxAge(() => HOUR + 0.25), () => HOUR],
  'maxAge as a Date': [maxAge(inAnHour), () => HOUR],
  'expires null': [expires(() => null), () => DAY],
  'expires false': [expires(() => false), () => DAY],
  'expires undefined': [expires(() => undefined), () => DAY],
  'expires empty': [expires(() => ''), () => DAY],
  'maxAge null': [maxAge(() => null), () => DAY],
  'maxAge undefined': [maxAge(() => undefined), () => DAY],
  // As in express-session, a number is a lifetime here: a hint tells of it.
  'expires of 3,600,000': [expires(() => HOUR), () => HOUR],
}

/** As long as the store can keep it. */
const lasting: Record<string, Set> = {
  'maxAge of ten years': maxAge(() => 3650 * DAY),
  'expires in 2105': expires(() => new Date('2105-01-01')),
  'expires in the year 9999': expires(() => new Date('9999-12-31')),
  'the last date there is': expires(() => new Date(LAST_DATE)),
}

const ended: Record<string, Set> = {
  'expires an hour ago': expires(() => new Date(Date.now() - HOUR)),
  'expires in 1970': expires(() => new Date(0)),
  'expires before 1970': expires(() => new Date(-DAY)),
  'expires before our era': expires(() => new Date(-LAST_DATE)),
  'maxAge of 0': maxAge(() => 0),
  'maxAge below 0': maxAge(() => -1),
}

const refused: Record<string, Set> = {
  'an invalid Date': expires(() => new Date(NaN)),
  'expires NaN': expires(() => NaN),
  'expires Infinity': expires(() => Infinity),
  'expires soon': expires(() => 'soon'),
  'expires as a text': expires(() => inAnHour().toISOString()),
  'expires true': expires(() => true),
  'expires an object': expires(() => ({})),
  'maxAge NaN': maxAge(() => NaN),
  'maxAge Infinity': maxAge(() => Infinity),
  'maxAge 1e20': maxAge(() => 1e20),
  'maxAge as a text': maxAge(() => '3600000'),
  'maxAge true': maxAge(() => true),
  'maxAge a list': maxAge(() => [HOUR]),
}

/** What other software hands to `set` and `touch`, and for how many ms from now the store is to keep it. */
const handed: Record<string, [expires: () => unknown, lifetime: number]> = {
  'a Date': [inAnHour, HOUR],
  'the text of a Date': [() => inAnHour().toISOString(), HOUR],
  'a number of ms since the epoch': [() => Date.now() + HOUR, HOUR],
  'a number with a fraction': [() => Date.now() + HOUR + 0.25, HOUR],
  'the year 9999': [() => new Date('9999-12-31').getTime(), 3650 * DAY],
  'a number that is past': [() => Date.now() - HOUR, 0],
  'a Date that is past': [() => new Date(-DAY), 0],
  'a text that is past': [() => new Date(1).toISOString(), 0],
  null: [() => null, DAY],
  undefined: [() => undefined, DAY],
  false: [() => false, DAY],
  true: [() => true, DAY],
  0: [() => 0, DAY],
  NaN: [() => NaN, DAY],
  Infinity: [() => Infinity, DAY],
  'a number beyond all dates': [() => 1e20, DAY],
  'an invalid Date': [() => new Date(NaN), DAY],
  'a text that is no time': [() => 'soon', DAY],
  'an object': [() => ({}), DAY],
}

afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllEnvs()
})

onEachStore((open: OpenStore) => {
  function browser() {
    const store = open()
    const jar: Jar = {}
    let set: Set = () => undefined
    const { app } = appWithSessions({ store }, (req, res) => {
      if (req.path === '/set') {
        req.session['n'] = 1
        set(req.session.cookie)
      }
      res.json({ id: req.sessionID, n: req.session['n'] as number })
    })
    const visit = async (path: string) => {
      const { status, body } = await visitAndSettle(app, path, jar)
      return { status, body, ...(status === 200 ? (JSON.parse(body) as { id: string; n?: number }) : { id: '' }) }
    }
    return {
      store,
      start: (how: Set) => ((set = how), visit('/set')),
      /** What the next request sees, and how long its record is kept, in ms. */
      async next() {
        const { status, id, n } = await visit('/')
        const record = await store.read(id)
        return { status, n, lifetime: record ? record.expires - Date.now() : 0 }
      },
    }
  }

  describe('a session whose end is odd lives, for', () => {
    test.each(Object.keys(living))('%s', async (name) => {
      const [set, lifetime] = living[name]!
      const { start, next } = browser()
      expect((await start(set)).status).toBe(200)
      for (let visits = 0; visits < 2; visits++) {
        const seen = await next()
        expect(seen).toMatchObject({ status: 200, n: 1 })
        // MariaDB and Redis keep whole seconds; a machine may be slow.
        expect(Math.abs(seen.lifetime - lifetime()) / SECOND).toBeLessThan(10)
      }
    })
    test.each(Object.keys(lasting))('%s', async (name) => {
      const { start, next } = browser()
      expect((await start(lasting[name]!)).status).toBe(200)
      for (let visits = 0; visits < 2; visits++) {
        const seen = await next()
        expect(seen).toMatchObject({ status: 200, n: 1 })
        expect(seen.lifetime).toBeGreaterThan(3649 * DAY)
      }
    })
  })

  test.each(Object.keys(ended))('a session that ended when it was made: %s', async (name) => {
    const { store, start, next } = browser()
    expect((await start(ended[name]!)).status).toBe(200)
    // MariaDB counts in seconds.
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + SECOND })
    expect(await store.length()).toBe(0)
    expect(await next()).toMatchObject({ status: 200, n: undefined })
  })

  test.each(Object.keys(refused))('an end that is none is refused while there is an answer: %s', async (name) => {
    const { start, next } = browser()
    const { status, body } = await start(refused[name]!)
    expect(status).toBe(500)
    expect(body).toMatch(/^maxAge must be a number/)
    expect(await next()).toMatchObject({ status: 200 })
  })

  describe.each(Object.keys(handed))('other software hands over, as the end, %s', (name) => {
    const [expires, lifetime] = handed[name]!
    const session = () => ({ cookie: { originalMaxAge: null, expires: expires() as Date }, n: 1 }) as never

    async function expectLifetime(store: ReturnType<OpenStore>): Promise<void> {
      const record = await store.read('a')
      if (lifetime === 0) {
        expect([record, await store.get('a')]).toEqual([null, undefined])
        return
      }
      const left = (record?.expires ?? 0) - Date.now()
      if (lifetime > 365 * DAY) expect(left).toBeGreaterThan(lifetime)
      else expect(Math.abs(left - lifetime) / SECOND).toBeLessThan(10)
      expect(await store.get('a')).toMatchObject({ n: 1 })
    }

    test('to set', async () => {
      const store = open()
      await store.set('a', session())
      await expectLifetime(store)
    })
    test('to touch', async () => {
      const store = open()
      await store.set('a', {
        cookie: { originalMaxAge: null, expires: new Date(Date.now() + 60 * SECOND) },
        n: 1,
      } as never)
      await store.touch('a', session())
      await expectLifetime(store)
    })
  })

  test('other software hands over no cookie at all: the session is kept, for as long as one without an end', async () => {
    const store = open()
    await store.set('a', { n: 1 } as never)
    const record = await store.read('a')
    expect(Math.abs((record?.expires ?? 0) - Date.now() - DAY) / SECOND).toBeLessThan(10)
    expect(JSON.parse(record?.text ?? '')).toEqual({ n: 1 })
  })

  test.each(['2027-03-28T00:30:00Z', '2027-03-28T01:30:00Z', '2027-10-31T00:30:00Z', '2027-10-31T01:30:00Z'])(
    'an end in the hour in which clocks are changed, %s, is kept',
    async (at) => {
      vi.stubEnv('TZ', 'Europe/Berlin')
      expect(new Date('2027-03-28T02:30').getHours(), 'that hour is none').toBe(3)
      const { store, start } = browser()
      const { id } = await start(expires(() => new Date(at)))
      const record = await store.read(id)
      expect(Math.abs((record?.expires ?? 0) - Date.parse(at))).toBeLessThanOrEqual(SECOND)
    },
  )

  test.each([10 * 60 * SECOND, -10 * 60 * SECOND])(
    'a clock that is %d ms wrong neither ends a session nor makes it endless',
    async (ms) => {
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + ms })
      const { start, next } = browser()
      await start(maxAge(() => HOUR))
      const seen = await next()
      expect(seen).toMatchObject({ status: 200, n: 1 })
      expect(Math.abs(seen.lifetime - HOUR) / SECOND).toBeLessThan(10)
    },
  )
})
