import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { io as connect } from 'socket.io-client'
import request from 'supertest'
import { afterEach, describe, expect, test } from 'vitest'
import { start, stop } from '../support/examples'
import { describeWith } from '../support/servers'

const root = path.join(__dirname, '../..')
afterEach(stop)

describe('examples', () => {
  test('npm start runs the view counter, which counts for each visitor and page', async () => {
    const address = await start('node', 'examples/view-counter')
    const agent = request.agent(address)
    await agent.get('/a').expect(200, 'You have seen /a 1 times\n')
    await agent.get('/a').expect(200, 'You have seen /a 2 times\n')
    await agent.get('/b').expect(200, 'You have seen /b 1 times\n')
    await request(address).get('/a').expect(200, 'You have seen /a 1 times\n')
  })

  test('each prints its address and no warning of the library', { tags: ['slow'] }, async () => {
    for (const example of ['view-counter', 'login', 'socket.io', 'passport', 'server-sent-events']) {
      const child = spawn('node', [`examples/${example}`], {
        cwd: root,
        env: { ...process.env, PORT: '0', SESSION_SECRET: undefined },
      })
      let warned = ''
      child.stderr.setEncoding('utf8').on('data', (chunk: string) => (warned += chunk))
      const [printed] = (await once(child.stdout, 'data')) as [Buffer]
      const [address = ''] = /http:\S+/.exec(printed.toString()) ?? []
      expect((await fetch(address)).status, `${example}: its address answers a browser`).toBe(200)
      child.kill()
      await once(child, 'close')
      expect(warned, example).toBe('')
    }
  })

  test('those that have their types checked compile', { tags: ['slow'], timeout: 120_000 }, () => {
    // One at a time: each declares what its own sessions have.
    for (const name of ['view-counter', 'login', 'account']) {
      const files = [`examples/${name}/index.js`, `examples/${name}/session.d.ts`]
      const options = '--noEmit --allowJs --checkJs --strict --skipLibCheck --module node16 --types node'.split(' ')
      execFileSync('node', [path.join(root, 'node_modules/typescript/bin/tsc'), ...options, ...files], { cwd: root })
    }
  })

  test('login: a form, a new ID at the login, nothing left after the logout', async () => {
    const address = await start('node', 'examples/login')
    const agent = request.agent(address)
    await agent.post('/login').send('name=ada&password=wrong').expect(401)
    const login = await agent.post('/login').send('name=ada&password=lovelace').expect(302).expect('Location', '/')
    await agent.get('/').expect(200, /Hello ada/)
    await agent.post('/logout').expect(302)
    await agent.get('/').expect(200, /Log in/)
    const [old = ''] = login.headers['set-cookie'] as unknown as string[]
    const { text } = await request(address)
      .get('/')
      .set('Cookie', old.split(';')[0] ?? '')
      .expect(200)
    expect(text, 'the old cookie is worth nothing').toContain('Log in')
  })

  test.each([
    ['cookie-parser', '/', 'visits: 1, cookies: 0', 'visits: 2, cookies: 1'],
    ['views-per-path', '/foo', 'you viewed this page 1 times', 'you viewed this page 2 times'],
    ['page-views', '/', 'Welcome to this page for the first time!', 'You visited this page 2 times'],
  ])('tutorial: %s', async (name, url, first, second) => {
    const agent = request.agent(await start('node', `examples/tutorials/${name}.js`))
    await agent.get(url).expect(200, first)
    await agent.get(url).expect(200, second)
  })

  test('tutorial: secret-only', async () => {
    const agent = request.agent(await start('node', 'examples/tutorials/secret-only.js'))
    await agent.get('/').expect(200, 'Hello, a new visitor')
    await agent.get('/name/ada').expect(302)
    await agent.get('/').expect(200, 'Hello, ada')
  })

  test('ES modules', async () => {
    const agent = request.agent(await start('node', 'examples/es-modules/index.mjs'))
    await agent.get('/').expect('views: 1')
    await agent.get('/').expect('views: 2')
  })

  test('NestJS', { tags: ['slow'] }, async () => {
    const tsc = path.join(root, 'node_modules/typescript/bin/tsc')
    execFileSync('node', [tsc, '-p', 'examples/nestjs'], { cwd: root, stdio: 'pipe' })
    const agent = request.agent(await start('node', 'examples/nestjs/out/main.js'))
    const before = await agent.get('/').expect('Hello stranger, views: 1')
    await agent.post('/login').send({ name: 'ada', password: 'wrong' }).expect(401)
    await agent.post('/login').send({ name: 'ada', password: 'lovelace' }).expect(204)
    const after = await agent.get('/').expect('Hello ada, views: 2')
    expect(after.get('Set-Cookie')?.[0] ?? '').not.toBe(before.get('Set-Cookie')?.[0])
    await agent.post('/logout').expect(204)
    await agent.get('/').expect('Hello stranger, views: 1')
  })

  test('Passport', async () => {
    const agent = request.agent(await start('node', 'examples/passport'))
    await agent.post('/login').send('username=ada&password=wrong').expect(302)
    await agent.get('/').expect('Hello stranger')
    await agent.post('/login').send('username=ada&password=lovelace').expect(302)
    await agent.get('/').expect('Hello ada')
    await agent.post('/logout').expect(302)
    await agent.get('/').expect('Hello stranger')
  })

  test('socket.io: what a socket stores, the next request finds', async () => {
    const address = await start('node', 'examples/socket.io')
    const agent = request.agent(address)
    const { headers } = await agent.get('/').expect(/visits: 1, messages: 0/)
    const [cookie = ''] = headers['set-cookie'] as unknown as string[]
    const socket = connect(address, { extraHeaders: { cookie: cookie.split(';')[0] ?? '' }, transports: ['websocket'] })
    expect(await socket.emitWithAck('message', 'hi')).toBe('hi: 1 messages')
    socket.close()
    await agent.get('/').expect(/visits: 2, messages: 1/)
  })

  test('server-sent events end with the session', async () => {
    const address = await start('node', 'examples/server-sent-events')
    expect((await fetch(`${address}/events`)).status).toBe(401)
    const login = await fetch(`${address}/login`, { method: 'POST' })
    const headers = { cookie: login.headers.getSetCookie()[0]?.split(';')[0] ?? '' }
    const stream = await fetch(`${address}/events`, { headers })
    let text = ''
    for await (const chunk of stream.body ?? []) {
      if (text === '') await fetch(`${address}/logout`, { method: 'POST', headers })
      text += Buffer.from(chunk).toString()
    }
    expect(text).toMatch(/^data: ada 1\n\n[^]*event: end\ndata: logged out\n\n$/)
  })

  /** Runs a program whose port is taken, and ends it if it says that it listens. */
  async function runWith(program: string, env: object) {
    const child = spawn('node', [`examples/${program}`], { cwd: root, env: { ...process.env, ...env } })
    let printed = ''
    let told = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      printed += chunk
      if (printed.includes('http:')) child.kill()
    })
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (told += chunk))
    const [code] = (await once(child, 'close')) as [number | null]
    return { program, code, printed, told }
  }

  test('one whose port is taken ends with that error, and prints no address', { timeout: 60_000 }, async () => {
    const taken = createServer().listen(0)
    await once(taken, 'listening')
    const PORT = String((taken.address() as AddressInfo).port)
    const FILE = path.join(tmpdir(), `sessile-port-${PORT}.db`)
    const programs = [
      ...['account', 'login', 'passport', 'server-sent-events', 'serverless', 'socket.io', 'view-counter'],
      ...['cookie-parser', 'page-views', 'secret-only', 'views-per-path'].map((name) => `tutorials/${name}.js`),
      'es-modules/index.mjs',
    ]
    const ended = {
      code: 1,
      printed: expect.not.stringContaining('http:'),
      told: expect.stringContaining('EADDRINUSE'),
    }
    for (const outcome of await Promise.all(programs.map((program) => runWith(program, { PORT, FILE })))) {
      expect(outcome).toMatchObject({ program: outcome.program, ...ended })
    }
    taken.close()
    for (const end of ['', '-wal', '-shm']) rmSync(FILE + end, { force: true })
  })

  test('serverless, over DynamoDB: on this machine', async () => {
    const agent = request.agent(await start('node', 'examples/serverless'))
    await agent.get('/').expect('calls: 1')
    await agent.get('/').expect('calls: 2')
    await agent.post('/forget').expect(204)
    await agent.get('/').expect('calls: 1')
  })
})

