// An app on one of the stores from the registry, chosen by STORE; NAME sets its records apart from others'.
const express = require('express')
const session = require('express-session')

const { STORE, NAME } = process.env

const stores = {
  memorystore() {
    const MemoryStore = require('memorystore')(session)
    return new MemoryStore({ checkPeriod: 60_000 })
  },
  'session-file-store'() {
    const FileStore = require('session-file-store')(session)
    return new FileStore({ path: `./${NAME}`, retries: 0, logFn() {} })
  },
  async 'connect-redis'() {
    const { RedisStore } = require('connect-redis')
    const client = await require('redis').createClient().connect()
    return new RedisStore({ client, prefix: `${NAME}:` })
  },
  'connect-pg-simple'() {
    const PgStore = require('connect-pg-simple')(session)
    const { Pool } = require('pg')
    const pool = new Pool({ host: '127.0.0.1', user: 'postgres', database: 'test' })
    return new PgStore({ pool, schemaName: NAME, createTableIfMissing: true, pruneSessionInterval: false })
  },
  async 'express-mysql-session'() {
    const MysqlStore = require('express-mysql-session')(session)
    const connection = { host: '127.0.0.1', user: 'root', database: 'test' }
    const store = new MysqlStore({ ...connection, schema: { tableName: NAME }, clearExpired: false })
    await store.onReady()
    return store
  },
}

async function main() {
  const store = await stores[STORE]()
  const app = express()
  app.use(
    session({
      secret: 'a secret for tests only, 3f9c2a7d51',
      resave: false,
      saveUninitialized: false,
      cookie: { maxAge: 60_000 },
      store,
    }),
  )
  const finish =
    (res, next) =>
    (error, what = 'done') =>
      error ? next(error) : res.send(String(what))
  app.get('/count', (req, res) => res.send(String((req.session.views = (req.session.views ?? 0) + 1))))
  app.get('/read', (req, res) => res.send(`${req.session.user} ${req.session.views} ${req.sessionID}`))
  app.get('/login', (req, res, next) =>
    req.session.regenerate((error) => {
      if (error) return next(error)
      req.session.user = req.query.user
      req.session.save(finish(res, next))
    }),
  )
  app.get('/reload', (req, res, next) => {
    req.session.user = 'forgotten'
    req.session.reload((error) => finish(res, next)(error, req.session.user))
  })
  app.get('/logout', (req, res, next) => req.session.destroy(finish(res, next)))
  app.get('/exists', (req, res, next) =>
    store.get(req.query.id, (error, found) => finish(res, next)(error?.code === 'ENOENT' ? null : error, !!found)),
  )
  // eslint-disable-next-line no-unused-vars -- Express tells an error handler by its four parameters
  app.use((error, req, res, next) => res.status(500).send(error.stack))

  const server = app.listen(0, '127.0.0.1', () => {
    process.send({
      port: server.address().port,
      sessions: require('express-session/package.json').name,
      ownStore: store instanceof session.Store,
    })
  })
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
