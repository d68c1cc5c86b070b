// @module-tag slow
import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

/** The types that packages for express-session publish, against those of sessile in its place. */
const root = path.join(__dirname, '../..')
const folder = mkdtempSync(path.join(tmpdir(), 'sessile-types-'))
const modules = path.join(folder, 'node_modules')

/** `npm run matrix` has other compilers at it, and in this folder the larger packages. */
const { TYPESCRIPT: compiler = path.join(root, 'node_modules/typescript'), STORES: stores } = process.env
const version = parseFloat(
  (JSON.parse(readFileSync(path.join(compiler, 'package.json'), 'utf8')) as { version: string }).version,
)

/** Links a folder of packages into the project; what an organisation has (`@types`), one by one. */
function link(from: string, to = modules): void {
  mkdirSync(to, { recursive: true })
  for (const name of readdirSync(from)) {
    const at = path.join(to, name)
    if (name.startsWith('@')) link(path.join(from, name), at)
    else if (!name.startsWith('.') && !existsSync(at)) symlinkSync(path.join(from, name), at)
  }
}

beforeAll(() => {
  for (const name of ['express-session', '@types/express-session', 'sessile']) {
    for (const published of ['package.json', 'dist']) {
      cpSync(path.join(root, published), path.join(modules, name, published), { recursive: true })
    }
  }
  if (stores) link(stores)
  link(path.join(root, 'node_modules'))
})
afterAll(() => rmSync(folder, { recursive: true }))

const MODERN = ['--module', 'node16', '--moduleResolution', 'node16', '--esModuleInterop']

/** What the compiler has against some files, in one run of it. */
function complaints(sources: Record<string, string>, ...options: string[]): string {
  for (const [file, source] of Object.entries(sources)) writeFileSync(path.join(folder, file), source)
  const args = [
    '--noEmit',
    '--strict',
    '--target',
    'es2020',
    '--types',
    'node,express',
    '--preserveSymlinks',
    ...options,
    ...Object.keys(sources).map((file) => `./${file}`),
  ]
  try {
    execFileSync(process.execPath, [path.join(compiler, 'bin/tsc'), ...args], { cwd: folder, encoding: 'utf8' })
    return ''
  } catch (error) {
    const lines = (error as { stdout: string }).stdout.split('\n')
    // The types of Node and of Express that are here ask for a newer compiler than ours do.
    return lines.filter((line) => version >= 5 || !/^node_modules\/@types\/(?!express-session)/.test(line)).join('\n')
  }
}

/** Programs, by the packages that they are of. */
function files(programs: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(programs).map(([name, program]) => [`${name.replaceAll('/', '-')}.ts`, HEAD + program]),
  )
}

const HEAD = `import session = require('express-session')\nimport express = require('express')\nconst app = express()\n`

/** A program with each package, and whether its declarations compile by themselves. */
const PROGRAMS: Record<string, string> = {
  'connect-pg-simple': `import factory = require('connect-pg-simple')
    const Store = factory(session)
    app.use(session('x', { store: new Store({ conString: 'x' }) }))`,
  'connect-redis': `import { RedisStore } from 'connect-redis'
    app.use(session('x', { store: new RedisStore({ client: {} }) }))`,
  'connect-sqlite3': `import factory = require('connect-sqlite3')
    const Store = factory(session)
    app.use(session('x', { store: new Store({ db: 'x' }) as session.Store }))`,
  memorystore: `import factory = require('memorystore')
    const Store = factory(session)
    app.use(session('x', { store: new Store({ checkPeriod: 5 }) }))`,
  'session-file-store': `import factory = require('session-file-store')
    const Store = factory(session)
    app.use(session('x', { store: new Store({ path: 'x' }) }))`,
  'connect-flash': `import flash = require('connect-flash')
    app.use(flash(), (req, res) => void res.json(req.flash('info')))`,
  'csrf-sync': `import { csrfSync } from 'csrf-sync'
    app.use(csrfSync().csrfSynchronisedProtection, (req, res) => void res.json(req.session.csrfToken))`,
  passport: `import passport = require('passport')
    app.use(passport.session(), (req, res) => req.logout(() => void res.json(req.session.cookie.maxAge)))`,
}

