import { expect, test, vi } from 'vitest'
import session from '../../src'
import { appWithSessions, classicStore, slowChange, type AnySession, type Handler } from '../faults/fault'
import { gate, settled, stop } from '../support/app'
import { contentOf, visitAndSettle, type Jar } from '../support/browser'

function appOf(store: session.Store, options: session.SessionOptions, pages: Record<string, Handler> = {}) {
  const { app, sessions } = appWithSessions({ store, ...options }, async (req, res, next) => {
    const [, page = '', value] = req.url.split('/')
    if (pages[page]) return pages[page](req, res, next)
    if (page === 'login') req.session.user = 'ada'
    if (page === 'logout') await req.session.destroy()
    if (page === 'renew') await sessions.renew(req)
    if (page === 'set') req.session[value as string] = true
    if (page === 'add') await sessions.flash(req).add('note', value)
    if (page === 'take') return res.json(await sessions.flash(req).take('note'))
    const { cookie: _, ...data } = req.session ?? {}
    return res.json(data)
  })
  const go = async (url: string, jar: Jar): Promise<any> => contentOf(await visitAndSettle(app, url, jar))
  return { go, sessions }
}

const USER = { user: (data: unknown) => (data as AnySession).user as string | undefined }

/** Has the store stop before the first call of a method that is chosen, and tells when it is reached. */
function stopAt(
  store: session.MemoryStore,
  method: 'write' | 'remove' | 'unlink',
  isIt: (...args: any[]) => boolean = () => true,
) {
  const { reached, goOn } = stop()
  const work = store[method] as (...args: any[]) => unknown
  let done = false
  vi.spyOn(store, method).mockImplementation(((...args: any[]) => {
    if (done || !isIt(...args)) return work.apply(store, args)
    done = true
    reached.open()
    return goOn.opened.then(() => work.apply(store, args))
  }) as never)
  return { reached, goOn }
}

/** Has the store take some turns of the event loop for a write. */
function writeSlowly(store: session.MemoryStore): void {
  const { write } = store
  vi.spyOn(store, 'write').mockImplementation((async (...args: Parameters<typeof write>) => {
    await settled(2)
    return write.apply(store, args)
  }) as never)
}

test('a renewal and a save at the same time take back nothing that another request has written', async () => {
  const store = new session.MemoryStore()
  const app = appOf(
    store,
    {},
    {
      both: async (req, res) => {
        req.session.mine = true
        await Promise.all([app.sessions.renew(req), req.session.save()])
        res.send('done')
      },
    },
  )
  const { go } = app
  const jar: Jar = {}
  await go('/login', jar)
  const old = { ...jar }
  const oldId = decodeURIComponent(jar.cookie as string)
    .slice('connect.sid=s:'.length)
    .split('.')[0]
  let words = 0
  const { reached, goOn } = stopAt(
    store,
    'write',
    (id, text) => id === oldId && text.includes('"mine"') && ++words === 1,
  )
  const both = go('/both', jar)
  await Promise.race([reached.opened, both])
  await go('/set/theirs', { ...old })
  goOn.open()
  await both
  vi.restoreAllMocks()
  expect(await go('/', jar)).toMatchObject({ user: 'ada', mine: true, theirs: true })
  expect(await store.length()).toBe(1)
})

test('a save and a reload at the same time: the save is not undone', async () => {
  const store = new session.MemoryStore()
  writeSlowly(store)
  const { go } = appOf(
    store,
    {},
    {
      both: async (req, res) => {
        req.session.mine = true
        await Promise.all([req.session.save(), req.session.reload()])
        res.send('done')
      },
    },
  )
  const jar: Jar = {}
  await go('/login', jar)
  await go('/both', jar)
  expect(await go('/', jar)).toMatchObject({ user: 'ada', mine: true })
})

