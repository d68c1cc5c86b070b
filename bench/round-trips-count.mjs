// Serves a few requests over each store and notes what reaches the database server for each.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { countingProxy, postgresCommands, redisCommands } from './counting-proxy.mjs'
import { idOf, OPTIONS, sessionData } from './sessions.mjs'

const require = createRequire(import.meta.url)
const REDIS = new URL(process.env.REDIS_URL ?? 'redis://127.0.0.1:6379')
const DATABASE = new URL(process.env.PG_URL ?? 'postgres://postgres@127.0.0.1:5432/test')
const PREFIX = `bench-trips:${process.pid}:`
const SCHEMA = `bench_trips_${process.pid}`

const handlers = {
  '/untouched': (req, res) => res.end('ok'),
  '/read': (req, res) => res.end(String(req.session.views)),
  '/write': (req, res) => {
    req.session.views++
    res.end(String(req.session.views))
  },
  '/login': (req, res) => {
    Object.assign(req.session, sessionData(200))
    res.end('ok')
  },
  // What Passport does: a new session, its old data kept, saved before the handler goes on.
  '/passport': (req, res) => {
    const { views } = req.session
    req.session.regenerate((error) => {
      assert.ifError(error)
      req.session.views = views
      req.session.passport = { user: 4711 }
      req.session.save((error) => {
        assert.ifError(error)
        res.end('ok')
      })
    })
  },
  '/logout': (req, res) => {
    req.session.destroy((error) => {
      assert.ifError(error)
      res.end('ok')
    })
  },
}

async function count(session, store, proxy) {
  const handleSession = session({ ...OPTIONS, store })
  const server = createServer((req, res) => {
    handleSession(req, res, (error) => {
      assert.ifError(error)
      handlers[req.url](req, res)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  let cookie = ''

  /** The commands that one request leads to, those that come after its answer included. */
  async function commandsFor(path, expected) {
    proxy.take()
    const response = await fetch(`http://127.0.0.1:${server.address().port}${path}`, { headers: { cookie } })
    assert.equal(response.status, 200)
    if (expected) assert.equal(await response.text(), expected)
    const set = response.headers.get('set-cookie')
    if (set) {
      assert.ok(idOf(set))
      cookie = set.split(';')[0]
    }
    await new Promise((resolve) => setTimeout(resolve, 200))
    return proxy.take()
  }

  const results = {}
  await commandsFor('/login')
  cookie = ''
  results['new visitor, untouched'] = await commandsFor('/untouched')
  results['new visitor, logs in'] = await commandsFor('/login')
  results['returning, reads'] = await commandsFor('/read', '1000000')
  results['returning, never looked at'] = await commandsFor('/untouched')
  results['returning, writes'] = await commandsFor('/write', '1000001')
  assert.equal((await commandsFor('/read', '1000001')).length > 0, true)
  results['login by regenerate, then save'] = await commandsFor('/passport')
  await commandsFor('/read', '1000001')
  results.logout = await commandsFor('/logout')
  await commandsFor('/read', 'undefined')
  server.close()
  return results
}

const original = require('express-session')
const sessile = require('sessile')

async function overRedis(session, makeStore) {
  const proxy = await countingProxy(Number(REDIS.port || 6379), REDIS.hostname, redisCommands)
  const client = require('redis').createClient({ url: `redis://127.0.0.1:${proxy.port}` })
  await client.connect()
  const results = await count(session, makeStore(client), proxy)
  for await (const keys of client.scanIterator({ MATCH: `${PREFIX}*` })) if (keys.length > 0) await client.del(keys)
  client.destroy()
  proxy.close()
  return results
}

async function overPostgres(session, makeStore) {
  const proxy = await countingProxy(Number(DATABASE.port || 5432), DATABASE.hostname, postgresCommands)
  const through = new URL(DATABASE)
  through.hostname = '127.0.0.1'
  through.port = String(proxy.port)
  const pool = new (require('pg').Pool)({ connectionString: through.href })
  await pool.query(`CREATE SCHEMA "${SCHEMA}"`)
  const results = await count(session, makeStore(pool), proxy)
  await pool.query(`DROP SCHEMA "${SCHEMA}" CASCADE`)
  await pool.end()
  proxy.close()
  return results
}

const tableOptions = { schemaName: SCHEMA, createTableIfMissing: true, pruneSessionInterval: false }
const { RedisStore: ConnectRedis } = require('connect-redis')
const { RedisStore } = require('sessile/redis')
const PgStore = require('connect-pg-simple')(original)
const { PostgresStore } = require('sessile/postgres')

process.send({
  'express-session + connect-redis': await overRedis(
    original,
    (client) => new ConnectRedis({ client, prefix: PREFIX }),
  ),
  'sessile/redis': await overRedis(sessile, (client) => new RedisStore({ client, prefix: PREFIX })),
  'express-session + connect-pg-simple': await overPostgres(original, (pool) => new PgStore({ pool, ...tableOptions })),
  'sessile/postgres': await overPostgres(sessile, (pool) => new PostgresStore({ pool, ...tableOptions })),
})
process.disconnect()
