import { describe, expect, test } from 'vitest'
import session from '../../src'
import { appWithSessions, type AnySession, type Handler } from '../faults/fault'
import { settled } from '../support/app'
import { visitAndSettle, type Jar } from '../support/browser'
import { newPlace, onEachStore } from '../support/each-store'
import { setCookies } from '../support/set-cookie'

const user = (data: object): string | undefined => (data as AnySession)['user'] as string | undefined

function appOfUsers(options: session.SessionOptions, handlers: Record<string, Handler>) {
  const { app, sessions } = appWithSessions({ user, ...options }, async (req, res, next) => {
    const { pathname, searchParams } = new URL(req.url, 'http://localhost')
    if (pathname === '/in') req.session['user'] = searchParams.get('user') ?? 'ada'
    await handlers[pathname]?.(req, res, next)
    if (!res.headersSent) res.send(String(req.session?.['user'] ?? '-'))
  })
  return { sessions, go: (url: string, jar: Jar) => visitAndSettle(app, url, jar) }
}

onEachStore((open) => {
  /** The ways to end the session of one's own request through the middleware. */
  const ways: Record<string, (sessions: session.Sessions, req: Parameters<Handler>[0]) => Promise<unknown>> = {
    'users.endAll of the user': (sessions) => sessions.users.endAll('ada'),
    'users.endAll of the request': (sessions, req) => sessions.users.endAll(req),
    'users.end': async (sessions, req) => {
      const own = (await sessions.users.list(req)).find(({ current }) => current)
      return sessions.users.end(req, String(own?.handle))
    },
    destroy: (sessions, req) => sessions.destroy(req.sessionID),
  }
  const settings = [{}, { rolling: true }, { clearCookie: true }, { rolling: true, clearCookie: true }]
  const cases = Object.keys(ways).flatMap((way) => settings.map((options) => [way, options] as const))

  test.each(cases)('a session that %s ends in its own request is gone from it, with %j', async (way, options) => {
    const store = open(newPlace())
    let left: unknown
    const { sessions, go } = appOfUsers(
      { store, cookie: { maxAge: 60_000 }, ...options },
      {
        '/end': async (req) => {
          await ways[way]!(sessions, req)
          left = req.session
        },
      },
    )
    const jar: Jar = {}
    await go('/in', jar)
    const cookie = jar.cookie
    expect(await store.linked?.('ada')).toHaveLength(1)

    const { headers, status } = await go('/end', jar)
    expect({ status, left }).toEqual({ status: 200, left: undefined })
    const sent = setCookies(Object.fromEntries(headers), 'connect.sid')
    expect(sent).toEqual(
      'clearCookie' in options ? [expect.stringMatching(/^connect\.sid=; .*Expires=Thu, 01 Jan 1970/)] : [],
    )
    expect(await store.linked?.('ada')).toEqual([])
    expect((await go('/', { cookie: cookie as string })).body).toBe('-')
  })

  test.each([{}, { hashIds: true, encryption: Buffer.alloc(32, 7) }])(
    'a user has many sessions: in pages, each is seen once, whatever comes and goes meanwhile, with %o',
    async (options) => {
      const store = open(newPlace())
      const { sessions, go } = appOfUsers(
        { store, cookie: { maxAge: 60_000 }, ...options },
        { '/page': async (req, res) => void res.json(await sessions.users.page(req)) },
      )
      await Promise.all(Array.from({ length: 12 }, () => go('/in', {})))
      const own: Jar = {}
      await go('/in', own)
      await go('/in?user=bob', {})
      const { sessions: all, cursor } = JSON.parse((await go('/page', own)).body) as session.UserSessionPage
      expect(all).toHaveLength(13)
      expect(all.filter(({ current }) => current)).toHaveLength(1)
      expect(cursor).toBeNull()

      const first = await sessions.users.page('ada', { limit: 3 })
      const seen = first.sessions.map(({ handle }) => handle)
      const [ended, ...living] = all.map(({ handle }) => handle).filter((handle) => !seen.includes(handle))
      expect(await sessions.users.end('ada', ended as string)).toBe(true)
      await go('/in', {})
      for (let page = first; page.cursor !== null;) {
        expect(page.sessions).toHaveLength(3)
        page = await sessions.users.page('ada', { limit: 3, cursor: page.cursor })
        seen.push(...page.sessions.map(({ handle }) => handle))
      }
      expect(new Set(seen).size).toBe(seen.length)
      expect(seen).toEqual(expect.arrayContaining(living))
      expect(seen).not.toContain(ended)
      expect(await sessions.users.page('eve')).toEqual({ sessions: [], cursor: null })
    },
  )

  test('a page is full although the index still has sessions that are gone', async () => {
    const store = open(newPlace())
    const { sessions, go } = appOfUsers({ store, cookie: { maxAge: 60_000 } }, {})
    await Promise.all(Array.from({ length: 10 }, () => go('/in', {})))
    for (const id of ((await store.linked?.('ada')) ?? []).slice(0, 6)) await store.remove(id)
    const { sessions: found, cursor } = await sessions.users.page('ada', { limit: 3 })
    expect(found).toHaveLength(3)
    expect((await sessions.users.page('ada', { limit: 3, cursor })).sessions).toHaveLength(1)
  })

  const longest = 'x'.repeat(767)
  test('users are told apart, and found, however long and odd their IDs are', async () => {
    const odd = [
      'ada',
      'Ada',
      'ada ',
      'ädä',
      '\0',
      'a\0b',

      "'; --",
      longest,
      longest + 'y',
      longest + 'z',
      'ü'.repeat(9000),
    ]
    const { sessions, go } = appOfUsers({ store: open(newPlace()) }, {})
    const jars = await Promise.all(
      odd.map(async (name) => {
        const jar: Jar = {}
        expect((await go(`/in?user=${encodeURIComponent(name)}`, jar)).status).toBe(200)
        return jar
      }),
    )
    for (const [n, name] of odd.entries()) {
      expect(await sessions.users.list(name)).toHaveLength(1)
      expect(await sessions.users.endAll(name)).toBe(1)
      const others = await Promise.all(jars.slice(n + 1).map(async (jar) => (await go('/', jar)).body))
      expect(others).not.toContain('-')
      expect((await go('/', jars[n]!)).body).toBe('-')
    }
  })
})

