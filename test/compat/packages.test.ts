import { randomBytes } from 'node:crypto'
import mysql from 'mysql2/promise'
import pg from 'pg'
import { createClient } from 'redis'
import { io, type Socket } from 'socket.io-client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { AliasProject, type RunningProgram } from '../support/alias-project'
import { describeWith } from '../support/servers'

let project: AliasProject
beforeAll(() => void (project = new AliasProject()))
afterAll(() => project.close())

const NAME = 'alias_' + randomBytes(6).toString('hex')

describe('passport 0.7 with passport-local, and connect-flash', () => {
  let program: RunningProgram
  beforeAll(async () => void (program = await project.start('passport.cjs')))

  test('they get sessile for express-session', async () => expect((await program.ready).sessions).toBe('sessile'))

  test('a login gives a new ID and leaves nothing else behind', async () => {
    const browser = program.browser()
    await browser.get('/cart?put=apples')
    const before = browser.cookie
    expect((await browser.get('/login?username=ada&password=right')).headers.location).toBe('/me')
    expect(browser.cookie).not.toBe(before)
    expect(JSON.parse(await browser.body('/me'))).toEqual({ user: 'ada' })

    const thief = program.browser()
    thief.cookies.set('connect.sid', before.slice('connect.sid='.length))
    expect(await thief.body('/me')).toBe('{}')
  })

  test('a login that keeps the session information keeps it', async () => {
    const browser = program.browser()
    await browser.get('/cart?put=apples')
    const before = browser.cookie
    expect(await browser.body('/login-keeping?username=ada&password=right')).toBe('ada')
    expect(browser.cookie).not.toBe(before)
    expect(JSON.parse(await browser.body('/me'))).toEqual({ user: 'ada', cart: 'apples' })
  })

  test('a failed login leaves a message that is shown once', async () => {
    const browser = program.browser()
    expect((await browser.get('/login?username=ada&password=wrong')).headers.location).toBe('/failed')
    expect(await browser.body('/failed')).toBe('wrong password')
    expect(await browser.body('/failed')).toBe('')
  })

  test('a logout gives a new ID, and the old cookie is worth nothing', async () => {
    const browser = program.browser()
    await browser.get('/login?username=ada&password=right')
    const before = browser.cookie
    expect((await browser.get('/logout')).headers.location).toBe('/me')
    expect(await browser.body('/me')).toBe('{}')
    browser.cookies.set('connect.sid', before.slice('connect.sid='.length))
    expect(await browser.body('/me')).toBe('{}')
  })

  test('a logout whose session is destroyed at the same time is told so, and ends no process', async () => {
    const browser = program.browser()
    await browser.get('/login?username=ada&password=right')
    const before = browser.cookie
    expect(await browser.body('/logout-and-destroy')).toBe('ERR_SESSION_DESTROYED')
    browser.cookies.set('connect.sid', before.slice('connect.sid='.length))
    expect(await browser.body('/me')).toBe('{}')
  })
})

/** What every store does for an app. */
function storeTests(store: string): void {
  let program: RunningProgram
  beforeAll(async () => void (program = await project.start('store.cjs', { STORE: store, NAME })))

  test('it gets sessile for express-session, and its Store', async () => {
    expect(await program.ready).toMatchObject({ sessions: 'sessile', ownStore: true })
  })

  test('counts across requests, for each browser by itself', async () => {
    const [one, other] = [program.browser(), program.browser()]
    expect([await one.body('/count'), await one.body('/count'), await other.body('/count')]).toEqual(['1', '2', '1'])
    expect(await one.body('/read')).toMatch(/^undefined 2 /)
  })

  test('regenerate and save at a login, destroy at a logout', async () => {
    const browser = program.browser()
    await browser.get('/count')
    const oldId = (await browser.body('/read')).split(' ')[2]
    expect(await browser.get('/login?user=ada')).toMatchObject({ status: 200, body: 'done' })
    const [user, views, id] = (await browser.body('/read')).split(' ')
    expect([user, views, id === oldId]).toEqual(['ada', 'undefined', false])
    const exists = (id: string | undefined): Promise<string> => program.browser().body(`/exists?id=${id}`)
    expect([await exists(oldId), await exists(id)]).toEqual(['false', 'true'])

    expect(await browser.get('/logout')).toMatchObject({ status: 200, body: 'done' })
    expect(await exists(id)).toBe('false')
    expect(await browser.body('/read')).toMatch(/^undefined undefined /)
  })

  test('reload gives what is stored', async () => {
    const browser = program.browser()
    await browser.get('/login?user=ada')
    expect(await browser.body('/reload')).toBe('ada')
  })

  test('many requests at once', async () => {
    const browsers = Array.from({ length: 30 }, () => program.browser())
    await Promise.all(browsers.map((browser) => browser.get('/count')))
    expect(await Promise.all(browsers.map((browser) => browser.body('/count')))).toEqual(browsers.map(() => '2'))
  })
}

