// @module-tag slow
import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const root = path.join(__dirname, '../..')
const folder = mkdtempSync(path.join(tmpdir(), 'sessile-package-'))
let files: { path: string; size: number }[] = []

/** A project that has the packed library under a name, and what else it needs from here. */
function project(name: string, installedAs: string): string {
  const at = path.join(folder, name)
  mkdirSync(path.join(at, 'node_modules/@types'), { recursive: true })
  cpSync(path.join(folder, 'package'), path.join(at, 'node_modules', installedAs), { recursive: true })
  const { dependencies } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { dependencies: object }
  const types = readdirSync(path.join(root, 'node_modules/@types')).filter((type) => !type.includes('session'))
  for (const dependency of [
    ...Object.keys(dependencies),
    'express',
    'supertest',
    'undici-types',
    ...types.map((type) => `@types/${type}`),
  ]) {
    const link = path.join(at, 'node_modules', dependency)
    if (!existsSync(link)) symlinkSync(path.join(root, 'node_modules', dependency), link)
  }
  return at
}

/** Runs a program in a project and answers what it prints, parsed. */
function run(at: string, file: string, code: string): unknown {
  writeFileSync(path.join(at, file), code)
  return JSON.parse(
    execFileSync(process.execPath, [file], { cwd: at, encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } }),
  )
}

/** `npm run matrix` has other compilers at it. */
const compiler = process.env['TYPESCRIPT'] ?? path.join(root, 'node_modules/typescript')
const { version } = JSON.parse(readFileSync(path.join(compiler, 'package.json'), 'utf8')) as { version: string }
const compilerMajor = parseInt(version)

/** What the compiler has against some files, in one run of it. */
function compile(at: string, sources: Record<string, string>, ...options: string[]): string {
  for (const [file, source] of Object.entries(sources)) writeFileSync(path.join(at, file), source)
  const args = [path.join(compiler, 'bin/tsc'), '--noEmit', '--strict', '--target', 'es2022', ...options]
  try {
    execFileSync(process.execPath, [...args, ...Object.keys(sources)], { cwd: at, encoding: 'utf8' })
    return ''
  } catch (error) {
    return (error as { stdout: string }).stdout
  }
}

beforeAll(() => {
  const output = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder], {
    cwd: root,
    encoding: 'utf8',
  })
  const [packed] = Object.values(JSON.parse(output) as Record<string, { filename: string; files: typeof files }>)
  files = packed?.files ?? []
  execFileSync('tar', ['-xzf', path.join(folder, packed?.filename ?? ''), '-C', folder])
})

afterAll(() => rmSync(folder, { recursive: true }))

const FACTS = `JSON.stringify({
  factory: typeof session, callable: typeof session('a secret that is long enough for all of this'),
  same: [session.Store === Store, session.MemoryStore === MemoryStore, session.Cookie === Cookie, session.Session === Session],
})`
const ALL_THERE = { factory: 'function', callable: 'function', same: [true, true, true, true] }

