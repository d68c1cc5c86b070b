import type { Request } from 'express'
import { describe, expect, test, vi } from 'vitest'
import session from '../../src'
import { appWithSessions, type AnySession, type Handler } from '../faults/fault'
import { gate } from '../support/app'
import { visitAndSettle, type Jar } from '../support/browser'
import { newPlace, onEachStore } from '../support/each-store'

type Users = session.Sessions['users']
type Go = (url: string, jar: Jar) => Promise<string>

/** An app whose users are in `user`, and a way to visit it with the cookies of several browsers. */
function appOfUsers(store: session.Store, options: session.SessionOptions, handlers: Record<string, Handler> = {}) {
  const user = (one: object): string | undefined => (one as { user?: string }).user
  const { app, sessions } = appWithSessions({ store, user, ...options }, async (req, res, next) => {
    const { pathname, searchParams } = new URL(req.url, 'http://localhost')
    const handler = handlers[pathname]
    if (handler) return handler(req, res, next)
    if (pathname === '/login') {
      await req.session.regenerate()
      req.session.user = searchParams.get('user') ?? 'ada'
    }
    if (pathname === '/hit') req.session.hits = Number(req.session.hits ?? 0) + 1
    return res.send(String(req.session.user))
  })
  const go: Go = async (url, jar) => (await visitAndSettle(app, url, jar)).body
  return { go, sessions }
}

/** What keeps a session from being stored with another owner, or with none. */
const REFUSED: Record<string, { path: string; options?: session.SessionOptions; isDown?: boolean }> = {
  'to one who has as many sessions as may be': {
    path: '/switch',
    options: { maxSessionsPerUser: 1, onSessionLimit: 'refuse' },
  },
  'to another while the store is down': { path: '/switch', isDown: true },
  'to nobody while the store is down': { path: '/leave', isDown: true },
}

const listed = async (users: Users, user = 'ada'): Promise<number> => (await users.list(user)).length