test('a session object from before a renewal does not bring the session back under its old ID', async () => {
  const store = new session.MemoryStore()
  const app = appOf(
    store,
    {},
    {
      stale: async (req, res) => {
        const held = req.session
        await app.sessions.renew(req)
        held.late = true
        await held.save()
        res.send('done')
      },
    },
  )
  const { go } = app
  const jar: Jar = {}
  await go('/login', jar)
  const old = { ...jar }
  await go('/stale', jar)
  expect(await go('/', jar)).toMatchObject({ user: 'ada', late: true })
  await go('/logout', jar)
  expect(await go('/', old)).toEqual({})
})

test('nor after a logout that came before the renewal', async () => {
  const store = new session.MemoryStore()
  const loaded = gate()
  const out = gate()
  const app = appOf(
    store,
    {},
    {
      stale: async (req, res) => {
        const held = req.session
        loaded.open()
        await out.opened
        await app.sessions.renew(req)
        await held.save().catch(() => undefined)
        res.send('done')
      },
    },
  )
  const { go } = app
  const jar: Jar = {}
  await go('/login', jar)
  const stale = go('/stale', { ...jar })
  await loaded.opened
  await go('/logout', { ...jar })
  out.open()
  await stale
  expect(await go('/', jar)).toEqual({})
})

test('"log out everywhere" finds a session whose renewal was done and not acknowledged', async () => {
  const store = new session.MemoryStore()
  const { go, sessions } = appOf(store, USER)
  const jar: Jar = {}
  await go('/login', jar)
  const { write } = store
  vi.spyOn(store, 'write').mockImplementation((...args: Parameters<typeof write>) => {
    const version = write.apply(store, args)
    if (args[1].includes('"token"')) throw new Error('the connection is lost right after the write')
    return version
  })
  expect(await go('/renew', { ...jar })).toMatch(/the connection is lost/)
  vi.restoreAllMocks()
  expect(await go('/', jar)).toEqual({}) // the token that it was to get is lost
  expect(await sessions.users.list('ada')).toHaveLength(1)
  await sessions.users.endAll('ada')
  expect(await go('/', jar)).toEqual({})
})

test('with conflict: overwrite, too, a message is delivered once', async () => {
  const store = new session.MemoryStore()
  const { reached, goOn, handler } = slowChange()
  const { go } = appOf(store, { conflict: 'overwrite' }, { slow: handler })
  const jar: Jar = {}
  await go('/add/one', jar)
  const slow = go('/slow', { ...jar })
  await reached.opened
  expect(await go('/take', jar)).toEqual(['one'])
  goOn.open()
  await slow
  expect(await go('/take', jar)).toEqual([])
})

test('the option timeout bounds the index of users, too', async () => {
  const store = Object.assign(new session.MemoryStore(), { link: () => new Promise<void>(() => undefined) })
  const { go } = appOf(store, { ...USER, timeout: 50, onSaveError: 'error' })
  const answer = await Promise.race([
    go('/login', {}),
    settled(1).then(() => new Promise((r) => setTimeout(r, 2000, 'hangs'))),
  ])
  expect(answer).toMatch(/did not answer save/)
})

test('a renewal that the handler does not wait for reaches the browser', async () => {
  const store = new session.MemoryStore()
  writeSlowly(store)
  const app = appOf(
    store,
    { renewalGrace: 30 },
    {
      hasty: (req, res) => {
        void app.sessions.renew(req)
        res.send('done')
      },
    },
  )
  const { go } = app
  const jar: Jar = {}
  await go('/login', jar)
  await go('/hasty', jar)
  await new Promise((resolve) => setTimeout(resolve, 60))
  expect(await go('/', jar)).toMatchObject({ user: 'ada' })
})

test('a save that the handler does not wait for leaves the headers fixed at the end, as in express-session', async () => {
  const store = classicStore(session)
  const sent: boolean[] = []
  const { go } = appOf(
    store,
    {},
    {
      hasty: (req, res) => {
        req.session.user = 'ada'
        void req.session.save()
        res.send('done')
        sent.push(res.headersSent)
      },
    },
  )
  await go('/hasty', {})
  expect(sent).toEqual([true])
  expect(store.records.size).toBe(1)
})
