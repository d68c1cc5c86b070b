import type { Request } from 'express'
import { describe, expect, test } from 'vitest'
import session, { MemoryStore, type WriteCondition } from '../../src'
import { appWithSessions, type AnySession } from '../faults/fault'
import { gate } from '../support/app'
import { visitAndSettle, type Jar } from '../support/browser'

/** A memory store in which another process changes every session right before it is written. */
class Contested extends MemoryStore {
  times = 0
  override write(id: string, text: string, expires: number, condition: WriteCondition): string | null {
    if (typeof condition === 'object' && this.times-- > 0) {
      const theirs = JSON.parse(super.read(id)?.text ?? '{}') as { others?: number }
      super.write(id, JSON.stringify({ ...theirs, others: (theirs.others ?? 0) + 1 }), expires, 'always')
    }
    return super.write(id, text, expires, condition)
  }
}

type Change = (one: AnySession, req: Request) => unknown

/** A visitor who is in a session, and what is stored after a request that changes it. */
async function changed(store: MemoryStore, options: session.SessionOptions, change: Change) {
  const { app, sessions } = appWithSessions({ store, ...options }, async (req, res) => {
    if (req.url === '/login') Object.assign(req.session, { user: 'ada', n: 0 })
    else await change(req.session, req)
    res.send('done')
  })
  const events: unknown[] = []
  sessions.events.on('conflict', ({ tries, merged }) => events.push({ tries, merged }))
  const jar: Jar = {}
  await visitAndSettle(app, '/login', jar)
  if (store instanceof Contested) store.times = 5
  const go = (path: string) => visitAndSettle(app, path, jar)
  return { go, events, stored: () => JSON.parse(Object.values(store.sessions)[0] ?? '{}') as Record<string, unknown> }
}

describe('a session that others keep changing', () => {
  test('is loaded, merged and written again, until nobody was faster', async () => {
    const { go, events, stored } = await changed(new Contested(), {}, (one) => (one['mine'] = 1))
    expect((await go('/')).status).toBe(200)
    expect(stored()).toMatchObject({ user: 'ada', mine: 1, others: 5 })
    expect(events).toEqual([{ tries: 5, merged: true }])
  })

  test('and of which the request had looked at what they changed, is its own as a whole', async () => {
    const { go, events, stored } = await changed(new Contested(), {}, (one) => (one['mine'] = one['others'] ?? 0))
    await go('/')
    expect(stored()).toMatchObject({ user: 'ada', mine: 0 })
    expect(stored()).not.toHaveProperty('others')
    expect(events).toEqual([{ tries: 5, merged: false }])
  })

  test('or is refused, where the option says so', async () => {
    const { go, stored } = await changed(
      new Contested(),
      { conflict: 'error' },
      (one) => (one['mine'] = one['others'] ?? 0),
    )
    expect(await go('/')).toMatchObject({ status: 500 })
    expect(stored()).toMatchObject({ user: 'ada', others: 1 })
    expect(stored()).not.toHaveProperty('mine')
  })

  test('is overwritten, where the option says so, and no event tells of it', async () => {
    const { go, events, stored } = await changed(new Contested(), { conflict: 'overwrite' }, (one) => (one['mine'] = 1))
    await go('/')
    expect(stored()).toMatchObject({ mine: 1 })
    expect(stored()).not.toHaveProperty('others')
    expect(events).toEqual([])
  })
})

test('an update is exact, whatever its request has looked at and changed besides', async () => {
  const store = new MemoryStore()
  const together = gate()
  let running = 0
  const { app, sessions } = appWithSessions({ store }, async (req, res) => {
    const one = req.session
    if (req.url === '/login') Object.assign(one, { user: 'ada', n: 0 })
    else {
      void one['n']
      if (++running === 10) together.open()
      await together.opened
      await sessions.update(
        req,
        (newest) => void ((newest as AnySession)['n'] = Number((newest as AnySession)['n']) + 1),
      )
    }
    res.send('done')
  })
  const jar: Jar = {}
  await visitAndSettle(app, '/login', jar)
  await Promise.all(Array.from({ length: 10 }, () => visitAndSettle(app, '/add', { ...jar })))
  expect(JSON.parse(Object.values(store.sessions)[0] ?? '{}')).toMatchObject({ user: 'ada', n: 10 })
})

test('two steps of a login at once never make a session that has both', async () => {
  for (const last of ['code', 'password']) {
    const store = new MemoryStore()
    const gates = { code: gate(), password: gate() }
    const { app } = appWithSessions({ store }, async (req, res) => {
      const one = req.session
      if (req.url === '/login') Object.assign(one, { pending: 'mallory', passed: false })
      if (req.url === '/code') {
        void one['pending']
        await gates.code.opened
        one['passed'] = true
      }
      if (req.url === '/password') {
        await gates.password.opened
        Object.assign(one, { pending: 'admin', passed: false })
      }
      res.send('done')
    })
    const jar: Jar = {}
    await visitAndSettle(app, '/login', jar)
    const answers = {
      code: visitAndSettle(app, '/code', { ...jar }),
      password: visitAndSettle(app, '/password', { ...jar }),
    }
    const first = last === 'code' ? 'password' : 'code'
    gates[first].open()
    await answers[first]
    gates[last as 'code'].open()
    await answers[last as 'code']
    const stored = JSON.parse(Object.values(store.sessions)[0] ?? '{}') as { pending: string; passed: boolean }
    expect([stored.pending, stored.passed]).not.toEqual(['admin', true])
  }
})
