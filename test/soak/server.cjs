// One of the processes of the soak run: node server.cjs <port of Redis>
const { setTimeout } = require('node:timers/promises')
const express = require('express')
const { createClient } = require('redis')
const session = require('../..')
const { RedisStore } = require('../../dist/stores/redis')

/** Whose every third callback is lost. */
class LosingStore extends session.Store {
  #sessions = new session.MemoryStore({ max: 1000 })
  #calls = 0
  get(id, callback) {
    this.#sessions.get(id, callback)
  }
  set(id, data, callback) {
    this.#sessions.set(id, data, ++this.#calls % 3 === 0 ? () => undefined : callback)
  }
  destroy(id, callback) {
    this.#sessions.destroy(id, callback)
  }
}

/** What is kept in the memory of this process must not grow: a full MemoryStore, scans that are left, lost callbacks. */
function bystanders() {
  const router = express.Router()
  const bounded = new session.MemoryStore({ max: 500 })
  const options = { secret: 'another secret for the soak run, long enough', resave: false, saveUninitialized: false }
  const count = (req, res) => {
    req.session.views = (req.session.views ?? 0) + 1
    res.json({ views: req.session.views })
  }
  router.get('/bounded', session({ ...options, store: bounded, hints: false }), count)
  router.get('/losing', session({ ...options, store: new LosingStore(), timeout: 200, hints: false }), count)
  router.get('/scan', async (req, res) => {
    for await (const { id } of bounded.records()) {
      await bounded.remove(id)
      break
    }
    res.json({ count: await bounded.length() })
  })
  return router
}

async function main() {
  const client = createClient({ url: `redis://127.0.0.1:${process.argv[2]}`, disableOfflineQueue: true })
  client.on('error', () => {})
  await client.connect()
  const sessions = session({
    secret: 'a secret for the soak run that is long enough',
    resave: false,
    saveUninitialized: false,
    store: new RedisStore({ client }),
    cookie: { maxAge: 600_000 },
    timeout: 1000,
    onSaveError: 'error',
    // So short that parallel requests meet one all the time.
    renewalTimeout: 300,
    hints: false,
  })
  const app = express()
  app.use('/bystanders', bystanders())
  app.use(sessions)
  app.get('/login', async (req, res) => {
    await req.session.regenerate()
    Object.assign(req.session, { owner: req.query.owner, writes: 0 })
    res.redirect('/read')
  })
  app.get('/read', (req, res) => {
    const { owner, writes, ...rest } = req.session
    res.json({ owner, writes, keys: Object.keys(rest) })
  })
  app.get('/untouched', (req, res) => res.json({}))
  app.get('/write', async (req, res) => {
    await sessions.update(req, (session) => {
      session.writes++
    })
    res.json({ owner: req.session.owner, writes: req.session.writes })
  })
  app.get('/parallel/:key', async (req, res) => {
    const { owner } = req.session
    // Long enough for another request to give the session a new ID meanwhile.
    await setTimeout(Math.random() * 20)
    req.session[req.params.key] = true
    res.json({ owner })
  })
  app.get('/renew', async (req, res) => {
    await sessions.renew(req)
    res.json({ owner: req.session.owner })
  })
  app.get('/stream', (req, res) => {
    const { owner } = req.session
    let parts = 0
    const timer = setInterval(() => {
      if (++parts < 4) return res.write(' ')
      clearInterval(timer)
      res.end(JSON.stringify({ owner }))
    }, 5)
    res.on('close', () => clearInterval(timer))
  })
  app.get('/logout', async (req, res) => {
    await req.session.destroy()
    res.json({})
  })
  app.use((error, req, res, next) => {
    if (res.headersSent) return next(error)
    res.status(503).json({ error: error.code ?? error.message })
  })
  for (const event of ['uncaughtException', 'unhandledRejection']) {
    process.on(event, (error) => process.send({ fatal: String(error?.stack ?? error) }))
  }
  process.on('message', () => {
    globalThis.gc()
    process.send({ heap: process.memoryUsage().heapUsed })
  })
  process.on('disconnect', () => process.exit())
  const server = app.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }))
}

main()