describe('a page of sessions, for a client', () => {
  test('begins, whatever the client has sent for a cursor', async () => {
    const { sessions, go } = appOfUsers({}, {})
    await go('/in', {})
    const whole = await sessions.users.page('ada')
    for (const cursor of ['', null, undefined, ['~'], { length: 1 }, 7]) {
      expect(await sessions.users.page('ada', { cursor: cursor as never })).toEqual(whole)
    }
    expect(await sessions.users.page('ada', { cursor: '~' })).toEqual({ sessions: [], cursor: null })
  })

  test.each([0, -1, 1.5, NaN, '3', Infinity])('of %s sessions is an error', async (limit) => {
    const { sessions } = appOfUsers({}, {})
    await expect(sessions.users.page('ada', { limit: limit as number })).rejects.toThrow(
      'limit must be a whole number of at least 1',
    )
  })
})

describe('who is nobody', () => {
  const nobody: [string, unknown][] = [
    ['an object', { id: 1 }],
    ['a list', [7]],
    ['null', null],
    ['undefined', undefined],
    ['NaN', NaN],
    ['an empty text', ''],
    ['true', true],
    ['a promise', Promise.resolve('ada')],
  ]
  test.each(nobody)('%s is an error in list, page, end and endAll', async (_what, target) => {
    const { users } = appOfUsers({}, {}).sessions
    const message = /the user given to sessions\.users must be a string, a number/
    await expect(users.list(target as never)).rejects.toThrow(message)
    await expect(users.page(target as never)).rejects.toThrow(message)
    await expect(users.end(target as never, 'a')).rejects.toThrow(message)
    await expect(users.endAll(target as never)).rejects.toThrow(message)
  })

  test('NaN, which the option user gives for strangers, is an error, and makes no two of them one user', async () => {
    const { sessions, go } = appOfUsers(
      { user: (data) => Number((data as AnySession)['id']) },
      { '/visit': (req) => void (req.session['n'] = 1) },
    )
    const { body, status } = await go('/visit', {})
    expect({ body, status }).toEqual({
      body: expect.stringMatching(
        /^user option must return a string, a number, or undefined for nobody; it is NaN/,
      ) as string,
      status: 500,
    })
    await expect(sessions.users.list('NaN')).resolves.toEqual([])
  })
})

describe('the index, whose entries end by themselves', () => {
  class ExpiringLinks extends session.MemoryStore {
    override readonly linksExpire = true
    links = 0
    override link(...args: Parameters<session.MemoryStore['link']>) {
      this.links++
      return super.link(...args)
    }
  }

  test.each([
    [0, 11],
    [60_000, 1],
    [Infinity, 1],
  ])(
    'is renewed with the session: with touchAfter %d, one login and ten looks make %d links',
    async (touchAfter, links) => {
      const store = new ExpiringLinks()
      const { go } = appOfUsers({ store, touchAfter, cookie: { maxAge: 86_400_000 } }, {})
      const jar: Jar = {}
      await go('/in', jar)
      for (let looks = 0; looks < 10; looks++) await go('/', jar)
      await settled()
      expect(store.links).toBe(links)
    },
  )
})

test.each([{}, { hashIds: true }, { hashIds: { migrate: true } }])(
  'a session that another request ends by users.endAll leaves the requests that have it, with %o',
  async (options) => {
    let left: unknown
    const { sessions, go } = appOfUsers(options, {
      '/slow': async (req) => {
        await sessions.users.endAll('ada')
        left = req.session
      },
    })
    const jar: Jar = {}
    await go('/in', jar)
    expect((await go('/slow', jar)).status).toBe(200)
    expect(left).toBeUndefined()
  },
)

test('what describe records is for lists: an app that shows its session does not show it', async () => {
  const { sessions, go } = appOfUsers(
    { describe: () => ({ risk: 'score 97, flagged' }), idleTimeout: 60_000 },
    { '/show': (req, res) => void res.json(req.session) },
  )
  const jar: Jar = {}
  await go('/in', jar)
  expect(JSON.parse((await go('/show', jar)).body)).toEqual({
    cookie: { originalMaxAge: null, expires: null, httpOnly: true, path: '/' },
    user: 'ada',
  })
  expect(await sessions.users.list('ada')).toMatchObject([{ about: { risk: 'score 97, flagged' } }])
})

test('a signed-in request that does not look at its session asks for no user, and renews it', async () => {
  let asked = 0
  const store = new session.MemoryStore()
  const { app } = appWithSessions(
    { store, cookie: { maxAge: 60_000 }, user: (data) => (asked++, user(data)) },
    (req, res) => {
      if (req.url === '/in') req.session['user'] = 'ada'
      res.send('done')
    },
  )
  const jar: Jar = {}
  await visitAndSettle(app, '/in', jar)
  const [key = ''] = store.linked('ada')
  store.renew(key, Date.now() + 30_000)
  asked = 0
  await visitAndSettle(app, '/', jar)
  expect(asked).toBe(0)
  expect(store.read(key)?.expires).toBeGreaterThan(Date.now() + 50_000)
})
