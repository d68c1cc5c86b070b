import { afterEach, describe, expect, test, vi } from 'vitest'
import session from '../../src'
import { appWithSessions } from '../faults/fault'
import { visitAndSettle, type Jar } from '../support/browser'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const START = Date.UTC(2030, 0, 1)

afterEach(() => void vi.useRealTimers())

/** The clock of the process that a request comes to. */
const at = (ms: number): void => void vi.useFakeTimers({ toFake: ['Date'], now: START + ms })

describe('a machine whose clock is two days ahead has made a session', () => {
  async function loggedIn(options: session.SessionOptions) {
    const store = new session.MemoryStore({ ttl: 30 * 24 * HOUR })
    const { app } = appWithSessions({ store, ...options }, (req, res) => {
      if (req.path === '/login') req.session['user'] = 'ada'
      res.send(String(req.session['user'] ?? '-'))
    })
    const jar: Jar = {}
    const visit = async (path: string, ms: number): Promise<string> => {
      at(ms)
      return (await visitAndSettle(app, path, jar)).body
    }
    await visit('/login', 48 * HOUR)
    expect(await visit('/', 0)).toBe('ada')
    return (ms: number) => visit('/', ms)
  }

  test('its idle timeout counts from its next request', async () => {
    const visit = await loggedIn({ idleTimeout: 30 * MINUTE })
    expect(await visit(29 * MINUTE)).toBe('ada')
    expect(await visit(61 * MINUTE)).toBe('-')
  })

  test('its absolute timeout counts from there, too, however busy it is', async () => {
    const visit = await loggedIn({ absoluteTimeout: 12 * HOUR })
    for (let hours = 1; hours < 12; hours++) expect(await visit(hours * HOUR)).toBe('ada')
    expect(await visit(12 * HOUR + MINUTE)).toBe('-')
  })
})

test('a clock that is 15 seconds ahead of the one that renewed makes no former token stale', async () => {
  const store = new session.MemoryStore()
  const { app } = appWithSessions(
    { store, renewalTimeout: 15 * MINUTE, renewalGrace: 10_000, onStaleId: 'destroy' },
    (req, res) => {
      if (req.path === '/login') req.session['user'] = 'ada'
      res.send(String(req.session['user'] ?? '-'))
    },
  )
  const jar: Jar = {}
  const visit = async (path: string, ms: number, one = jar): Promise<string> => {
    at(ms)
    return (await visitAndSettle(app, path, one)).body
  }
  await visit('/login', 0)
  const former = { ...jar }
  await visit('/', 16 * MINUTE)
  expect(jar.cookie).not.toBe(former.cookie)
  // The client has not shown the new one yet.
  expect(await visit('/', 16 * MINUTE + 15_000, former)).toBe('ada')
  expect(await visit('/', 16 * MINUTE + 16_000)).toBe('ada')
})