describe('the packed library', () => {
  test('has what is needed, and no more', () => {
    const names = files.map(({ path }) => path)
    expect(
      names.filter(
        (name) =>
          !/^(dist\/.*\.(js|js\.map|d\.ts)|docs\/[\w-]+\.md|package\.json|README\.md|LICENSE|CHANGELOG\.md)$/.test(
            name,
          ),
      ),
    ).toEqual([])
    expect(names).toContain('LICENSE')
  })

  test('stays small: 600 KB unpacked and 105 KB of documentation at most, and 100 KB for those who run it', () => {
    const bytes = (...names: RegExp[]): number =>
      files.filter(({ path }) => names.every((name) => name.test(path))).reduce((sum, { size }) => sum + size, 0)
    const forOperators = /^(?:dist\/(?:observability|cli)\/|docs\/(?:observability|operating|command-line)\.md)/
    const forAll = /^(?!dist\/(?:observability|cli)\/|docs\/)/
    expect(bytes(forAll, /(?<!\.map)$/)).toBeLessThan(600_000)
    expect(bytes(/^docs\/(?!observability|operating|command-line)/)).toBeLessThan(105_000)
    expect(bytes(forOperators, /(?<!\.map)$/)).toBeLessThan(100_000)
    expect(bytes(/\.map$/), 'source in source maps').toBeLessThan(1_050_000)
  })

  test('leads from a stack trace to the source', () => {
    const at = project('traced', 'sessile')
    const code = `try { require('sessile')({ secrets: 'x' }), require('sessile')({ secret: 5 }) } catch (error) { console.log(JSON.stringify(error.stack)) }`
    writeFileSync(path.join(at, 'traced.cjs'), code)
    const stack = execFileSync(process.execPath, ['--enable-source-maps', 'traced.cjs'], { cwd: at, encoding: 'utf8' })
    const [, file = '', line] = /sessile\/(src\/[\w/-]+\.ts):(\d+)/.exec(stack) ?? []
    expect(readFileSync(path.join(root, file), 'utf8').split('\n')[Number(line) - 1]).toMatch(/new \w*Error/)
  })

  test('loads the middleware when it is first asked for: who needs the classes alone does not wait for it', () => {
    const at = project('classes', 'sessile')
    const code = `const session = require('sessile')
      require('sessile/redis')
      const loaded = () => Object.keys(require.cache).some((file) => file.includes('middleware'))
      const before = loaded()
      session('a secret that is long enough for all of this')
      console.log(JSON.stringify([before, loaded()]))`
    expect(run(at, 'classes.cjs', code)).toEqual([false, true])
  })

  test('has one copy of each class, whichever entry is loaded first', () => {
    const at = project('copies', 'sessile')
    const paths = [
      'redis',
      'postgres',
      'mysql',
      'sqlite',
      'testing',
      'session/store',
      'session/cookie',
      'session/memory',
    ]
    for (const first of paths) {
      const code = `const loaded = Object.fromEntries(${JSON.stringify([first, ...paths])}.map((name) => [name, require('sessile/' + name)]))
        const session = require('sessile')
        const stores = [loaded.redis.RedisStore, loaded.postgres.PostgresStore, loaded.mysql.MysqlStore, loaded.sqlite.SqliteStore]
        console.log(JSON.stringify([
          ...stores.map((store) => Object.getPrototypeOf(store) === session.RecordStore),
          loaded['session/store'] === session.Store, loaded['session/cookie'] === session.Cookie,
          loaded['session/memory'] === session.MemoryStore,
        ]))`
      expect(run(at, 'copies.cjs', code), first).toEqual(Array(7).fill(true))
    }
  })

  test('brings the page along that its hints lead to', () => {
    const at = project('hinted', 'sessile')
    const message = run(
      at,
      'hint.cjs',
      `const express = require('express')
      const app = express()
      app.use(require('sessile')({
        secret: 'a secret that is long enough for all of this', resave: false, saveUninitialized: true, cookie: { secure: true },
      }))
      app.use((req, res) => res.end())
      process.on('warning', ({ code, message }) => code === 'SESSION_HINT' && console.log(JSON.stringify(message)))
      const server = app.listen(0, async () => {
        await fetch('http://127.0.0.1:' + server.address().port)
        server.close()
      })`,
    )
    const [, page = '', heading] = /\((file:.*)#(.*)\)$/.exec(message as string) ?? []
    expect(fileURLToPath(page)).toContain(realpathSync(path.join(at, 'node_modules/sessile')))
    expect(readFileSync(fileURLToPath(page), 'utf8').toLowerCase().replaceAll(' ', '-')).toContain(`\n##-${heading}\n`)
  })

  test('has no install scripts, so that npm asks nobody to allow them', () => {
    const { scripts } = JSON.parse(readFileSync(path.join(folder, 'package/package.json'), 'utf8')) as {
      scripts: object
    }
    expect(Object.keys(scripts).filter((name) => /^((pre|post)?install|prepare)$/.test(name))).toEqual([])
  })

  for (const name of ['sessile', 'express-session']) {
    describe(`installed as ${name}`, () => {
      let at = ''
      beforeAll(() => {
        at = project(`as-${name}`, name)
      })

      test('CommonJS: require is the factory, with the classes on it', () => {
        const code = `const session = require('${name}'); const { Store, MemoryStore, Cookie, Session } = session; console.log(${FACTS})`
        expect(run(at, 'common.cjs', code)).toEqual(ALL_THERE)
      })

      test('ES modules: the default and the names are the same objects as for require', () => {
        const code = `import session, { Store, MemoryStore, Cookie, Session } from '${name}'
          import { createRequire } from 'node:module'
          if (createRequire(import.meta.url)('${name}') !== session) throw new Error('two copies')
          console.log(${FACTS})`
        expect(run(at, 'module.mjs', code)).toEqual(ALL_THERE)
      })

      test('the deep paths give the same objects, with and without .js', () => {
        const code = `const session = require('${name}')
          const deep = { cookie: 'Cookie', session: 'Session', store: 'Store', memory: 'MemoryStore' }
          console.log(JSON.stringify(Object.entries(deep).flatMap(([file, name]) => ['', '.js'].map(
            (end) => require('${name}/session/' + file + end) === session[name])).concat(['/index', '/index.js'].map(
            (path) => require('${name}' + path) === session), require('${name}/package').name === 'sessile')))`
        expect(run(at, 'deep.cjs', code)).toEqual(Array(11).fill(true))
      })

      test('TypeScript: augmented and named, in every kind of module resolution', { timeout: 240_000 }, () => {
        const body = `
          declare module '${name}' { interface SessionData { userId: number } }
          const app = express()
          app.use(session({ secret: 'x', resave: false, saveUninitialized: false, cookie: { sameSite: 'auto' } }))
          app.use(session('x'))
          app.get('/', async (req, res) => {
            const id: number | undefined = req.session.userId
            await req.session.save()
            req.session.regenerate((error) => void error)
            res.json({ id, sid: req.sessionID })
          })
          export class Mine extends session.Store {
            get(sid: string, callback: (error: any, data?: session.SessionData | null) => void): void { callback(null) }
            set(sid: string, data: session.SessionData, callback?: (error?: any) => void): void { callback?.() }
            destroy(sid: string, callback?: (error?: any) => void): void { callback?.() }
          }
          declare global { namespace Express { interface Request { session: session.Session & Partial<session.SessionData>; sessionID: string } } }
          export function generate(store: Express.SessionStore, req: express.Request): void { void store.generate(req) }
          session({ store: new Mine(), genid: (req) => req.get('x') ?? '', cookie: (req) => ({ secure: req.secure }) })`
        const asDefault = `import express from 'express'\nimport session from '${name}'\n${body}`
        const required = `import express = require('express')\nimport session = require('${name}')\n${body}`
        const together = `import * as express from 'express'\nimport * as session from '${name}'\n${body}`
        const augmented = `import session = require('${name}')
          declare module '${name}' {
            interface SessionOptions { tenant?: string }
            interface CookieOptions { note?: string }
            interface Session { greet(): string }
          }
          session({ secret: 'x', tenant: 'acme', cookie: { note: 'y' } })
          const cookie: session.CookieOptions = { maxAge: 1, note: 'y' }
          session({ secret: 'x', cookie: () => cookie })
          // @ts-expect-error no such option
          session({ secret: 'x', tenamt: 'acme' })
          export const named = (error: unknown, flash: session.Flash, events: session.SessionEvents) => {
            events.on('expired', ({ reason }: session.SessionEventMap['expired']) => flash.add('info', reason))
            return error instanceof session.SessionError && error.code === 'ERR_SESSION_LIMIT'
          }
          export const options: [session.HashIds, session.Encryption, session.Version] = [{ key: 'k' }, 'k', 1]`
        const programs: [sources: Record<string, string>, module: string, resolution: string, ...more: string[]][] = [
          [{ 'required.cts': required, 'default.mts': asDefault, 'augmented.cts': augmented }, 'node16', 'node16'],
          [{ 'default.ts': asDefault }, 'esnext', 'bundler', '--esModuleInterop'],
        ]
        if (compilerMajor < 7) programs.push([{ 'old.ts': together }, 'commonjs', 'node10'])
        for (const [sources, module, moduleResolution, ...more] of programs) {
          const options = ['--module', module, '--moduleResolution', moduleResolution, '--skipLibCheck', ...more]
          expect(compile(at, sources, ...options)).toBe('')
        }
      })
    })
  }

  test(
    'TypeScript: without esModuleInterop and skipLibCheck its declarations compile, and refuse what is wrong',
    { timeout: 120_000 },
    () => {
      const at = project('plain-types', 'sessile')
      const source = `import session = require('sessile')
      import { RecordStore } from 'sessile'
      import { signedCookie } from 'sessile/testing'
      import { RedisStore } from 'sessile/redis'
      import { PostgresStore } from 'sessile/postgres'
      import { MysqlStore } from 'sessile/mysql'
      import { SqliteStore } from 'sessile/sqlite'
      export const stores = [RecordStore, RedisStore, PostgresStore, MysqlStore, SqliteStore]
      export const all = [session('x'), session({ secret: 'x', store: new session.MemoryStore() }), signedCookie]
      // @ts-expect-error a number is no store
      session({ secret: 'x', store: 5 })`
      // TypeScript 7 always has esModuleInterop.
      const withoutInterop = compilerMajor < 7 ? ['--esModuleInterop', 'false'] : []
      const modules = ['node16', ...(compilerMajor < 7 ? ['commonjs'] : [])]
      for (const module of modules) {
        const resolution = module === 'commonjs' ? 'node10' : module
        const options = ['--module', module, '--moduleResolution', resolution, '--types', 'node,express']
        expect(compile(at, { [`plain-${module}.cts`]: source }, ...options, ...withoutInterop), module).toBe('')
      }
    },
  )

  test('TypeScript: in place of @types/express-session, which other types bring along, it does not clash', () => {
    const at = project('beside-types', 'sessile')
    cpSync(path.join(folder, 'package'), path.join(at, 'node_modules/@types/express-session'), { recursive: true })
    const source = `import express from 'express'
      import session from 'sessile'
      import * as other from 'express-session'
      declare module 'sessile' { interface SessionData { userId: number } }
      express().use(session('x')).get('/', async (req, res) => {
        const id: number | undefined = req.session.userId
        await req.session.save()
        const data: other.SessionData = req.session as session.SessionData
        res.json({ id, data })
      })`
    const types = ['--types', 'node,express,express-session']
    expect(compile(at, { 'a.ts': source }, '--module', 'node16', '--esModuleInterop', ...types)).toBe('')
  })

  test('has a command, of dependencies that nothing else loads', () => {
    const at = project('command', 'sessile')
    const { bin, version } = JSON.parse(readFileSync(path.join(folder, 'package/package.json'), 'utf8')) as {
      bin: { sessile: string }
      version: string
    }
    const command = path.join(at, 'node_modules/sessile', bin.sessile)
    expect(readFileSync(command, 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/)
    expect(execFileSync(process.execPath, [command, '--version'], { cwd: at, encoding: 'utf8' })).toBe(`${version}\n`)
  })

  test('importing it loads no client of a database, and nothing of the command', () => {
    const at = project('lean', 'sessile')
    const code = `require('sessile')
      console.log(JSON.stringify(Object.keys(require.cache).filter((file) => /node_modules.(pg|mysql2|redis|ioredis|@redis|express|@aws-sdk|@opentelemetry|commander)\\W|stores.(redis|postgres|mysql|sqlite|dynamodb|moving)|dist.(cli|opentelemetry|inspector)/.test(file))))`
    expect(run(at, 'lean.cjs', code)).toEqual([])
  })
})
