import { execFileSync, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PostgresStore } from '../src/stores/postgres'
import { openSchema } from './support/postgres'
import { RecipeFolder } from './support/recipes'
import { describeWith } from './support/servers'

const root = path.join(__dirname, '..')
let folder: RecipeFolder
const pages = [
  'README.md',
  ...readdirSync(path.join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
]

interface Snippet {
  page: string
  line: number
  language: string
  code: string
}

function snippetsOf(page: string): Snippet[] {
  const text = readFileSync(path.join(root, page), 'utf8')
  return [...text.matchAll(/^```(js|ts)\n([\s\S]*?)^```$/gm)].map(({ index, 1: language = '', 2: code = '' }) => ({
    page,
    line: text.slice(0, index).split('\n').length,
    language,
    code,
  }))
}

beforeAll(() => void (folder = new RecipeFolder({})))
afterAll(() => folder.close())

/** Has tests of its own, in test/recipes/. */
const RECIPES = 'docs/recipes.md'

describe('the code in the documentation runs', { tags: ['slow'] }, () => {
  for (const { page, line, language, code } of pages.filter((page) => page !== RECIPES).flatMap(snippetsOf)) {
    test(`${page}:${line}`, () => {
      const name = `${page.replaceAll(/\W/g, '-')}-${line}`
      folder.write(`${name}.${language}`, code)
      if (language === 'ts') {
        const tsc = path.join(root, 'node_modules/typescript/bin/tsc')
        const options = [
          '--module',
          'node16',
          '--moduleResolution',
          'node16',
          '--esModuleInterop',
          '--strict',
          '--skipLibCheck',
        ]
        execFileSync(process.execPath, [tsc, `${name}.ts`, ...options], { cwd: folder.path, stdio: 'pipe' })
      }
      const preload = path.join(__dirname, 'support/docs-preload.cjs')
      const run = spawnSync(process.execPath, ['--require', preload, `${name}.js`], {
        cwd: folder.path,
        encoding: 'utf8',
        env: {
          ...process.env,
          SESSION_SECRET: 'a secret for the documentation, long enough',
          SESSION_KEY: 'a2V5IGZvciB0aGUgZG9jdW1lbnRhdGlvbiwgMzIgYnk=',
          NODE_OPTIONS: '',
          AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: 'true',
        },
      })
      expect(run.stderr).toBe('')
      expect(run.status).toBe(0)
    })
  }
})

describe('the WebSocket servers of the documentation, while their store fails', { tags: ['slow'] }, () => {
  const [socketIo, anyServer] = snippetsOf('docs/websockets.md').map(({ code }) => code) as [string, string]

  /** Runs a server of the page, with a client in the same process: what that prints, if the process lives to its end. */
  function run(name: string, server: string, fails: string, client: string): string {
    const code = server.replace('server.listen(3000)', 'server.listen(0, () => client(server.address().port))')
    expect(code).not.toBe(server)
    const cookie = `'connect.sid=' + encodeURIComponent('s:' + require('cookie-signature').sign('an-id', process.env.SESSION_SECRET))`
    folder.write(
      `${name}.js`,
      `const { MemoryStore } = require('sessile')
      MemoryStore.prototype.${fails} = () => Promise.reject(new Error('the store is away'))
      const headers = { cookie: ${cookie} }
      async function client(port) { ${client} }
      ${code}`,
    )
    const { status, stdout } = spawnSync(process.execPath, [`${name}.js`], {
      cwd: folder.path,
      encoding: 'utf8',
      env: { ...process.env, SESSION_SECRET: 'a secret for the documentation, long enough' },
      timeout: 20_000,
    })
    expect(status).toBe(0)
    return stdout
  }

  test('a handshake is refused, and the process lives', () => {
    const client = `
      const socket = require('node:net').connect(port)
      socket.write('GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nCookie: ' + headers.cookie + '\\r\\n\\r\\n')
      socket.once('data', (text) => { console.log(String(text).split('\\r')[0]); setImmediate(() => process.exit()) })`
    expect(run('upgrade', anyServer, 'read', client)).toBe('HTTP/1.1 503 Service Unavailable\n')
  })

  test('a socket of socket.io whose session cannot be stored is closed, and the process lives', () => {
    const client = `
      const socket = require('socket.io-client').io('http://127.0.0.1:' + port, { reconnection: false })
      socket.on('connect', () => socket.emit('name', 'ada'))
      socket.on('disconnect', (reason) => { console.log(reason); setImmediate(() => process.exit()) })`
    expect(run('socket-io', socketIo, 'write', client)).toBe('io server disconnect\n')
  })
})

test('the links between the pages lead somewhere', () => {
  const headings = (page: string): string[] =>
    [...readFileSync(path.join(root, page), 'utf8').matchAll(/^#+ (.*)$/gm)].map(({ 1: heading = '' }) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(' ', '-'),
    )
  const broken: string[] = []
  for (const page of pages) {
    for (const { 1: link = '' } of readFileSync(path.join(root, page), 'utf8').matchAll(/\]\(((?!https?:)[^)]+)\)/g)) {
      const [file = '', heading] = link.split('#')
      const target = file === '' ? page : path.join(path.dirname(page), file)
      try {
        if (target.endsWith('/') || !target.endsWith('.md')) readdirSync(path.join(root, path.dirname(target)))
        else if (heading !== undefined && !headings(target).includes(heading)) broken.push(`${page}: ${link}`)
        else readFileSync(path.join(root, target))
      } catch {
        broken.push(`${page}: ${link}`)
      }
    }
  }
  expect(broken).toEqual([])
})

