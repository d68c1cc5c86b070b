// @module-tag slow
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { connect, createServer, type AddressInfo } from 'node:net'
import path from 'node:path'
import express from 'express'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { SessionOptions } from '../../src'
import { listen, SECRET, withServer } from '../support/app'
import { describeWith } from '../support/servers'
import { temporaryFolder } from '../support/sqlite'
import { appOver, sessile, stores, told, type Opened } from './cli'

interface Finding {
  about: string
  what: string
  problem?: string
}

/** What doctor has to say, a line each: only what needs a look. */
function problemsIn(stdout: string): string[] {
  const findings = JSON.parse(stdout) as Finding[]
  return findings.flatMap(({ about, what, problem }) => (problem ? [`${about}: ${what}: ${problem}`] : []))
}

describe('doctor, given the address of an app,', () => {
  let opened: Opened
  beforeAll(async () => void (opened = await stores.sqlite()))
  afterAll(() => opened.close())

  const examine = (url: string, env: NodeJS.ProcessEnv = {}) =>
    sessile(['doctor', '--json', '--url', url, ...told(opened)], { SESSION_SECRET: SECRET, ...env })

  async function problemsOf(app: RequestListener, env?: NodeJS.ProcessEnv): Promise<string[]> {
    return withServer(app, async ({ url }) => {
      const { code, stdout } = await examine(`${url}/login/ada`, env)
      const problems = problemsIn(stdout)
      expect(code).toBe(problems.length > 0 ? 1 : 0)
      return problems
    })
  }

  /** An app with these settings of its cookie, behind a proxy that it trusts. */
  function appWith(cookie: object, options: SessionOptions = {}): RequestListener {
    const app = express()
    app.set('trust proxy', true)
    app.use(appOver(opened.store, { ...options, cookie: { secure: true, sameSite: 'lax', ...cookie } }).app)
    return app
  }
  const proxied = (cookie: object, options: SessionOptions = {}): RequestListener =>
    appWith(cookie, { proxy: true, ...options })

  test('finds nothing wrong with one that is set up for TLS behind a proxy, and leaves no session behind', async () => {
    await withServer(proxied({}), async ({ url }) => {
      const args = ['doctor', '--url', `${url}/login/ada`, ...told(opened)]
      const { code, stdout } = await sessile(args, { SESSION_SECRET: SECRET })
      expect(stdout).toMatch(/^ok {3}proxy: the app takes X-Forwarded-Proto: https for TLS/m)
      expect(stdout).toMatch(/^ok {3}session: the one that the app has begun is there: \d+ B, ends in 1 day$/m)
      expect(stdout).toMatch(/^ok {3}latency: [\d.]+ ms for a read/m)
      expect(stdout).toMatch(/^ok {3}versions: sessile [\d.]+, Node [\d.]+, SQLite [\d.]+ at /m)
      expect(stdout).toMatch(/\nAll is well\.\n$/)
      expect(code).toBe(0)
    })
    expect(await opened.store.length()).toBe(0)
  })

  test.each<[string, object, RegExp]>([
    ['no Secure', { secure: false }, /not Secure: Over http anybody/],
    ['no HttpOnly', { httpOnly: false }, /not HttpOnly: Scripts can read it/],
    ['no SameSite', { sameSite: false }, /no SameSite: .*'lax'/],
    ['SameSite=None', { sameSite: 'none' }, /SameSite=None: Other sites .*CSRF/],
    ['SameSite=None without Secure', { sameSite: 'none', secure: false }, /SameSite=None: Browsers refuse/],
    ['a path', { path: '/login' }, /Path=\/login: Pages outside of \/login/],
    ['a domain', { domain: 'example.com' }, /Domain=example\.com: All hosts below/],
  ])('says what to do about a cookie with %s', async (_name, cookie, expected) => {
    const problems = await problemsOf(proxied(cookie))
    expect(problems).toContainEqual(expect.stringMatching(expected))
    expect(problems.length).toBeLessThan(3)
  })

  test('says so when a cookie is too large, or may be kept by shared caches', async () => {
    const large = (_req: unknown, res: { setHeader(name: string, value: string): void; end(): void }): void => {
      res.setHeader('Set-Cookie', `large=s:${'x'.repeat(4200)}.y; Path=/; HttpOnly; Secure; SameSite=Lax`)
      res.setHeader('Cache-Control', 'public, max-age=60')
      res.end()
    }
    const problems = await problemsOf(large)
    expect(problems).toContainEqual(expect.stringMatching(/large has 4\d\d\d bytes: Browsers drop it/))
    expect(problems).toContainEqual(expect.stringMatching(/Cache-Control is public: A shared cache/))
  })

  test('says so when no session cookie comes, as when the proxy is not trusted', async () => {
    const [problem] = await problemsOf(appWith({}, { proxy: false }))
    expect(problem).toMatch(/cookies set: none: None is a session's\. .*trust proxy/)
  })

  test('says so when the app has another store, hashes IDs, or has another secret', async () => {
    const other = await stores.sqlite()
    const elsewhere = appOver(other.store, { proxy: true, cookie: { secure: true, sameSite: 'lax' } }).app
    expect(await problemsOf(elsewhere)).toEqual([expect.stringMatching(/^session: .*another store, prefix or table/)])
    await other.close()
    const hashed = proxied({}, { hashIds: true })
    expect(await problemsOf(hashed)).toEqual([expect.stringMatching(/hashes IDs otherwise/)])
    expect(await problemsOf(hashed, { SESSILE_HASH_IDS: 'true' })).toEqual([])
    const env = { SESSION_SECRET: 'a secret that this app has not, and never had' }
    expect(await problemsOf(proxied({}), env)).toEqual([expect.stringMatching(/^secret: .*another secret/)])
  })

  test('says so when each request begins another session', async () => {
    const forgetful = express()
    let app = proxied({})
    forgetful.use((req, res) => {
      delete req.headers.cookie
      app(req, res)
    })
    expect(await problemsOf(forgetful)).toEqual([expect.stringMatching(/a second request with it: It began another/)])
    // The same, when the processes have different secrets.
    let requests = 0
    app = (req, res) => {
      const secret = `a secret of process ${requests++}, which is long enough`
      proxied({}, { secret })(req, res)
    }
    expect(await problemsOf((req, res) => app(req, res))).toContainEqual(expect.stringMatching(/It began another/))
  })

  test('looks at keys, and at clocks', async () => {
    const folder = temporaryFolder()
    const ahead = path.join(folder, 'ahead.cjs')
    writeFileSync(ahead, 'const { now } = Date; Date.now = () => now() + 600_000')
    const env = {
      SESSION_SECRET: 'short',
      SESSILE_ENCRYPTION: 'shorter',
      SESSILE_HASH_IDS: 'x',
      NODE_OPTIONS: `-r ${ahead}`,
    }
    const problems = await problemsOf(proxied({}), env)
    expect(problems).toEqual([
      expect.stringMatching(/^secret: SESSION_SECRET has 5 bytes: A short one can be guessed/),
      expect.stringMatching(/^hashing: the key in SESSILE_HASH_IDS has 1 bytes: /),
      expect.stringMatching(/^encryption: SESSILE_ENCRYPTION has a key: .*32 bytes/),
      expect.stringMatching(/^clock: the app's is (599|600|601) s behind this machine's: .*NTP/),
    ])
  })

  test('says so when nobody answers there', async () => {
    const server = await listen(createHttpServer())
    await server.close()
    const { code, stdout } = await examine(server.url)
    expect(code).toBe(1)
    expect(problemsIn(stdout)).toEqual([expect.stringMatching(/^url: .*cannot be asked: .*ECONNREFUSED/)])
  })
})

/** Clocks that differ by ten minutes, as the command line sees it. */
function clockOf(open: () => Promise<Opened>): void {
  test('doctor tells of a clock that is wrong', async () => {
    const opened = await open()
    const ahead = path.join(temporaryFolder(), 'ahead.cjs')
    writeFileSync(ahead, 'const { now } = Date; Date.now = () => now() + 600_000')
    const { code, stdout } = await sessile(['doctor', '--json', ...told(opened)], { NODE_OPTIONS: `-r ${ahead}` })
    expect(code).toBe(1)
    expect(problemsIn(stdout)).toContainEqual(expect.stringMatching(/clock.* (599|600|601) s behind/))
    await opened.close()
  })
}

describeWith('mysql', 'of MariaDB', () => clockOf(stores.mysql))

describeWith('postgres', 'of PostgreSQL', () => {
  clockOf(stores.postgres)

  test('doctor tells of an index and a type that a table lacks, with the SQL to run', async () => {
    const pool = new pg.Pool({ host: '127.0.0.1', user: 'postgres', database: 'test', max: 1 })
    const table = 'c' + randomBytes(6).toString('hex')
    await pool.query(
      `CREATE TABLE ${table} (sid varchar(16) PRIMARY KEY, sess json NOT NULL, expire timestamptz NOT NULL)`,
    )
    const { stdout } = await sessile(['doctor', '-s', 'postgres://postgres@127.0.0.1/test', '--table', table])
    expect(stdout).toContain(`ALTER TABLE "${table}" ALTER sid TYPE varchar`)
    expect(stdout).toContain(`CREATE INDEX IF NOT EXISTS "IDX_${table}_expire"`)
    expect(stdout).toMatch(/LOOK store: a session written.*\n +value too long for type character varying\(16\)/)
    await pool.query(`DROP TABLE ${table}`)
    await pool.end()
  })
})

describeWith('redis', 'of Redis', () => {
  clockOf(stores.redis)

  test('doctor tells of a store that is far away', async () => {
    const opened = await stores.redis()
    const far = createServer((socket) => {
      const server = connect(6379, '127.0.0.1')
      socket.on('data', (data) => setTimeout(() => server.write(data), 60)).on('close', () => server.destroy())
      server.on('data', (data) => socket.write(data)).on('error', () => socket.destroy())
    }).listen(0, '127.0.0.1')
    await once(far, 'listening')
    const url = `redis://127.0.0.1:${(far.address() as AddressInfo).port}`
    const { stdout } = await sessile(['doctor', '--json', ...told({ ...opened, url })])
    expect(problemsIn(stdout)).toEqual([expect.stringMatching(/^latency: .* for a read .*: Each request waits/)])
    far.close()
    await opened.close()
  })
})