onEachStore((open) => {
  test('a session that only writes stays in the list of its user for as long as it lives', async () => {
    const { go, sessions } = appOfUsers(open(newPlace()), { cookie: { maxAge: 2000 } })
    const jar: Jar = {}
    await go('/login', jar)
    for (let n = 0; n < 3; n++) {
      await new Promise((resolve) => setTimeout(resolve, 800))
      expect(await go('/hit', jar)).toBe('ada')
      expect(await listed(sessions.users)).toBe(1)
    }
    expect(await sessions.users.endAll('ada')).toBe(1)
    expect(await go('/me', jar)).toBe('undefined')
  })

  test.each(Object.keys(REFUSED))(
    'a change of owner that is not stored, %s, leaves the session in the list of the one before',
    async (why) => {
      const { path, options = {}, isDown } = REFUSED[why] as (typeof REFUSED)[string]
      const store = open(newPlace())
      const changing =
        (user: string | undefined): Handler =>
        async (req, res) => {
          req.session.user = user
          if (isDown) vi.spyOn(store, 'write').mockRejectedValueOnce(new Error('the store is down'))
          res.send((await req.session.save().catch(() => 'refused')) ?? 'stored')
          // Else the end of the response would try once more.
          delete (req as { session?: unknown }).session
        }
      const { go, sessions } = appOfUsers(store, options, { '/switch': changing('eve'), '/leave': changing(undefined) })
      const jar: Jar = {}
      await go('/login?user=eve', {})
      await go('/login', jar)
      expect(await go(path, jar)).toBe('refused')
      expect(await go('/me', jar)).toBe('ada')
      expect([await listed(sessions.users), await listed(sessions.users, 'eve')]).toEqual([1, 1])
      expect(await sessions.users.endAll('ada')).toBe(1)
      expect(await go('/me', jar)).toBe('undefined')
    },
  )

  const logins: Record<string, (req: Request, sessions: session.Sessions) => Promise<void>> = {
    update: (req, sessions) => sessions.update(req, (one) => Object.assign(one, { user: 'ada' }) && undefined),
    renew: async (req, sessions) => {
      ;(req.session as AnySession).user = 'ada'
      await sessions.renew(req)
    },
  }
  test.each(Object.keys(logins))('a login by %s is in the list, and counts', async (how) => {
    const { go, sessions } = appOfUsers(
      open(newPlace()),
      { maxSessionsPerUser: 1 },
      {
        '/visit': (req, res) => ((req.session.visited = true), res.send('welcome')),
        '/in': async (req, res) => (await logins[how]?.(req, sessions), res.send('in')),
      },
    )
    const jars: [Jar, Jar] = [{}, {}]
    for (const jar of jars) {
      await go('/visit', jar)
      await go('/in', jar)
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    expect(await listed(sessions.users)).toBe(1)
    expect([await go('/me', jars[0]), await go('/me', jars[1])]).toEqual(['undefined', 'ada'])
    expect(await sessions.users.endAll('ada')).toBe(1)
    expect(await go('/me', jars[1])).toBe('undefined')
  })

  test('sessions from before the option are entered at their next request', async () => {
    const place = newPlace()
    const before = appOfUsers(open(place), { user: undefined })
    const after = appOfUsers(open(place), { maxSessionsPerUser: 1, onSessionLimit: 'refuse' })
    const jars: [Jar, Jar] = [{}, {}]
    for (const jar of jars) await before.go('/login', jar)
    for (const jar of jars) expect(await after.go('/me', jar), 'nobody is refused who was in').toBe('ada')
    expect(await listed(after.sessions.users)).toBe(2)
  })

  test('endOthers after a login in the same request ends the others', async () => {
    const { go, sessions } = appOfUsers(
      open(newPlace()),
      {},
      {
        '/password': async (req, res) => {
          await req.session.regenerate()
          req.session.user = 'ada'
          res.send(String(await sessions.users.endOthers(req)))
        },
      },
    )
    const thief: Jar = {}
    const own: Jar = {}
    await go('/login', thief)
    await go('/login', own)
    expect(await go('/password', own)).toBe('1')
    expect(await go('/me', thief)).toBe('undefined')
    expect(await go('/me', own)).toBe('ada')
  })

  test('endOthers spares its own session, though another request has given it a new ID meanwhile', async () => {
    const others = { reached: gate(), goOn: gate() }
    const { go, sessions } = appOfUsers(
      open(newPlace()),
      {},
      {
        '/others': async (req, res) => {
          void req.session.user
          others.reached.open()
          await others.goOn.opened
          const current = (await sessions.users.list('ada', req)).map((one) => one.current).sort()
          res.json([current, await sessions.users.endOthers(req)])
        },
        '/renew': async (req, res) => (await sessions.renew(req), res.send('renewed')),
      },
    )
    const thief: Jar = {}
    const own: Jar = {}
    await go('/login', thief)
    await go('/login', own)
    const answer = go('/others', { ...own })
    await others.reached.opened
    await go('/renew', own)
    others.goOn.open()
    expect(JSON.parse(await answer)).toEqual([[false, true], 1])
    expect(await go('/me', own)).toBe('ada')
    expect(await go('/me', thief)).toBe('undefined')
  })

  test.each(['endOldest', 'refuse'] as const)('of logins at once exactly as many stay as may: %s', async (limit) => {
    const { go, sessions } = appOfUsers(open(newPlace()), { maxSessionsPerUser: 2, onSessionLimit: limit })
    for (let round = 0; round < 5; round++) {
      const user = `ada${round}`
      const jars: Jar[] = [{}, {}, {}, {}]
      await Promise.all(jars.map((jar) => go(`/login?user=${user}`, jar)))
      expect(await listed(sessions.users, user)).toBe(2)
      const live = await Promise.all(jars.map((jar) => go('/me', jar)))
      expect(live.filter((name) => name === user)).toHaveLength(2)
    }
  })

  test('a record that cannot be read is none of the user’s, and in nobody’s way', async () => {
    const place = newPlace()
    const key = (letter: string): string => letter.repeat(43) + '='
    const before = appOfUsers(open(place), { encryption: key('a') })
    const after = appOfUsers(open(place), {
      encryption: key('b'),
      maxSessionsPerUser: 1,
      onSessionLimit: 'refuse',
    })
    await before.go('/login', {})
    const jar: Jar = {}
    await after.go('/login', jar)
    expect(await after.go('/me', jar)).toBe('ada')
    expect(await listed(after.sessions.users)).toBe(1)
  })

  test('a record that was cut off keeps nobody from logging in, and is ended with the others', async () => {
    const store = open(newPlace())
    const { go, sessions } = appOfUsers(store, { maxSessionsPerUser: 1, onSessionLimit: 'refuse' })
    await go('/login', {})
    const [id = ''] = (await store.linked?.('ada')) ?? []
    const { text = '', expires = 0 } = (await store.read(id)) ?? {}
    // PostgreSQL keeps JSON only.
    const cut = store.constructor.name === 'PostgresStore' ? '{}' : text.slice(0, -1)
    await store.write(id, cut, expires, 'always')
    const jar: Jar = {}
    await go('/login', jar)
    expect(await go('/me', jar)).toBe('ada')
    expect(await sessions.users.endAll('ada')).toBe(2)
    expect([await store.read(id), await store.linked?.('ada')]).toEqual([null, []])
  })
})

test('a session that has timed out is not in the list, and not found by get and reload', async () => {
  let id = ''
  const { go, sessions } = appOfUsers(
    new session.MemoryStore(),
    { absoluteTimeout: 60_000 },
    {
      '/slow': async (req, res) => {
        id = req.sessionID
        vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 61_000 })
        expect(await sessions.get(id)).toBeUndefined()
        await expect(req.session.reload()).rejects.toMatchObject({ code: 'ERR_SESSION_MISSING' })
        res.send('timed out')
      },
    },
  )
  const jar: Jar = {}
  try {
    await go('/login', jar)
    expect(await listed(sessions.users)).toBe(1)
    expect(await go('/slow', jar)).toBe('timed out')
    expect(await listed(sessions.users)).toBe(0)
  } finally {
    vi.useRealTimers()
  }
})

describe('a function user that tells nobody apart', () => {
  test.each<[string, unknown]>([
    ['a promise', Promise.resolve('ada')],
    ['an object', { id: 1 }],
    ['an empty string', ''],
  ])('%s is an error that says so', async (_what, answer) => {
    const { go } = appOfUsers(new session.MemoryStore(), { user: () => answer as string })
    expect(await go('/login', {})).toMatch(/^user option must return a string, a number, or undefined for nobody/)
  })
})
