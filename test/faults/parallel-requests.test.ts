import { gate, settled } from '../support/app'
import { exchange } from '../support/exchange'
import { cookieHeader, idIn, signedCookie } from '../support/set-cookie'
import { SECRET } from '../support/app'
import { appWith, classicStore, fault, record } from './fault'

function read(
  store: { get: (id: string, callback: (error: any, data?: any) => void) => unknown },
  id: string,
): Promise<object | undefined> {
  return new Promise((resolve, reject) =>
    store.get(id, (error, data) => (error ? reject(error as Error) : resolve(data))),
  )
}

fault(4, 'of two requests at once the later save wipes the keys that the other one wrote', {
  async scenario(session) {
    const store = new session.MemoryStore()
    const together = gate()
    let running = 0
    const app = appWith(session, { store }, async (req, res) => {
      if (req.url !== '/login') {
        if (req.session.user !== 'ada') throw new Error('nobody is signed in')
        if (++running === 2) together.open()
        await together.opened
        req.session[req.url] = true
      } else {
        Object.assign(req.session, { user: 'ada' })
      }
      res.send('done')
    })
    const { headers } = await exchange(app as never, { url: '/login' })
    const cookie = cookieHeader(Object.fromEntries(headers))
    await Promise.all(['/one', '/two'].map((url) => exchange(app as never, { url, headers: { cookie } })))
    await settled()
    const { cookie: _, ...data } = (await read(store, idIn(cookie))) as Record<string, unknown>
    return data
  },
  original: { user: 'ada', '/two': true },
  sessile: { user: 'ada', '/one': true, '/two': true },
})

for (const change of ['writes', 'only reads, with resave']) {
  fault(5, `a request that is still running brings a destroyed session back (it ${change})`, {
    async scenario(session) {
      const store = new session.MemoryStore()
      const loggedOut = gate()
      const started = gate()
      const app = appWith(session, { store, resave: change !== 'writes' }, async (req, res) => {
        if (req.url === '/login') req.session.user = 'ada'
        if (req.url === '/logout') {
          req.session.destroy(() => res.send('goodbye'))
          return
        }
        if (req.url === '/slow') {
          if (change === 'writes') req.session.slow = true
          started.open()
          await loggedOut.opened
        }
        res.send(`user ${req.session.user}`)
      })
      const { headers } = await exchange(app as never, { url: '/login' })
      const cookie = cookieHeader(Object.fromEntries(headers))
      const slow = exchange(app as never, { url: '/slow', headers: { cookie } })
      await started.opened
      await exchange(app as never, { url: '/logout', headers: { cookie } })
      loggedOut.open()
      await slow
      await settled()
      return (await exchange(app as never, { url: '/', headers: { cookie } })).body
    },
    original: 'user ada',
    sessile: 'user undefined',
  })
}

fault(22, 'the late cookie of a request that was under way at a login logs the user out', {
  async scenario(session) {
    const loggedIn = gate()
    const started = gate()
    const app = appWith(session, { cookie: { maxAge: 60_000 } }, async (req, res) => {
      if (req.url === '/slow') {
        req.session.slow = true
        started.open()
        await loggedIn.opened
      } else if (req.url === '/login') {
        await new Promise((resolve) => req.session.regenerate(resolve))
        req.session.user = 'ada'
      } else {
        req.session.visits = (req.session.visits ?? 0) + 1
      }
      res.send(`user ${req.session.user}`)
    })
    const cookieOf = ({ headers }: { headers: [string, string][] }): string => cookieHeader(Object.fromEntries(headers))
    const before = cookieOf(await exchange(app as never, { url: '/' }))
    const slow = exchange(app as never, { url: '/slow', headers: { cookie: before } })
    await started.opened
    const login = await exchange(app as never, { url: '/login', headers: { cookie: before } })
    loggedIn.open()
    const cookie = cookieOf(await slow) || cookieOf(login)
    return (await exchange(app as never, { url: '/', headers: { cookie } })).body
  },
  original: 'user undefined',
  sessile: 'user ada',
})

fault(20, 'regenerate and save, as Passport does at every login, write the record twice', {
  async scenario(session) {
    const store = classicStore(session, new Map([['old', record({})]]))
    const app = appWith(session, { store }, (req, res) => {
      req.session.regenerate(() => {
        req.session.user = 'ada'
        req.session.save(() => res.send('hello'))
      })
    })
    await exchange(app as never, { headers: { cookie: signedCookie('old', SECRET) } })
    await settled()
    return store.calls
  },
  original: ['get', 'destroy', 'set', 'set'],
  sessile: ['get', 'destroy', 'set'],
})
