// An HTTP server on a free port, with or without sessions: node bench/end-to-end-server.mjs <framework> <sessions>
import { createRequire } from 'node:module'
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DAY, OPTIONS, SECRET, sessionData } from './sessions.mjs'

const require = createRequire(import.meta.url)
const [framework, sessions] = process.argv.slice(2)

const DATABASE = process.env.PG_URL ?? 'postgres://postgres@127.0.0.1:5432/test'
const SCHEMA = `bench_${process.pid}`
const PREFIX = `bench:${process.pid}:`

/** What is to be done when the server ends. */
let cleanUp = async () => {}

const stores = {
  'express-session': (session) => new session.MemoryStore(),
  sessile: (session) => new session.MemoryStore(),
  'express-session+connect-redis': async () => {
    const { RedisStore } = require('connect-redis')
    return new RedisStore({ client: await redis(), prefix: PREFIX })
  },
  'sessile+redis': async () => {
    const { RedisStore } = require('sessile/redis')
    return new RedisStore({ client: await redis(), prefix: PREFIX })
  },
  'express-session+connect-pg-simple': async (session) => {
    const PgStore = require('connect-pg-simple')(session)
    return new PgStore({ pool: await postgres(), schemaName: SCHEMA, createTableIfMissing: true })
  },
  'sessile+postgres': async () => {
    const { PostgresStore } = require('sessile/postgres')
    return new PostgresStore({ pool: await postgres(), schemaName: SCHEMA, createTableIfMissing: true })
  },
  'sessile+sqlite': () => {
    const { SqliteStore } = require('sessile/sqlite')
    const Database = require('libsql')
    const file = join(tmpdir(), `sessile-bench-${process.pid}.db`)
    const database = new Database(file)
    database.exec('PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
    cleanUp = async () => {
      database.close()
      for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true })
    }
    return new SqliteStore({ database })
  },
}

async function redis() {
  const client = require('redis').createClient({ url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379' })
  await client.connect()
  cleanUp = async () => {
    for await (const keys of client.scanIterator({ MATCH: `${PREFIX}*`, COUNT: 1000 })) {
      if (keys.length > 0) await client.del(keys)
    }
    client.destroy()
  }
  return client
}

async function postgres() {
  const pool = new (require('pg').Pool)({ connectionString: DATABASE, max: 10 })
  await pool.query(`CREATE SCHEMA "${SCHEMA}"`)
  cleanUp = async () => {
    await pool.query(`DROP SCHEMA "${SCHEMA}" CASCADE`)
    await pool.end()
  }
  return pool
}

async function express(name) {
  const app = require(name)()
  if (sessions !== 'bare') {
    const session = require(sessions.split('+')[0])
    app.use(session({ ...OPTIONS, store: await stores[sessions](session) }))
  }
  const fixed = { ...sessionData(200) }
  const sessionOf = (req) => (sessions === 'bare' ? fixed : req.session)
  app.get('/login', (req, res) => {
    Object.assign(sessionOf(req), sessionData(200))
    res.type('text/plain').send('welcome')
  })
  app.get('/read', (req, res) => void res.type('text/plain').send(sessionOf(req).user.name))
  app.get('/write', (req, res) => {
    const session = sessionOf(req)
    session.views++
    res.type('text/plain').send(session.user.name)
  })
  const server = app.listen(0, '127.0.0.1', () => listening(server.address().port))
}

async function fastify() {
  const app = require('fastify')()
  if (sessions !== 'bare') {
    await app.register(require('@fastify/cookie'))
    await app.register(require('@fastify/session'), {
      secret: SECRET,
      saveUninitialized: false,
      rolling: false,
      cookie: { maxAge: DAY, secure: false },
    })
  }
  const fixed = { ...sessionData(200) }
  const sessionOf = (req) => (sessions === 'bare' ? fixed : req.session)
  app.get('/login', async (req, reply) => {
    Object.assign(sessionOf(req), sessionData(200))
    return reply.type('text/plain').send('welcome')
  })
  app.get('/read', async (req, reply) => reply.type('text/plain').send(sessionOf(req).user.name))
  app.get('/write', async (req, reply) => {
    const session = sessionOf(req)
    session.views++
    return reply.type('text/plain').send(session.user.name)
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  listening(app.server.address().port)
}

async function koa() {
  const Koa = require('koa')
  const app = new Koa()
  const fixed = { ...sessionData(200) }
  if (sessions !== 'bare') {
    app.keys = [SECRET]
    const store = new Map()
    const { createSession } = require('koa-session')
    app.use(
      createSession(
        {
          maxAge: DAY,
          store: {
            get: async (id) => store.get(id),
            set: async (id, data) => void store.set(id, data),
            destroy: async (id) => void store.delete(id),
          },
        },
        app,
      ),
    )
  }
  app.use((ctx) => {
    const session = sessions === 'bare' ? fixed : ctx.session
    ctx.type = 'text/plain'
    if (ctx.path === '/login') Object.assign(session, sessionData(200))
    if (ctx.path === '/write') session.views++
    ctx.body = ctx.path === '/login' ? 'welcome' : session.user.name
  })
  const server = app.listen(0, '127.0.0.1', () => listening(server.address().port))
}

function listening(port) {
  process.send({ port })
}

process.on('message', async (question) => {
  if (question === 'settle') globalThis.gc()
  if (question === 'settle' || question === 'cpu') process.send(process.cpuUsage())
  if (question === 'end') {
    await cleanUp()
    process.exit(0)
  }
})

if (framework === 'fastify') await fastify()
else if (framework === 'koa') await koa()
else await express(framework)