test('the links of what npm publishes lead to what npm publishes', () => {
  const { files } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { files: string[] }
  expect(files).toContain('docs/*.md')
  const published = [...pages, 'CHANGELOG.md', 'LICENSE']
  const dead = pages.flatMap((page) =>
    [...readFileSync(path.join(root, page), 'utf8').matchAll(/\]\(((?!https?:|#)[^)#]+)(?:#[^)]*)?\)/g)]
      .map(({ 1: link = '' }) => path.join(path.dirname(page), link))
      .filter((target) => !published.includes(target))
      .map((target) => `${page}: ${target}`),
  )
  expect(dead).toEqual([])
})

describeWith('postgres', 'the SQL in the documentation', () => {
  const text = readFileSync(path.join(root, 'docs/stores.md'), 'utf8')
  const [, postgres = ''] = /^## PostgreSQL$([^]*?)^## /m.exec(text) ?? []
  const blocks = [...postgres.matchAll(/^```sql\n([^]*?)^```$/gm)].map(({ 1: sql = '' }) => sql)

  test('makes tables that the store works with, for the option user, too', async () => {
    const schema = await openSchema()
    expect(blocks.length).toBeGreaterThan(0)
    for (const sql of blocks) await schema.pool.query(sql)
    const store = new PostgresStore({ pool: schema.pool, pruneSessionInterval: false })
    await store.set('a', { cookie: { expires: null } } as never)
    await store.link('ada', 'a', Date.now() + 60_000)
    expect(await store.get('a')).toMatchObject({ cookie: {} })
    expect(await store.linked('ada')).toEqual(['a'])
    await store.close()
    await schema.drop()
  })
})

test('every hint of the library leads to a heading of the troubleshooting page', () => {
  const page = readFileSync(path.join(root, 'docs/troubleshooting.md'), 'utf8')
  const headings = [...page.matchAll(/^## (.*)$/gm)].map(({ 1: heading = '' }) =>
    heading.toLowerCase().replaceAll(' ', '-'),
  )
  const folder = path.join(root, 'src/features/hints')
  const hints = readdirSync(folder).flatMap((file) =>
    [...readFileSync(path.join(folder, file), 'utf8').matchAll(/hint\(\s*'([a-z-]+)'/g)].map(
      ({ 1: hint = '' }) => hint,
    ),
  )
  expect(new Set(hints).size).toBeGreaterThan(12)
  expect(hints.filter((hint) => !headings.includes(hint))).toEqual([])
})

test('every error code has a heading on the page of errors', () => {
  const codes = [...readFileSync(path.join(root, 'src/base/errors.ts'), 'utf8').matchAll(/'(ERR_SESSION_\w+)'/g)].map(
    ({ 1: code = '' }) => code,
  )
  const page = readFileSync(path.join(root, 'docs/errors.md'), 'utf8')
  expect(codes.filter((code) => !page.includes(`## ${code}\n`))).toEqual([])
})

/** What holds sessile to each point of the table in docs/security.md; the others are up to the application. */
const SECURITY_TESTS: Record<string, [file: string, name: string]> = {
  'ID: 128 random bits or more, meaningless': ['security/session-id.test.ts', 'has 192 random bits, and means nothing'],
  'ID: a cookie name that tells nothing': ['security/session-id.test.ts', 'and its cookie stay far below'],
  'ID: exchanged in one way only': [
    'security/session-id.test.ts',
    'in the URL, the body or a header of its own counts for nothing',
  ],
  'ID: only those made by the server': ['security/session-id.test.ts', 'that nobody was given is not taken over'],
  'ID: treated as untrusted input': [
    'security/session-id.test.ts',
    'reaches the store only when its signature is right',
  ],
  'ID: new after a login or gain of rights': [
    'security/session-id.test.ts',
    'is another one after the login, and the one before is dead',
  ],
  'ID: several cookies of one name': ['faults/cookie.test.ts', 'a planted cookie of the same name'],
  'cookie: Secure, HttpOnly, SameSite': ['security/session-id.test.ts', 'the short form in production'],
  'cookie: `__Host-`, `__Secure-`': ['options.test.ts', "'__Host- with a domain'"],
  'cookie: below 4096 bytes': ['security/session-id.test.ts', 'and its cookie stay far below'],
  'secrets: strong, and replaceable': ['options.test.ts', "{ secret: 'keyboard cat' }, 'well-known example'"],
  'timeout: idle, on the server': ['security/lifetimes.test.ts', 'without requests for so long a session ends'],
  'timeout: absolute, on the server': ['security/lifetimes.test.ts', 'however busy it is, a session ends'],
  'timeout: renewal': ['security/lifetimes.test.ts', 'of 100 requests at once with the old ID'],
  'logout: on the server': ['stores/processes.test.ts', 'logouts, each racing with a slow request that writes'],
  'logout: removes the cookie': [
    'security/security.test.ts',
    'clearCookie removes it with the attributes it was set with',
  ],
  'caches: keep no session cookie': ['security/security.test.ts', 'noStore keeps it out of caches'],
  'users: see and end their sessions': ['browser/account.test.ts', 'one browser logs the other one out'],
  'users: all end with the account': ['security/security.test.ts', 'list, end one, end all others'],
  'users: others end with a new password': ['security/security.test.ts', 'list, end one, end all others'],
  'users: simultaneous logins limited': ['security/users-from-processes.test.ts', 'logins of'],
  'attacks noticed: a replaced ID is used': ['security/lifetimes.test.ts', 'onStaleId destroy'],
  'attacks noticed: guessing': ['compat/forged-cookies.test.ts', 'malformed, forged and random Cookie headers'],
  'sessions are logged': ['security/events.test.ts', 'created, saved, loaded, destroyed'],
  'storage: a leak gives no session away': [
    'features/sealing.test.ts',
    'a leaked store gives no usable ID and nothing of the data',
  ],
  'storage: data is encrypted': [
    'features/sealing.test.ts',
    'any changed, added or missing byte of the envelope is an error',
  ],
  'storage: data cannot change the program': ['session.test.ts', 'data under the names of methods'],
  'forged requests (CSRF)': ['same-origin.test.ts', 'a post is refused'],
}

test('every point of the table of security has a test, or is up to the application', () => {
  const text = readFileSync(path.join(root, 'docs/security.md'), 'utf8')
  const rows = [...text.matchAll(/^\| (?!asked for|-)(.+?) +\| (.+?) +\|/gm)].map(([, point = '', means = '']) => ({
    point,
    means,
  }))
  expect(rows.filter(({ point, means }) => !(point in SECURITY_TESTS) && !means.includes('**your app'))).toEqual([])
  for (const [point, [file, name]] of Object.entries(SECURITY_TESTS)) {
    expect(rows.map((row) => row.point)).toContain(point)
    const found = readFileSync(path.join(root, 'test', file), 'utf8').includes(name)
    expect(found, `${file} has a test named: ${name}`).toBe(true)
  }
})
