import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import path from 'node:path'
import express from 'express'
import mysql from 'mysql2'
import pg from 'pg'
import { createClient } from 'redis'
import request from 'supertest'
import session from '../../src'
import type { RecordStore } from '../../src/store/record-store'
import { MysqlStore } from '../../src/stores/mysql'
import { PostgresStore } from '../../src/stores/postgres'
import { RedisStore } from '../../src/stores/redis'
import { SqliteStore, type SqliteDatabase } from '../../src/stores/sqlite'
import { SECRET } from '../support/app'
import { temporaryFolder } from '../support/sqlite'

export const COMMAND = path.join(__dirname, '../../dist/cli/index.js')

export interface Ended {
  code: number | null
  stdout: string
  stderr: string
}

/** The command line in a process of its own. */
export interface Started {
  process: ChildProcess
  ended: Promise<Ended>
}

export function start(args: string[], env: NodeJS.ProcessEnv = {}): Started {
  const child = spawn(process.execPath, [COMMAND, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_NO_WARNINGS: '1', NO_COLOR: '1', ...env },
  })
  const ended: Ended = { code: null, stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => (ended.stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (ended.stderr += text))
  return {
    process: child,
    ended: new Promise((resolve) => child.on('close', (code) => resolve({ ...ended, code }))),
  }
}

/** Runs the command line to its end. */
export function sessile(args: string[], env?: NodeJS.ProcessEnv): Promise<Ended> {
  return start(args, env).ended
}

/** A store of the test's own, and how the command line is told of it. */
export interface Opened {
  store: RecordStore
  /** Its URL, or the path of its file. */
  url: string
  /** Its prefix or table, as an option. */
  option: [name: 'prefix' | 'table', value: string]
  close(): Promise<void>
}

/** What tells a command of the two stores of a move. */
export function between(from: Opened, to: Opened): string[] {
  const [fromName, fromValue] = from.option
  const [toName, toValue] = to.option
  return ['--from', from.url, `--from-${fromName}`, fromValue, '--to', to.url, `--to-${toName}`, toValue]
}

const unique = (): string => 'c' + randomBytes(6).toString('hex')

/** What tells a command of a store. */
export function told({ url, option: [name, value] }: Opened): string[] {
  return ['--store', url, `--${name}`, value]
}

/** Opens a store of each kind, which is empty. */
export const stores = {
  async redis(): Promise<Opened> {
    const client = createClient()
    await client.connect()
    const prefix = `${unique()}:`
    const store = new RedisStore({ client, prefix })
    const close = async (): Promise<void> => {
      await store.clear()
      client.destroy()
    }
    return { store, url: 'redis://127.0.0.1', option: ['prefix', prefix], close }
  },
  async postgres(): Promise<Opened> {
    const pool = new pg.Pool({ host: '127.0.0.1', user: 'postgres', database: 'test' })
    const tableName = unique()
    const store = new PostgresStore({ pool, tableName, createTableIfMissing: true, pruneSessionInterval: false })
    await store.length()
    const close = async (): Promise<void> => {
      await store.close()
      await pool.query(`DROP TABLE IF EXISTS ${tableName}, ${tableName}_user`)
      await pool.end()
    }
    return { store, url: 'postgres://postgres@127.0.0.1/test', option: ['table', tableName], close }
  },
  async mysql(): Promise<Opened> {
    const pool = mysql.createPool({ host: '127.0.0.1', user: 'root', database: 'test' })
    const tableName = unique()
    const store = new MysqlStore({ pool, schema: { tableName }, clearExpired: false })
    await store.length()
    const close = async (): Promise<void> => {
      await store.close()
      await pool.promise().query(`DROP TABLE IF EXISTS ${tableName}, ${tableName}_user`)
      await pool.promise().end()
    }
    return { store, url: 'mysql://root@127.0.0.1/test', option: ['table', tableName], close }
  },
  async sqlite(): Promise<Opened> {
    const file = path.join(temporaryFolder(), 'sessions.db')
    const Database = createRequire(__filename)('libsql') as new (file: string) => SqliteDatabase
    const database = new Database(file)
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF')
    const tableName = unique()
    const store = new SqliteStore({ database, tableName, pruneInterval: 0 })
    const close = async (): Promise<void> => {
      await store.close()
      database.close()
    }
    return Promise.resolve({ store, url: file, option: ['table', tableName], close })
  },
}

/** An app over a store. */
export function appOver(store: RecordStore, options: session.SessionOptions = {}) {
  const sessions = session({
    ...{ secret: SECRET, resave: false, saveUninitialized: false, hints: false, store },
    ...{ user: (session: object) => (session as { user?: string }).user, cookie: { maxAge: 3_600_000 } },
    ...options,
  })
  const app = express()
  app.use(sessions)
  app.get('/login/:user', (req: any, res) => {
    req.session.user = req.params.user
    res.send('in')
  })
  app.get('/me', (req: any, res) => res.send(req.session.user ?? 'nobody'))
  app.get('/renew', (req, res, next) => sessions.renew(req).then(() => res.send('renewed'), next))
  return {
    app,
    sessions,
    /** Answers the cookie, `name=value`. */
    async login(user: string): Promise<string> {
      const { headers } = await request(app).get(`/login/${user}`)
      return (headers['set-cookie']?.[0] ?? '').split(';')[0] as string
    },
    async ask(path: string, cookie: string): Promise<string> {
      return (await request(app).get(path).set('Cookie', cookie)).text
    },
  }
}

/** The ID in a cookie. */
export function idOf(cookie: string): string {
  return decodeURIComponent(cookie.slice(cookie.indexOf('=') + 1)).slice(2, 34)
}
