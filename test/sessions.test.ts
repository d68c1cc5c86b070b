import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import session from '../src'
import { OPTIONS, record } from './faults/fault'
import { SECRET } from './support/app'
import { signedCookie } from './support/set-cookie'

describe('what is done beside req.session, by promises', () => {
  const calls = {
    renew: 'sessions.renew(req)',
    update: 'sessions.update(req, (one) => void (one.n = 1))',
    'update by ID': "sessions.update('an-id', (one) => void (one.n = 1))",
    destroy: "sessions.destroy('an-id')",
    login: "sessions.login(req, { user: 'ada' })",
    logout: 'sessions.logout(req)',
    'flash().add': "sessions.flash(req).add('note', 'hello')",
    'flash().take': "sessions.flash(req).take('note')",
    'users.end': "sessions.users.end('ada', 'a handle')",
    'users.endAll': 'sessions.users.endAll(req)',
    'users.endOthers': 'sessions.users.endOthers(req)',
    'users.index': 'sessions.users.index()',
  }
  test(`ends no process when nobody awaits it and it fails: ${Object.keys(calls).join(', ')}`, async () => {
    const program = `
      const session = require(${JSON.stringify(path.resolve('dist'))})
      const signature = require('cookie-signature')
      const secret = 'a secret that is long enough for it'
      const fails = async () => { throw new Error('the store is away') }
      class Broken extends session.RecordStore {
        async read() {
          const cookie = { originalMaxAge: null, sessile: { flash: { note: ['hello'] } } }
          return { text: JSON.stringify({ cookie }), expires: Date.now() + 1e6, version: 1 }
        }
      }
      for (const method of ['write', 'renew', 'remove', 'scan', 'link', 'unlink', 'linked']) Broken.prototype[method] = fails
      const user = () => 'ada'
      const sessions = session({ secret, resave: false, saveUninitialized: false, store: new Broken(), user })
      const cookie = 'connect.sid=' + encodeURIComponent('s:' + signature.sign('an-id', secret))
      const calls = { ${Object.entries(calls)
        .map(([name, call]) => `'${name}': (req) => { ${call} }`)
        .join(', ')} }
      async function callEach() {
        for (const [name, call] of Object.entries(calls)) {
          const req = { headers: { cookie }, url: '/', socket: {} }
          await new Promise((resolve) => sessions(req, {}, resolve))
          call(req)
          await new Promise((resolve) => setTimeout(resolve, 50))
          console.log(name)
        }
      }
      callEach()`
    const { stdout } = await promisify(execFile)(process.execPath, ['-e', program])
    expect(stdout.trim().split('\n')).toEqual(Object.keys(calls))
  })

  test('load leaves nothing of an ID on the request that leads to no session', async () => {
    const store = new session.MemoryStore()
    store.sessions['known'] = record({ user: 'ada' })
    const transport = { read: (req: object) => (req as { id: string }).id, write: () => undefined }
    for (const sessions of [session({ ...OPTIONS, store }), session({ ...OPTIONS, store, transport })]) {
      const request = (id: string) => ({ url: '/', id, headers: { cookie: signedCookie(id, SECRET) } })
      const unknown = request('unknown')
      expect(await sessions.load(unknown as never)).toBeUndefined()
      expect(unknown).not.toHaveProperty('sessionID')
      const known = request('known')
      expect(await sessions.load(known as never)).toMatchObject({ user: 'ada' })
      expect(known).toHaveProperty('sessionID', 'known')
    }
  })
})
