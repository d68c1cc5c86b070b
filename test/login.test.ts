import { createServer, type IncomingMessage } from 'node:http'
import express from 'express'
import { Server, type Socket } from 'socket.io'
import { io } from 'socket.io-client'
import request from 'supertest'
import { describe, expect, test, vi } from 'vitest'
import session, { MemoryStore } from '../src'
import { listen } from './support/app'
import { Exchange } from './support/exchange'
import { toRequests } from './support/lambda'

type Data = Record<string, unknown>
const secret = 'a secret that is long enough for logging in'

function shop(options: session.FurtherOptions = {}) {
  const store = new MemoryStore()
  const sessions = session(secret, { store, hints: false, ...options })
  const app = express()
  app.use(sessions)
  app.get('/', (req, res) => void res.json({ id: req.sessionID, user: (req.session as unknown as Data)['user'] }))
  app.post('/login', async (req, res) => {
    await sessions.login(req, { user: 'ada' } as Data)
    res.redirect('/')
  })
  app.post('/logout', async (req, res) => {
    await sessions.logout(req)
    res.redirect('/')
  })
  app.post('/cart', (req, res) => {
    Object.assign(req.session, { cart: ['apples'] })
    res.json({ id: req.sessionID })
  })
  return { app, sessions, store }
}

describe('sessions.login and sessions.logout', () => {
  test('a new session has the data and nothing of the one before, which is gone', async () => {
    const { app, store } = shop()
    const agent = request.agent(app)
    const before = ((await agent.post('/cart')).body as Data)['id'] as string
    await agent.post('/login').expect(302)
    const { id, user } = (await agent.get('/')).body as Data
    expect(user).toBe('ada')
    expect(id).not.toBe(before)
    expect(store.sessions[before]).toBeUndefined()
    expect(JSON.parse(store.sessions[id as string] ?? '')).toMatchObject({ user: 'ada' })
    expect(store.sessions[id as string]).not.toContain('apples')
  })

  test('the session is stored when login has ended, with one write', async () => {
    const { app, sessions, store } = shop()
    const write = vi.spyOn(store, 'write')
    let stored: unknown
    app.post('/login-and-look', async (req, res) => {
      await sessions.login(req, { user: 'ada' } as Data)
      stored = store.sessions[req.sessionID]
      res.send('done')
    })
    await request(app).post('/login-and-look').expect(200)
    expect(stored).toContain('ada')
    expect(write).toHaveBeenCalledTimes(1)
  })

  test('a logout destroys the session and removes the cookie', async () => {
    const { app, store } = shop()
    const agent = request.agent(app)
    await agent.post('/login')
    const { id } = (await agent.get('/')).body as Data
    const { headers } = await agent.post('/logout').expect(302)
    expect(headers['set-cookie']?.[0]).toMatch(/^connect\.sid=; Path=\/; Expires=Thu, 01 Jan 1970/)
    expect(store.sessions[id as string]).toBeUndefined()
  })

  test('a second logout, and one of who was never logged in, are no errors', async () => {
    const { app, sessions } = shop()
    app.post('/twice', async (req, res) => {
      await sessions.logout(req)
      await sessions.logout(req)
      res.send('out')
    })
    await request(app).post('/logout').expect(302)
    await request(app).post('/twice').expect(200, 'out')
  })

  test('a login after a logout in one request is a new session', async () => {
    const { app, sessions } = shop()
    app.post('/switch', async (req, res) => {
      await sessions.logout(req)
      await sessions.login(req, { user: 'grace' } as Data)
      res.send('switched')
    })
    const agent = request.agent(app)
    await agent.post('/login')
    await agent.post('/switch').expect(200)
    expect(((await agent.get('/')).body as Data)['user']).toBe('grace')
  })

  test('if the store fails, login rejects with its error, and nobody is logged in', async () => {
    const { app, store } = shop()
    vi.spyOn(store, 'write').mockRejectedValue(new Error('the disk is full'))
    const told: string[] = []
    app.use(((error: Error, _req, res, _next) => {
      told.push(error.message)
      res.sendStatus(500)
    }) satisfies express.ErrorRequestHandler)
    const agent = request.agent(app)
    await agent.post('/login').expect(500)
    expect(told).toEqual(['the disk is full'])
    expect(((await agent.get('/')).body as Data)['user']).toBeUndefined()
  })

  test('a request that has not come through this middleware is a TypeError', async () => {
    const { sessions } = shop()
    const { req } = new Exchange()
    await expect(sessions.login(req, {})).rejects.toThrow(/has not come through this session middleware/)
    await expect(sessions.logout(req)).rejects.toThrow(TypeError)
  })
})

