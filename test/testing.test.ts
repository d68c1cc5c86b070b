import express from 'express'
import request from 'supertest'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import session, { MemoryStore } from '../src'
import { signedCookie } from '../src/testing'

const secret = 'a secret that is long enough for this test'
type Data = Record<string, unknown>
const ada = { user: 'ada' } as object

function appWith(sessions: session.Sessions): express.Express {
  const app = express()
  app.use(sessions)
  app.use((req, res) => void res.json(req.session))
  return app
}

describe('signedCookie: a login in one call', () => {
  const key = Buffer.alloc(32, 7)
  test.each<[string, session.FurtherOptions]>([
    ['by default', {}],
    ['under another name', { name: 'shop' }],
    ['with a name that is signed, too', { name: 'shop', signName: true }],
    ['with hashed IDs', { hashIds: true }],
    ['with encryption', { encryption: key }],
    ['with both, and old keys', { hashIds: true, encryption: [key, Buffer.alloc(32, 8)] }],
    ['with a Secure cookie', { cookie: { secure: true, sameSite: 'none' } }],
    ['with a cookie for one path', { cookie: { path: '/admin' } }],
    ['with a cookie by the request', { cookie: (req) => ({ maxAge: req.path === '/' ? 5000 : 6000 }) }],
    ['with timeouts', { idleTimeout: 500_000, absoluteTimeout: 900_000, renewalTimeout: 200_000 }],
    ['with IDs of its own', { genid: (req) => Promise.resolve(`id-${req.path.length}`) }],
    ['where requests are skipped', { skip: (req) => req.method === 'POST' }],
  ])('%s', async (_, options) => {
    const sessions = session(secret, options)
    const cookie = await signedCookie(sessions, ada)
    const { body, headers } = await request(appWith(sessions)).get('/admin').set('Cookie', cookie)
    expect(body).toMatchObject({ user: 'ada' })
    expect(headers['set-cookie']).toBeUndefined()
  })

  test('with a list of secrets: the first signs', async () => {
    const sessions = session([secret, 'the one before, which is long enough'])
    const { body, headers } = await request(appWith(sessions))
      .get('/')
      .set('Cookie', await signedCookie(sessions, ada))
    expect(body).toMatchObject({ user: 'ada' })
    expect(headers['set-cookie'], 'a cookie of another secret would be signed anew').toBeUndefined()
  })

  test('with the lifetime and the end of the options', async () => {
    vi.useFakeTimers({ toFake: ['Date'], now: 1_800_000_000_000 })
    try {
      const sessions = session(secret, { cookie: { maxAge: 5000 }, absoluteTimeout: 8000 })
      const cookie = await signedCookie(sessions, ada)
      const user = async (): Promise<unknown> =>
        ((await request(appWith(sessions)).get('/').set('Cookie', cookie)).body as Data)['user']
      for (const [ms, seen] of [
        [4000, 'ada'],
        [3000, 'ada'],
        [1500, undefined],
      ] as const) {
        vi.setSystemTime(Date.now() + ms)
        expect(await user()).toBe(seen)
      }
    } finally {
      vi.useRealTimers()
    }
  })

  test('it is one of the user’s sessions, described, and counts for their number', async () => {
    const sessions = session(secret, {
      user: (data) => (data as unknown as Data)['user'] as string,
      describe: (req) => ({ agent: req.get('user-agent') ?? 'a test', address: req.ip }),
      maxSessionsPerUser: 2,
    })
    // Of logins within one millisecond none is older than another.
    const begun = Date.now()
    const loginAfter = (ms: number): Promise<string> => {
      vi.setSystemTime(begun + ms)
      return signedCookie(sessions, ada)
    }
    vi.useFakeTimers({ toFake: ['Date'] })
    onTestFinished(() => void vi.useRealTimers())
    const cookies = [await loginAfter(0), await loginAfter(1)]
    const listed = await sessions.users.list('ada')
    expect(listed.map(({ about }) => about)).toEqual([1, 2].map(() => ({ agent: 'a test', address: '127.0.0.1' })))
    await loginAfter(2)
    const { body } = await request(appWith(sessions))
      .get('/')
      .set('Cookie', cookies[0] as string)
    expect(body, 'the oldest one has ended').not.toHaveProperty('user')
  })

  test('on a classic store, and with a serializer', async () => {
    class Classic extends session.Store {
      readonly kept = new Map<string, string>()
      override get = (id: string, callback: (error: unknown, data?: never) => void): void =>
        callback(null, JSON.parse(this.kept.get(id) ?? 'null') as never)
      override set = (id: string, data: object, callback?: () => void): void => {
        this.kept.set(id, JSON.stringify(data))
        callback?.()
      }
      override destroy = (id: string, callback?: () => void): void => {
        this.kept.delete(id)
        callback?.()
      }
    }
    const serializer = {
      stringify: (data: object) => `text:${JSON.stringify(data)}`,
      parse: (text: string): unknown => JSON.parse(text.slice(5)),
    }
    for (const store of [new Classic(), Object.assign(new MemoryStore(), { serializer })]) {
      const sessions = session(secret, { store })
      const { body } = await request(appWith(sessions))
        .get('/')
        .set('Cookie', await signedCookie(sessions, ada))
      expect(body).toMatchObject({ user: 'ada' })
    }
  })

  test('what it cannot do is a TypeError', async () => {
    await expect(signedCookie({ store: new MemoryStore() } as never, ada)).rejects.toThrow(
      /^signedCookie takes what session\(\) returned/,
    )
    await expect(signedCookie(session(secret, { transport: session.bearer() }), ada)).rejects.toThrow(/have no cookie/)
    const bySecretOfRequest = session({ resave: false, saveUninitialized: false })
    await expect(signedCookie(bySecretOfRequest, ada)).rejects.toThrow(/have no secret/)
  })
})
