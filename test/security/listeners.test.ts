import { afterEach, expect, test, vi } from 'vitest'
import session from '../../src'
import { appWithSessions, type AnySession } from '../faults/fault'
import { SECRET, settled, stop } from '../support/app'
import { contentOf, visit, visitAndSettle, type Jar } from '../support/browser'
import { signedCookie } from '../support/set-cookie'

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
  'failure',
] as const

const moveClock = (ms: number): void => void vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + ms })
afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

/** A story in which every event happens: what was answered and stored, and how often each event was told. */
async function story(listener: () => unknown) {
  const store = new session.MemoryStore()
  const { reached, goOn } = stop()
  const { app, sessions } = appWithSessions(
    {
      store,
      idleTimeout: 60_000,
      onStaleId: 'destroy',
      onInvalidRecord: 'replace',
      onLoadError: 'skip',
      clearCookie: true,
      user: (data) => (data as AnySession)['user'] as string,
    },
    async (req, res) => {
      const data = req.session as AnySession | undefined
      switch (req.path) {
        case '/login':
          await sessions.login(req, { user: 'ada' } as never)
          break
        case '/renew':
          await sessions.renew(req)
          break
        case '/logout':
          await sessions.logout(req)
          break
        case '/slow':
          data!['slow'] = 1
          reached.open()
          await goOn.opened
          break
        case '/change':
          data!['changed'] = 1
      }
      res.json(req.session ? { ...(req.session as object), cookie: undefined } : 'no session')
    },
  )
  const told: Record<string, number> = {}
  for (const name of NAMES) {
    sessions.events.on(name, () => {
      told[name] = (told[name] ?? 0) + 1
      return listener()
    })
  }
  const seen: unknown[] = []
  const jar: Jar = {}
  const go = async (path: string, by = jar): Promise<void> => {
    const answer = await visitAndSettle(app, path, by)
    const cookies = answer.headers.filter(([name]) => name === 'set-cookie').length
    const users = (await sessions.users.list('ada')).length
    seen.push([path, answer.status, contentOf(answer), cookies, await store.length(), users])
  }

  for (const path of ['/login', '/change', '/']) await go(path)
  const thief = { ...jar }
  await go('/renew')
  await go('/')
  moveClock(20_000)
  for (const by of [thief, jar]) await go('/', by)

  await go('/login')
  const slow = visit(app, '/slow', jar)
  await reached.opened
  await go('/change')
  goOn.open()
  seen.push(contentOf(await slow))
  for (const path of ['/', '/logout', '/', '/login']) await go(path)

  moveClock(70_000)
  await go('/')
  store.write('broken', 'no JSON', Date.now() + 60_000, 'always')
  await go('/', { cookie: signedCookie('broken', SECRET) })
  await go('/login')
  vi.spyOn(store, 'read').mockImplementationOnce(() => {
    throw new Error('the store is away')
  })
  await go('/')
  return { told, seen }
}

const mistakes: Record<string, () => unknown> = {
  throws: () => {
    throw new Error('the metrics server is down')
  },
  rejects: () => Promise.reject(new Error('the metrics server is down')),
  'returns NaN': () => NaN,
  'returns a promise that never settles': () => new Promise(() => undefined),
}

test.each(Object.keys(mistakes))('a listener that %s changes nothing, and is warned of each time', async (mistake) => {
  const quiet = await story(() => undefined)
  expect(Object.keys(quiet.told).sort()).toEqual([...NAMES].sort())

  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
  const loud = await story(mistakes[mistake]!)
  await settled()
  expect(loud).toEqual(quiet)
  const times = Object.values(quiet.told).reduce((sum, count) => sum + count, 0)
  const warnings = warn.mock.calls.filter(([text]) => String(text).includes('the metrics server is down'))
  expect(warnings).toHaveLength(mistake === 'throws' || mistake === 'rejects' ? times : 0)
})