describe('of a WebSocket', () => {
  async function withSocket(
    use: (socket: ReturnType<typeof io>, made: ReturnType<typeof shop>, cookie: string) => Promise<void>,
    onConnection: (socket: Socket, sessions: session.Sessions) => void,
  ): Promise<void> {
    const made = shop()
    const server = createServer(made.app)
    const ioServer = new Server(server)
    ioServer.engine.use(made.sessions)
    ioServer.on('connection', (socket) => onConnection(socket, made.sessions))
    const { close, url } = await listen(server)
    const { headers } = await request(url).post('/cart')
    const cookie = String(headers['set-cookie']?.[0]?.split(';')[0])
    const socket = io(url, { transports: ['websocket'], extraHeaders: { cookie }, reconnection: false })
    await new Promise((resolve) => socket.on('connect', () => resolve(undefined)))
    await use(socket, made, cookie)
    socket.close()
    await ioServer.close()
    await close().catch(() => undefined)
  }

  test('socket.io: a logout ends the session of the page, too', async () => {
    await withSocket(
      async (socket, { app }, cookie) => {
        expect(await socket.emitWithAck('logout')).toBe('gone')
        const { body } = await request(app).get('/').set('Cookie', cookie)
        expect(body).not.toHaveProperty('cart')
      },
      (socket, sessions) =>
        socket.on('logout', async (answer: (text: string) => void) => {
          await sessions.logout(socket.request)
          answer('session' in socket.request ? 'still there' : 'gone')
        }),
    )
  })

  test('socket.io: a login stores a session that the socket goes on with', async () => {
    await withSocket(
      async (socket, { store }) => {
        const id = (await socket.emitWithAck('login')) as string
        expect(JSON.parse(store.sessions[id] ?? '')).toMatchObject({ user: 'ada', seen: true })
        expect(Object.keys(store.sessions)).toEqual([id])
      },
      (socket, sessions) =>
        socket.on('login', async (answer: (id: string) => void) => {
          const req = socket.request as IncomingMessage & { session: session.Session & Data }
          await sessions.login(req, { user: 'ada' } as Data)
          req.session['seen'] = true
          await req.session.save()
          answer(req.session.id)
        }),
    )
  })

  test('an upgrade that was loaded: logout ends its session, login is refused where there is none, as no cookie could be set', async () => {
    const { app, sessions, store } = shop()
    const { headers } = await request(app).post('/cart')
    const cookie = String(headers['set-cookie']?.[0]?.split(';')[0])
    const { req } = new Exchange({ headers: { cookie } })
    expect(await sessions.load(req)).toMatchObject({ cart: ['apples'] })
    await sessions.logout(req)
    expect(store.sessions).toEqual({})

    const stranger = new Exchange().req
    expect(await sessions.load(stranger)).toBeUndefined()
    await expect(sessions.login(stranger, { user: 'ada' } as Data)).rejects.toThrow(TypeError)
    expect(store.sessions).toEqual({})
  })
})

describe('of a serverless function', () => {
  test.each(toRequests)('%s: the login sets a cookie, the logout removes it', async (_name, toRequest) => {
    const { app, store } = shop()
    const send = toRequest(app)
    const login = await send('POST', '/login')
    expect(login.status).toBe(302)
    const [cookie = ''] = login.cookies[0]?.split(';') ?? []
    expect((await send('GET', '/', cookie)).body).toContain('"user":"ada"')
    const logout = await send('POST', '/logout', cookie)
    expect(logout.cookies[0]).toMatch(/^connect\.sid=; Path=\/; Expires=Thu, 01 Jan 1970/)
    expect(store.sessions).toEqual({})
  })
})
