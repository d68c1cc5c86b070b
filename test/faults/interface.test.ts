import { expect, test } from 'vitest'
import sessile from '../../src'
import { SECRET, settled } from '../support/app'
import { exchange } from '../support/exchange'
import { signedCookie } from '../support/set-cookie'
import { appWith, classicStore, fault, inProcess, record, type AnySession } from './fault'

fault(11, 'the methods of a session take callbacks only', {
  async scenario(session) {
    const returned: Record<string, boolean> = {}
    const isPromise = (value: unknown): boolean => value instanceof Promise
    const app = appWith(session, {}, (req, res) => {
      returned['save'] = isPromise(req.session.save())
      returned['destroy'] = isPromise(req.session.destroy())
      res.send('done')
    })
    await exchange(app as never)
    return returned
  },
  original: { save: false, destroy: false },
  sessile: { save: true, destroy: true },
})

for (const method of ['reload', 'regenerate']) {
  fault(11, `${method} without a callback ends the process`, {
    scenario: (session) =>
      inProcess(
        session,
        `const app = require('express')()
        app.use(session({ secret: 's', resave: false, saveUninitialized: false }))
        app.get('/', (req, res) => req.session.save(() => {
          const done = req.session.${method}()
          Promise.resolve(done).then(() => setImmediate(() => res.send('done')))
        }))
        const server = app.listen(0, async () => {
          console.log(await (await fetch('http://localhost:' + server.address().port)).text())
          process.exit()
        })`,
      ),
    original: 'dies',
    sessile: 'done',
  })
}

test('the promises of a session: what they do and how they fail', async () => {
  const store = classicStore(sessile, new Map([['known', record({ user: 'ada' })]]))
  const app = appWith(sessile, { store }, async (req, res) => {
    const { id } = req.session
    req.session.user = 'grace'
    await req.session.save()
    expect(JSON.parse(store.records.get(id) ?? '')).toMatchObject({ user: 'grace' })

    store.records.set(id, record({ user: 'joan' }))
    await req.session.reload()
    expect(req.session.user).toBe('joan')

    store.records.delete(id)
    await expect(req.session.reload()).rejects.toThrow('failed to load session')

    await req.session.regenerate()
    expect(req.session.id).not.toBe(id)
    await req.session.save()
    expect(store.records.size).toBe(1)

    await req.session.destroy()
    expect([req.session, store.records.size]).toEqual([undefined, 0])
    res.send('done')
  })
  expect(await exchange(app as never, { headers: { cookie: signedCookie('known', SECRET) } })).toMatchObject({
    body: 'done',
  })
})

test('a promise that fails and that nobody awaits ends nothing', async () => {
  const unhandled: unknown[] = []
  const listen = (reason: unknown): unknown => unhandled.push(reason)
  process.on('unhandledRejection', listen)
  const store = classicStore(sessile)
  store.set = (_id, _data, callback) => setImmediate(() => callback?.(new Error('the store is full')))
  store.destroy = (_id, callback) => setImmediate(() => callback?.(new Error('the store is full')))
  const app = appWith(sessile, { store }, (req, res) => {
    const session: AnySession = req.session
    void session.save()
    void session.reload()
    void session.regenerate()
    void session.destroy()
    setImmediate(() => res.send('done'))
  })
  expect((await exchange(app as never)).body).toBe('done')
  await settled()
  process.off('unhandledRejection', listen)
  expect(unhandled).toEqual([])
})