/** Does what an example's README says, and gets what it says. */
async function followReadme(example: string): Promise<void> {
  const page = readFileSync(path.join(root, 'examples', example, 'README.md'), 'utf8')
  const [, block = ''] = /^```sh\n([^]*?)\n```$/m.exec(page) ?? []
  const [commands = '', ...calls] = block.split('\n')
  const before = commands.split(' && ').map((command) => command.split(' '))
  const [program = '', ...args] = before.pop() ?? []
  for (const [first = '', ...rest] of before) execFileSync(first, rest, { cwd: root, stdio: 'pipe' })

  const folder = mkdtempSync(path.join(tmpdir(), 'sessile-example-'))
  process.env['FILE'] = path.join(folder, 'sessions.db')
  const address = await start(program, ...args)
  expect(calls.length).toBeGreaterThan(0)
  for (const line of calls) {
    const [call = '', answer = ''] = line.split('   # ')
    const command = call.replace('http://localhost:3000', address)
    const { stdout } = spawnSync('bash', ['-c', command], { cwd: folder, encoding: 'utf8' })
    const [text = ''] = stdout.split('\n')
    if (answer.endsWith('…')) expect(text.startsWith(answer.slice(0, -1)), `${call}: ${text}`).toBe(true)
    else expect(text, call).toBe(answer)
  }
  await stop()
  rmSync(folder, { recursive: true })
}

const WITH_REDIS = 'redis-two-processes'

describe('the README of each example, word for word', { tags: ['slow'] }, () => {
  const folders = readdirSync(path.join(root, 'examples'), { withFileTypes: true }).filter((entry) =>
    entry.isDirectory(),
  )
  for (const { name } of folders) if (name !== WITH_REDIS) test(name, () => followReadme(name))
})

describeWith('redis', 'examples with Redis', () => {
  test('its README, word for word', () => followReadme(WITH_REDIS))

  test('two processes behind a proxy share the sessions', async () => {
    const agent = request.agent(await start('node', 'examples/redis-two-processes'))
    const texts: string[] = []
    for (let n = 0; n < 4; n++) texts.push((await agent.get('/').expect(200)).text)
    expect(texts.map((text) => text.split(', ')[1])).toEqual(['views: 1', 'views: 2', 'views: 3', 'views: 4'])
    expect(new Set(texts.map((text) => text.split(', ')[0])).size).toBe(2)
  })
})