/** Those that bring a database's client along; the types of some of the clients do not compile by themselves. */
const LARGE: Record<string, string> = {
  'connect-mongo': `import MongoStore from 'connect-mongo'
    app.use(session('x', { store: MongoStore.create({ mongoUrl: 'x' }) }))`,
  'connect-mongodb-session': `import factory = require('connect-mongodb-session')
    const Store = factory(session)
    app.use(session('x', { store: new Store({ uri: 'x', collection: 'y' }) }))`,
  'express-mysql-session': `import factory = require('express-mysql-session')
    const Store = factory(session)
    app.use(session('x', { store: new Store({ host: 'x' }) }))`,
  'connect-typeorm': `import { TypeormStore } from 'connect-typeorm'
    app.use(session('x', { store: new TypeormStore() }))`,
  '@quixo3/prisma-session-store': `import { PrismaSessionStore } from '@quixo3/prisma-session-store'
    app.use(session('x', { store: new PrismaSessionStore({} as never, {}) }))`,
  'connect-session-knex': `import { ConnectSessionKnexStore } from 'connect-session-knex'
    app.use(session('x', { store: new ConnectSessionKnexStore({} as never) }))`,
  'connect-session-sequelize': `import factory = require('connect-session-sequelize')
    const Store = factory(session.Store)
    app.use(session('x', { store: new Store({ db: {} as never }) }))`,
  '@google-cloud/connect-firestore': `import { FirestoreStore } from '@google-cloud/connect-firestore'
    app.use(session('x', { store: new FirestoreStore({} as never) }))`,
  'connect-dynamodb': `import factory = require('connect-dynamodb')
    const Store = factory(session)
    app.use(session('x', { store: new Store({}) }))`,
  'connect-memcached': `import factory = require('connect-memcached')
    const Store = factory(session)
    app.use(session('x', { store: new Store({ hosts: [] }) }))`,
}

describe('in place of express-session and its types', { timeout: 300_000 }, () => {
  test.skipIf(version < 5)(`these compile: ${Object.keys(PROGRAMS).join(', ')}`, () => {
    expect(complaints(files(PROGRAMS), ...MODERN)).toBe('')
  })

  if (!stores)
    console.warn('skipped: the types of stores that bring a client of a database along: npm run matrix -- stores')
  test.skipIf(!stores)(`without the types of clients, these compile: ${Object.keys(LARGE).join(', ')}`, () => {
    expect(complaints(files(LARGE), ...MODERN, '--skipLibCheck')).toBe('')
  })
})

const PLAIN = ['--module', ...(version < 7 ? ['commonjs', '--moduleResolution', 'node10'] : ['node16'])].map(
  (option) => (option === 'node10' && version < 5 ? 'node' : option),
)

test('an application compiles from TypeScript 4.5 on', { timeout: 120_000 }, () => {
  const program = `import express = require('express')
    import session = require('sessile')
    declare module 'sessile' { interface SessionData { userId: number } }
    const sessions = session('x', { store: new session.MemoryStore(), user: (data) => data.userId })
    express().use(sessions).get('/', async (req, res) => {
      await req.session.regenerate()
      req.session.userId = 7
      res.json(await sessions.users.list(req.session.userId, req))
    })`
  expect(complaints({ 'oldest.ts': program }, ...PLAIN, '--skipLibCheck')).toBe('')
})

/** That they do with a newer library, the tests of the tarball show. */
test.skipIf(version < 5)('its declarations compile with the library of es2020', { timeout: 120_000 }, () => {
  const program = `import session = require('sessile')
      import { signedCookie } from 'sessile/testing'
      import { RedisStore } from 'sessile/redis'
      import { PostgresStore } from 'sessile/postgres'
      import { MysqlStore } from 'sessile/mysql'
      import { SqliteStore } from 'sessile/sqlite'
      export const all = [session, signedCookie, RedisStore, PostgresStore, MysqlStore, SqliteStore]`
  const options = ['--module', 'node16', '--moduleResolution', 'node16', '--lib', 'es2020']
  expect(complaints({ 'es2020.cts': program }, ...options)).toBe('')
})
