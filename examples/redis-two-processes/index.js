// Two processes behind a round-robin proxy, over one Redis: no sticky sessions needed.
const { fork } = require('node:child_process')
const { randomBytes } = require('node:crypto')
const http = require('node:http')
const express = require('express')
const { createClient } = require('redis')
const session = require('sessile')
const { RedisStore } = require('sessile/redis')

async function app() {
  const client = createClient({ url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379' })
  client.on('error', (error) => console.error('redis', error.message))
  await client.connect()
  const app = express()
  app.use(
    session(process.env.SESSION_SECRET, {
      store: new RedisStore({ client, prefix: 'example:' }),
      cookie: { maxAge: 3_600_000 },
    }),
  )
  app.get('/', (req, res) => {
    req.session.views = (req.session.views ?? 0) + 1
    res.send(`process ${process.env.NAME}, views: ${req.session.views}`)
  })
  const server = app.listen(0, '127.0.0.1', () => process.send(server.address().port))
  process.on('disconnect', () => process.exit())
}

async function proxy() {
  // One for both: each verifies the cookies that the other has signed.
  const SESSION_SECRET = randomBytes(32).toString('base64')
  const ports = await Promise.all(
    ['one', 'two'].map((name) => {
      const child = fork(__filename, { env: { SESSION_SECRET, ...process.env, NAME: name } })
      return new Promise((resolve) => child.once('message', resolve))
    }),
  )
  let turn = 0
  const server = http.createServer((req, res) => {
    const port = ports[turn++ % ports.length]
    const { method, url: path, headers } = req
    const onward = http.request({ host: '127.0.0.1', port, method, path, headers }, (answer) => {
      res.writeHead(answer.statusCode, answer.headers)
      answer.pipe(res)
    })
    onward.on('error', () => res.writeHead(502).end())
    req.pipe(onward)
  })
  server.listen(process.env.PORT ?? 3000, () => console.log(`http://localhost:${server.address().port}/`))
}

if (process.send) app()
else proxy()