describe('memorystore', () => storeTests('memorystore'))

describe('session-file-store', () => storeTests('session-file-store'))

describeWith('redis', 'connect-redis 9', () => {
  storeTests('connect-redis')

  afterAll(async () => {
    const client = await createClient().connect()
    for await (const keys of client.scanIterator({ MATCH: `${NAME}:*` })) if (keys.length > 0) await client.del(keys)
    client.destroy()
  })
})

describeWith('postgres', 'connect-pg-simple 10', () => {
  beforeAll(() => query(`CREATE SCHEMA ${NAME}`))
  storeTests('connect-pg-simple')
  afterAll(() => query(`DROP SCHEMA ${NAME} CASCADE`))

  async function query(sql: string): Promise<void> {
    const client = new pg.Client({ host: '127.0.0.1', user: 'postgres', database: 'test' })
    await client.connect()
    await client.query(sql)
    await client.end()
  }
})

describeWith('mysql', 'express-mysql-session 3', () => {
  storeTests('express-mysql-session')

  afterAll(async () => {
    const connection = await mysql.createConnection({ host: '127.0.0.1', user: 'root', database: 'test' })
    await connection.query(`DROP TABLE IF EXISTS \`${NAME}\``)
    await connection.end()
  })
})

describe('socket.io with io.engine.use', () => {
  let program: RunningProgram
  const sockets: Socket[] = []
  beforeAll(async () => void (program = await project.start('socketio.cjs')))
  afterAll(() => sockets.forEach((socket) => socket.close()))

  function connect(options: object): Socket {
    const socket = io(`http://127.0.0.1:${program.port}`, { forceNew: true, reconnection: false, ...options })
    sockets.push(socket)
    return socket
  }

  async function connected(options: object): Promise<Socket> {
    const socket = connect(options)
    await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('connect_error', reject))
    return socket
  }

  test('it gets sessile for express-session', async () => expect((await program.ready).sessions).toBe('sessile'))

  test.each(['polling', 'websocket'])(
    'a socket over %s has the session of its browser, and writes it',
    async (transport) => {
      const browser = program.browser()
      await browser.get('/login?user=ada')
      const socket = await connected({ transports: [transport], extraHeaders: { cookie: browser.cookie } })
      expect(await socket.emitWithAck('whoami')).toBe('ada')
      expect(await socket.emitWithAck('count')).toBe(1)
      expect(await socket.emitWithAck('count')).toBe(2)
      expect(await browser.body('/me')).toBe('ada 2')
    },
  )

  test('a socket without a cookie has a session of its own', async () => {
    const socket = await connected({ transports: ['websocket'] })
    expect(await socket.emitWithAck('whoami')).toBeNull()
  })

  test.each(['polling', 'websocket'])('a refused handshake over %s ends nothing', async (transport) => {
    const socket = connect({ transports: [transport], query: { refuse: '1' } })
    await new Promise((resolve) => socket.once('connect_error', resolve))
    expect(program.alive).toBe(true)
    expect(await program.browser().body('/me')).toBe('undefined undefined')
  })
})

describe('responses that are not Node’s own', () => {
  test.each([
    '@codegenie/serverless-express',
    '@vendia/serverless-express',
    '@h4ad/serverless-adapter',
    '@h4ad/serverless-adapter, streaming',
    'serverless-http',
    'light-my-request',
    'node-mocks-http',
    '@fastify/express',
    'engine.io',
  ])('%s: status, body, cookie and session arrive, from stores that answer at once and later', async (name) => {
    // Some of them change what others find on Node's responses, so each has a process of its own.
    const program = await project.start('responses.cjs')
    expect((await program.ready).sessions).toBe('sessile')
    expect(await program.browser().body(`/${encodeURIComponent(name)}`)).toBe('[]')
    expect(program.alive).toBe(true)
    await program.stop()
  })
})
