import express from 'express'
import request from 'supertest'
import { afterEach, describe, expect, test, vi } from 'vitest'
import session, { MemoryStore } from '../src'

type Data = Record<string, unknown>
const secret = 'a secret that is long enough for the short form'

afterEach(() => {
  vi.unstubAllEnvs()
  vi.useRealTimers()
  vi.restoreAllMocks()
})

function appWith(sessions: session.Sessions): express.Express {
  const app = express()
  app.set('trust proxy', 1)
  app.set('env', 'test')
  app.use(sessions)
  app.get('/read', (req, res) => void res.json((req.session as unknown as Data)['n'] ?? null))
  app.get('/write', (req, res) => void res.json(((req.session as unknown as Data)['n'] = 1)))
  app.get('/destroy', async (req, res) => {
    await req.session.destroy()
    res.send('gone')
  })
  return app
}

async function cookieOf(sessions: session.Sessions, headers: Record<string, string> = {}): Promise<string> {
  const res = await request(appWith(sessions)).get('/write').set(headers).expect(200)
  return res.get('Set-Cookie')?.[0] ?? ''
}

const attributes = async (options?: session.FurtherOptions): Promise<string> => {
  const sessions = options ? session(secret, options) : session(secret)
  const line = await cookieOf(sessions, { 'X-Forwarded-Proto': 'https' })
  return line.slice(line.indexOf(';')).replace(/Expires=[^;]*/, 'Expires=…')
}

describe('session(secret, options)', () => {
  test('gives the recommended options to each call, with options and without', async () => {
    for (const options of [undefined, {}, { store: new MemoryStore() }]) {
      const write = vi.spyOn(MemoryStore.prototype, 'write')
      const app = appWith(options ? session(secret, options) : session(secret))
      expect((await request(app).get('/read')).get('Set-Cookie'), 'saveUninitialized: false').toBeUndefined()
      const cookie = (await request(app).get('/write')).get('Set-Cookie')?.[0]?.split(';')[0] ?? ''
      await request(app).get('/read').set('Cookie', cookie).expect('1')
      expect(write, 'resave: false').toHaveBeenCalledTimes(1)
      const gone = await request(app).get('/destroy').set('Cookie', cookie)
      expect(gone.get('Set-Cookie')?.[0], 'clearCookie: true').toMatch(/^connect\.sid=; .*Expires=Thu, 01 Jan 1970/)
      write.mockRestore()
    }
  })

  test('a request waits 30 seconds for a store, also for a classic one', async () => {
    class Silent extends session.Store {
      override get = (): void => undefined
      override set = (): void => undefined
      override destroy = (): void => undefined
    }
    const cookie = (await cookieOf(session(secret, { store: new MemoryStore() }))).split(';')[0] ?? ''
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const next = vi.fn()
    const call = (sessions: session.Sessions): void =>
      sessions(
        { headers: { cookie }, url: '/', socket: {} } as never,
        { end() {}, write() {}, writeHead() {} } as never,
        next,
      )
    call(session(secret, { store: new Silent() }))
    await vi.advanceTimersByTimeAsync(29_999)
    expect(next).not.toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(1)
    vi.useRealTimers()
    await vi.waitFor(() => expect(next).toHaveBeenCalledTimes(1))
    expect(next.mock.calls[0]?.[0]).toMatchObject({ code: 'ERR_SESSION_STORE_TIMEOUT' })
  })

  test('what is given wins', async () => {
    const store = new MemoryStore()
    const write = vi.spyOn(store, 'write')
    const sessions = session(secret, { store, resave: true, saveUninitialized: true, clearCookie: false })
    const app = appWith(sessions)
    const cookie = (await request(app).get('/read')).get('Set-Cookie')?.[0]?.split(';')[0] ?? ''
    expect(cookie).not.toBe('')
    await request(app).get('/read').set('Cookie', cookie)
    expect(write).toHaveBeenCalledTimes(2)
    expect((await request(app).get('/destroy').set('Cookie', cookie)).get('Set-Cookie')).toBeUndefined()
  })

  test('in production, each setting of the cookie can be replaced by itself', async () => {
    vi.stubEnv('NODE_ENV', 'production')
    vi.spyOn(console, 'warn').mockReturnValue(undefined)
    const recommended = '; Path=/; HttpOnly; Secure; SameSite=Lax'
    expect(await attributes()).toBe(recommended)
    expect(await attributes({})).toBe(recommended)
    expect(await attributes({ cookie: undefined })).toBe(recommended)
    expect(await attributes({ cookie: { maxAge: 60_000_000 } })).toBe(
      '; Path=/; Expires=…; HttpOnly; Secure; SameSite=Lax',
    )
    expect(await attributes({ cookie: { sameSite: 'strict' } })).toBe('; Path=/; HttpOnly; Secure; SameSite=Strict')
    expect(await attributes({ cookie: { secure: false } })).toBe('; Path=/; HttpOnly; SameSite=Lax')
    expect(await attributes({ cookie: () => ({ path: '/', httpOnly: false }) })).toBe('; Path=/; Secure; SameSite=Lax')
  })

  test('outside of production the cookie has the defaults of express-session', async () => {
    vi.stubEnv('NODE_ENV', 'development')
    expect(await attributes({ hints: false })).toBe('; Path=/; HttpOnly')
    expect(await attributes({ hints: false, cookie: { sameSite: 'lax' } })).toBe('; Path=/; HttpOnly; SameSite=Lax')
  })

  test('in production, too, a cookie function that returns a promise is an error', async () => {
    vi.stubEnv('NODE_ENV', 'production')
    vi.spyOn(console, 'warn').mockReturnValue(undefined)
    const app = appWith(session(secret, { cookie: (() => Promise.resolve({})) as never }))
    app.use(
      ((error: Error, _req, res, _next) => void res.status(500).send(error.message)) as express.ErrorRequestHandler,
    )
    const { text } = await request(app).get('/read').expect(500)
    expect(text).toBe('cookie option must return settings, not a promise')
  })

  test('the options that are given are not changed', () => {
    const options = Object.freeze({ cookie: Object.freeze({ maxAge: 60_000_000 }) })
    session(secret, options)
    expect(options).toEqual({ cookie: { maxAge: 60_000_000 } })
  })
})
