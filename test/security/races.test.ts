import type { Request } from 'express'
import { describe, expect, test, vi } from 'vitest'
import session from '../../src'
import { appWithSessions, classicStore, slowChange, type AnySession, type Handler } from '../faults/fault'
import { settled, stop } from '../support/app'
import { contentOf, visit, visitAndSettle, type Jar } from '../support/browser'

/** An app with a slow handler, which stops at a gate, and a way to visit it with the cookies of several browsers. */
function appOfRaces(store: session.Store, options: session.SessionOptions, slow: Handler) {
  const { app, sessions } = appWithSessions({ store, ...options }, async (req, res, next) => {
    const [, page, value] = req.url.split('/')
    if (page === 'slow') return slow(req, res, next)
    if (page === 'login') req.session.user = 'ada'
    if (page === 'logout') await req.session.destroy()
    if (page === 'renew') await sessions.renew(req)
    if (page === 'x') req.session.x = Number(value)
    if (page === 'add') await sessions.flash(req).add('note', value)
    if (page === 'take') return res.json(await sessions.flash(req).take('note'))
    return res.json((req.session as AnySession | undefined)?.[value ?? 'user'] ?? null)
  })
  return async (url: string, jar: Jar): Promise<unknown> => contentOf(await visitAndSettle(app, url, jar))
}

/** Has a store stop at a method. */
function hold(store: ReturnType<typeof classicStore>, method: 'set' | 'destroy') {
  const { reached, goOn } = stop()
  const work = store[method] as (...args: unknown[]) => unknown
  store[method] = (...args: unknown[]) => {
    reached.open()
    return void goOn.opened.then(() => work.apply(store, args))
  }
  return { reached, goOn }
}

test('a save that follows a session to its new ID, and fails, brings it back by no second try', async () => {
  const store = new session.MemoryStore()
  const { reached, goOn } = stop()
  const go = appOfRaces(store, {}, async (req) => {
    req.session.seen = true
    reached.open()
    await goOn.opened
    await req.session.save()
  })
  const jar: Jar = {}
  await go('/login', jar)
  const slow = go('/slow', { ...jar })
  await reached.opened
  await go('/renew', jar)
  const { write } = store
  vi.spyOn(store, 'write').mockImplementation((id, ...args) => {
    // Somebody logs out right before the write under the new ID.
    if (jar.cookie?.includes(id)) store.remove(id)
    return write.call(store, id, ...args)
  })
  goOn.open()
  expect(await slow).toMatch(/was destroyed by another request/)
  vi.restoreAllMocks()
  expect(await go('/me', jar)).toBeNull()
})

test('overwriting, too, looks where a session has gone: there are no two of it', async () => {
  const store = new session.MemoryStore()
  const { reached, goOn, handler } = slowChange()
  const go = appOfRaces(store, { conflict: 'overwrite' }, handler)
  const jar: Jar = {}
  await go('/login', jar)
  const old = { ...jar }
  const slow = go('/slow', { ...jar })
  await reached.opened
  await go('/x/1', { ...jar })
  const { write } = store
  let tries = 0
  // A new ID in the moment between the look at what others wrote and the write over it.
  vi.spyOn(store, 'write').mockImplementation(((...args: Parameters<typeof write>) =>
    ++tries === 2 ? go('/renew', jar).then(() => write.apply(store, args)) : write.apply(store, args)) as typeof write)
  goOn.open()
  await slow
  vi.restoreAllMocks()
  await go('/logout', jar)
  expect(await go('/me', old)).toBeNull()
  expect(await go('/me', jar)).toBeNull()
})

test.each([{}, { idleTimeout: 600_000 }])('what is reloaded has the newest notes, too: %j', async (options) => {
  const { reached, goOn } = stop()
  const go = appOfRaces(new session.MemoryStore(), options, async (req, res) => {
    await req.session.save()
    reached.open()
    await goOn.opened
    await req.session.reload()
    req.session.x = 1
    res.send('done')
  })
  const jar: Jar = {}
  await go('/add/one', jar)
  const slow = go('/slow', jar)
  await reached.opened
  expect(await go('/take', jar)).toEqual(['one'])
  await go('/add/two', jar)
  goOn.open()
  await slow
  expect(await go('/take', jar)).toEqual(['two'])
})

test('what a failed save had brought in is no change of its own at the next try', async () => {
  const store = new session.MemoryStore()
  const first = stop()
  const second = stop()
  const go = appOfRaces(store, {}, async (req, res) => {
    req.session.mine = true
    first.reached.open()
    await first.goOn.opened
    await req.session.save().catch(() => undefined)
    second.reached.open()
    await second.goOn.opened
    res.send('done')
  })
  const jar: Jar = {}
  await go('/x/0', jar)
  const slow = go('/slow', { ...jar })
  await first.reached.opened
  await go('/x/1', { ...jar })
  const { write } = store
  vi.spyOn(store, 'write').mockImplementation((...args) => {
    if (args[1].includes('"x":1')) throw new Error('the store is down for a moment')
    return write.apply(store, args)
  })
  first.goOn.open()
  await second.reached.opened
  vi.restoreAllMocks()
  await go('/x/2', { ...jar })
  second.goOn.open()
  await slow
  expect(await go('/get/x', jar)).toBe(2)
  expect(await go('/get/mine', jar)).toBe(true)
})

