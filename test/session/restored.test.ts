import { expect, test } from 'vitest'
import session from '../../src'
import { appWith, appWithSessions, classicStore } from '../faults/fault'
import { SECRET } from '../support/app'
import { exchange } from '../support/exchange'
import { signedCookie } from '../support/set-cookie'

const ID = 'an-id-0123456789'
const headers = { cookie: signedCookie(ID, SECRET) }
const stored = (cookie: string): string => `{"cookie":${cookie},"user":"ada"}`

/** Stores in which somebody who can write to them has put a text. */
const stores: Record<string, (text: string) => session.Store> = {
  'a record store': (text) => {
    const store = new session.MemoryStore()
    store.sessions[ID] = text
    return store
  },
  'a classic store': (text) => classicStore(session, new Map([[ID, text]])),
}
const cases = (texts: string[]): [string, string][] =>
  Object.keys(stores).flatMap((store) => texts.map((text): [string, string] => [store, text]))

test.each(
  cases([
    '{"originalMaxAge":null,"__proto__":{"polluted":true}}',
    '{"originalMaxAge":null,"constructor":{"prototype":{"polluted":true}}}',
    '{"originalMaxAge":null,"toJSON":"no function","serialize":1,"data":{}}',
    '{"originalMaxAge":null,"maxAge":"abc"}',
    '{"originalMaxAge":null,"movedTo":5}',
  ]),
)('%s: what is no setting of a cookie counts for nothing: %s', async (name, cookie) => {
  let restored: unknown
  const app = appWith(session, { store: stores[name]!(stored(cookie)) }, (req, res) => {
    restored = req.session.cookie
    req.session['n'] = 1
    res.send(String(req.session['user']))
  })
  expect(await exchange(app, { headers })).toMatchObject({ status: 200, body: 'ada' })
  expect(restored).toBeInstanceOf(session.Cookie)
  expect((restored as { polluted?: true }).polluted).toBeUndefined()
  expect(({} as { polluted?: true }).polluted).toBeUndefined()
  expect((await exchange(app, { headers })).body).toBe('ada')
})

test.each(
  cases(['{"sessile":"abc"}', '{"sessile":{"created":"yesterday"}}', '{"sessile":{"flash":null}}', 'null', '5']),
)('%s: a cookie that is none is an invalid record, which can be replaced: %s', async (name, cookie) => {
  const visit = (onInvalidRecord: 'error' | 'replace') => {
    const store = stores[name]!(stored(cookie))
    const { app } = appWithSessions({ store, onInvalidRecord }, (req, res) => {
      res.send(String(req.session['user']))
    })
    return exchange(app, { headers })
  }
  expect((await visit('error')).status).toBe(500)
  expect(await visit('replace')).toMatchObject({ status: 200, body: 'undefined' })
})
