import { spawn, type ChildProcess } from 'node:child_process'
import path from 'node:path'
import request from 'supertest'
import { afterEach, describe, expect, test } from 'vitest'

const root = path.join(__dirname, '../..')
let running: ChildProcess | undefined

/** Starts an example and answers the address that it prints. */
function start(command: string, ...args: string[]): Promise<string> {
  const child = spawn(command, args, { cwd: root, env: { ...process.env, PORT: '0', NODE_NO_WARNINGS: '1' } })
  running = child
  return new Promise((resolve, reject) => {
    let printed = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      printed += chunk
      const [address] = /http:\/\/localhost:\d+/.exec(printed) ?? []
      if (address) resolve(address)
    })
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (printed += chunk))
    child.on('exit', () => reject(new Error(printed)))
  })
}

afterEach(() => running?.kill())

describe('examples', () => {
  test('npm start runs the view counter, which counts for each visitor and page', async () => {
    const agent = request.agent(await start('node', 'examples/view-counter'))
    await agent.get('/a').expect(200, 'You have seen /a 1 times\n')
    await agent.get('/a').expect(200, 'You have seen /a 2 times\n')
    await agent.get('/b').expect(200, 'You have seen /b 1 times\n')
    await request(agent.app as string)
      .get('/a')
      .expect(200, 'You have seen /a 1 times\n')
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
})
