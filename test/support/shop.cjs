// An app in a process of its own, over a store that several share: node shop.cjs <library> <store> <name> [settings]
const express = require('express')
const [library, kind, name, settings = '{}'] = process.argv.slice(2)
const session = require(library === 'sessile' ? '../..' : 'express-session')

/** The stores of the library under test, all over the same table, prefix or file called `name`. */
async function open() {
  const ours = library === 'sessile'
  if (kind === 'redis') {
    const { createClient } = require('redis')
    const client = createClient({ url: process.env.REDIS_URL })
    client.on('error', () => {})
    await client.connect()
    const { RedisStore } = require(ours ? '../../dist/stores/redis' : 'connect-redis')
    return new RedisStore({ client, prefix: `${name}:` })
  }
  if (kind === 'postgres') {
    const { Pool } = require('pg')
    const pool = new Pool({ host: '127.0.0.1', user: 'postgres', database: 'test', max: 4 })
    pool.on('error', () => {})
    const settings = { pool, tableName: name, createTableIfMissing: ours, pruneSessionInterval: false }
    if (ours) return new (require('../../dist/stores/postgres').PostgresStore)(settings)
    await pool.query(
      `CREATE TABLE IF NOT EXISTS ${name} (sid varchar PRIMARY KEY, sess json NOT NULL, expire timestamp(6) NOT NULL)`,
    )
    return new (require('connect-pg-simple')(session))(settings)
  }
  if (kind === 'mysql') {
    const pool = require('mysql2').createPool({
      host: '127.0.0.1',
      user: 'root',
      database: 'test',
      connectionLimit: 4,
    })
    if (ours) return new (require('../../dist/stores/mysql').MysqlStore)({ pool, schema: { tableName: name } })
    const MySQLStore = require('express-mysql-session')(session)
    const store = new MySQLStore({ schema: { tableName: name } }, pool.promise())
    await store.onReady()
    return store
  }
  if (kind === 'dynamodb') {
    const { DynamoDBClient } = require('@aws-sdk/client-dynamodb')
    const settings = { client: new DynamoDBClient(), table: name, createTableIfMissing: ours, errorLog: () => {} }
    if (ours) return new (require('../../dist/stores/dynamodb').DynamoDBStore)(settings)
    return new (require('connect-dynamodb')(session))({ client: settings.client, table: name })
  }
  const { SqliteStore } = require('../../dist/stores/sqlite')
  if (process.getBuiltinModule?.('node:sqlite')) return new SqliteStore({ file: name })
  const database = new (require('libsql'))(name)
  database.exec('PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
  return new SqliteStore({ database })
}

async function main() {
  const store = await open()
  const sessions = session({
    secret: 'a secret for tests that is long enough',
    resave: false,
    saveUninitialized: false,
    store,
    cookie: { maxAge: 3_600_000 },
    ...(JSON.parse(settings).maxSessionsPerUser && { user: (session) => session.user }),
    ...JSON.parse(settings),
  })
  const app = express()
  app.use(sessions)
  app.get('/login', (req, res) => {
    req.session.user = req.query.user ?? 'ada'
    res.send('in')
  })
  app.get('/me', (req, res) => res.json(req.session))
  app.get('/set/:key', (req, res) => {
    req.session[req.params.key] = 1
    setTimeout(() => res.send('set'), 5)
  })
  app.get('/slow/:ms', (req, res) => {
    req.session.slow = Date.now()
    setTimeout(() => res.send('slow'), Number(req.params.ms))
  })
  app.get('/add', async (req, res) => {
    await sessions.update(req, (session) => {
      session.count = (session.count ?? 0) + 1
    })
    res.send('added')
  })
  app.get('/logout', (req, res) => req.session.destroy((error) => (error ? res.sendStatus(500) : res.send('out'))))
  app.use((error, req, res, next) => {
    if (res.headersSent) return next(error)
    res.status(503).send(String(error.code ?? error.message))
  })
  const server = app.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }))
  // The visitors close connections, so that none is lost to a request that is on its way.
  server.keepAliveTimeout = 0
  process.on('disconnect', () => process.exit())
}

main()