test('on a classic store, who loads a session while it is being destroyed does not bring it back', async () => {
  const store = classicStore(session)
  const { reached, goOn, handler } = slowChange()
  const go = appOfRaces(store, {}, handler)
  const jar: Jar = {}
  await go('/login', jar)
  const destroying = hold(store, 'destroy')
  const logout = go('/logout', { ...jar })
  await destroying.reached.opened
  const slow = go('/slow', { ...jar })
  await reached.opened
  destroying.goOn.open()
  await logout
  goOn.open()
  await slow
  expect(store.records.size).toBe(0)
})

test('on a classic store, a logout while the session gets a new ID ends it', async () => {
  const store = classicStore(session)
  const go = appOfRaces(store, {}, () => undefined)
  const jar: Jar = {}
  await go('/login', jar)
  const saving = hold(store, 'set')
  const renewal = go('/renew', jar)
  await saving.reached.opened
  const logout = go('/logout', { ...jar })
  await settled()
  saving.goOn.open()
  await Promise.all([renewal, logout])
  expect(store.records.size).toBe(0)
})

test('a new session is not stored when it was destroyed while its save was under way, nor later', async () => {
  const store = classicStore(session)
  const { set } = store
  store.set = (...args) => setTimeout(() => set.apply(store, args), 5)
  const go = appOfRaces(store, {}, async (req, res) => {
    req.session.user = 'ada'
    const held = req.session
    void held.save()
    await held.destroy()
    await expect(held.save()).rejects.toMatchObject({ code: 'ERR_SESSION_DESTROYED' })
    res.send('done')
  })
  expect(await go('/slow', {})).toBe('done')
  expect(store.records.size).toBe(0)
})

/** A memory store that takes a turn of the event loop for everything, as one behind a network does. */
class DistantStore extends session.MemoryStore {
  override read(...args: [string]): never {
    return settled(1).then(() => super.read(...args)) as never
  }
  override write(...args: Parameters<session.MemoryStore['write']>): never {
    return settled(1).then(() => super.write(...args)) as never
  }
}

describe('operations of one request at the same time all count', () => {
  type Operation = (sessions: session.Sessions, req: Parameters<Handler>[0]) => Promise<unknown>
  const operations: Record<string, Operation> = {
    'a new ID': (sessions, req) => sessions.renew(req),
    'an update': (sessions, req) => sessions.update(req, (now: AnySession) => (now.updated = true)),
    'another update': (sessions, req) => sessions.update(req, (now: AnySession) => (now['updated too'] = true)),
    'a message': (sessions, req) => sessions.flash(req).add('note', 'flashed'),
    'a save': (_, req) => {
      req.session.saved = true
      return req.session.save()
    },
  }
  const pairs = Object.keys(operations).flatMap((a) => Object.keys(operations).map((b) => [a, b] as const))

  for (const Store of [session.MemoryStore, DistantStore]) {
    test.each(pairs)(`${Store.name}: %s and %s`, async (a, b) => {
      const { app, sessions } = appWithSessions({ store: new Store() }, async (req, res) => {
        if (req.url === '/login') req.session.user = 'ada'
        if (req.url === '/both') {
          await Promise.all([operations[a]?.(sessions, req), operations[b]?.(sessions, req)])
          req.session.last = true
        }
        const notes = req.url === '/' ? await sessions.flash(req).take('note') : []
        res.json({ ...req.session, notes, cookie: undefined })
      })
      const jar: Jar = {}
      const go = async (url: string): Promise<unknown> => contentOf(await visit(app, url, jar))
      await go('/login')
      await go('/both')
      const has = (name: string): boolean => a === name || b === name
      expect(await go('/')).toEqual({
        user: 'ada',
        last: true,
        notes: has('a message') ? (a === b ? ['flashed', 'flashed'] : ['flashed']) : [],
        ...(has('an update') && { updated: true }),
        ...(has('another update') && { 'updated too': true }),
        ...(has('a save') && { saved: true }),
      })
    })
  }
})

describe('what is begun inside of an update, and would wait for it, fails at once', () => {
  type Inner = (req: Request, sessions: session.Sessions, one: AnySession) => unknown
  const inner: Record<string, Inner> = {
    'flash().add': (req, sessions) => sessions.flash(req).add('note', 'saved'),
    'req.session.save': (req) => req.session.save(),
    'save of the session that is given': (_req, _sessions, one) => one.save(),
    renew: (req, sessions) => sessions.renew(req),
    'update of the request': (req, sessions) => sessions.update(req, () => undefined),
    'update by the ID': (req, sessions) => sessions.update(req.sessionID, () => undefined),
  }
  const waits: [string, () => unknown][] = [
    ['before anything else', () => undefined],
    ['after it has waited for something', () => settled(3)],
  ]

  test.each(
    Object.entries(inner).flatMap(([name, begin]) => waits.map(([when, wait]) => ({ name, when, begin, wait }))),
  )('$name, $when', async ({ begin, wait }) => {
    let runs = 0
    const { app, sessions } = appWithSessions({}, async (req, res) => {
      if (req.url === '/login') return res.send((req.session.user = 'ada'))
      const change = async (one: object): Promise<void> => {
        runs++
        await wait()
        await begin(req, sessions, one as AnySession)
      }
      await (req.url === '/id' ? sessions.update(req.sessionID, change) : sessions.update(req, change))
      return res.send('done')
    })
    const jar: Jar = {}
    await visit(app, '/login', jar)
    for (const path of ['/req', '/id']) {
      runs = 0
      const { body } = await visit(app, path, jar)
      expect(body, path).toMatch(/Call save, update, renew or flash before sessions.update, or after it/)
      expect(runs, path).toBe(1)
    }
  })
})
