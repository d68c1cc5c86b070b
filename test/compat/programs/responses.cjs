// Others' ways to call an app, with responses that are not Node's own, and how an app answers through each: asked for by
// GET /<package>, it says what was not as it should be.
const { EventEmitter, once } = require('node:events')
const http = require('node:http')
const { PassThrough } = require('node:stream')
const express = require('express')
const session = require('express-session')

const BODY = 'Grüße, ' + 'x'.repeat(100)

/** Answers in a later turn, and has what was handed to it as text, as a database has. */
class SlowStore extends session.Store {
  records = new Map()
  #later(callback, work) {
    setTimeout(() => callback?.(null, work()), 2)
  }
  get(id, callback) {
    this.#later(callback, () => this.records.has(id) && JSON.parse(this.records.get(id)))
  }
  set(id, data, callback) {
    this.#later(callback, () => void this.records.set(id, JSON.stringify(data)))
  }
  destroy(id, callback) {
    this.#later(callback, () => void this.records.delete(id))
  }
  all(callback) {
    callback(null, [...this.records.values()].map(JSON.parse))
  }
}

const stores = { 'memory store': () => new session.MemoryStore(), 'slow store': () => new SlowStore() }
const turns = { 'in the same turn': (answer) => answer(), 'in a later one': (answer) => void setTimeout(answer, 2) }
const answers = {
  send: (res) => res.send(BODY),
  'write and end': (res) => {
    res.write(BODY.slice(0, 10))
    res.end(BODY.slice(10))
  },
}

function appOf(store, handler) {
  const app = express()
  app.use(session({ secret: 'a secret for tests only, 3f9c2a7d51', resave: false, saveUninitialized: false, store }))
  app.get('/', (req, res) => {
    req.session.views = (req.session.views ?? 0) + 1
    handler(res)
  })
  return app
}

const list = (value) => (value === undefined ? [] : [].concat(value))
const event = (cookie) => ({
  version: '2.0',
  routeKey: '$default',
  rawPath: '/',
  rawQueryString: '',
  headers: { host: 'localhost' },
  cookies: cookie ? [cookie] : [],
  isBase64Encoded: false,
  requestContext: {
    http: { method: 'GET', path: '/', protocol: 'HTTP/1.1', sourceIp: '192.0.2.1', userAgent: 'a' },
    stage: '$default',
    requestId: '1',
  },
})
const lambda = (handle) => async (cookie) => {
  const { body, cookies, headers, isBase64Encoded, multiValueHeaders, statusCode } = await handle(event(cookie), {})
  return {
    status: statusCode,
    body: isBase64Encoded ? Buffer.from(body, 'base64').toString() : body,
    cookies: cookies ?? list(multiValueHeaders?.['set-cookie'] ?? headers?.['set-cookie']),
  }
}
const overNetwork = async (port, cookie) => {
  const req = http.request({ port, headers: cookie ? { cookie } : {}, agent: false }).end()
  const [res] = await once(req, 'response')
  let body = ''
  for await (const chunk of res.setEncoding('utf8')) body += chunk
  return { status: res.statusCode, body, cookies: list(res.headers['set-cookie']) }
}

const h4ad = () => {
  const { ServerlessAdapter } = require('@h4ad/serverless-adapter')
  const { ApiGatewayV2Adapter } = require('@h4ad/serverless-adapter/adapters/aws')
  const { ExpressFramework } = require('@h4ad/serverless-adapter/frameworks/express')
  return (app, handler, resolver) =>
    ServerlessAdapter.new(app)
      .setFramework(new ExpressFramework())
      .setHandler(handler)
      .setResolver(resolver)
      .addAdapter(new ApiGatewayV2Adapter())
      .build()
}

/** A client of an app, by a package. */
const clients = {
  '@codegenie/serverless-express': (app) => lambda(require('@codegenie/serverless-express').configure({ app })),
  '@vendia/serverless-express': (app) => lambda(require('@vendia/serverless-express')({ app })),
  '@h4ad/serverless-adapter'(app) {
    const { DefaultHandler } = require('@h4ad/serverless-adapter/handlers/default')
    const { PromiseResolver } = require('@h4ad/serverless-adapter/resolvers/promise')
    return lambda(h4ad()(app, new DefaultHandler(), new PromiseResolver()))
  },
  '@h4ad/serverless-adapter, streaming'(app) {
    const { AwsStreamHandler } = require('@h4ad/serverless-adapter/handlers/aws')
    const { DummyResolver } = require('@h4ad/serverless-adapter/resolvers/dummy')
    return async (cookie) => {
      const stream = new PassThrough()
      let head
      globalThis.awslambda = {
        streamifyResponse: (handle) => handle,
        HttpResponseStream: { from: (to, metadata) => ((head = metadata), to) },
      }
      const answered = h4ad()(app, new AwsStreamHandler(), new DummyResolver())(event(cookie), stream, {
        awsRequestId: '1',
      })
      let body = ''
      for await (const chunk of stream.setEncoding('utf8')) body += chunk
      await answered
      return { status: head.statusCode, body, cookies: head.cookies ?? list(head.headers['set-cookie']) }
    }
  },
  'serverless-http': (app) => lambda(require('serverless-http')(app)),
  'light-my-request': (app) => async (cookie) => {
    const { inject } = require('light-my-request')
    const { statusCode, payload, headers } = await inject(app, { url: '/', headers: cookie ? { cookie } : {} })
    return { status: statusCode, body: payload, cookies: list(headers['set-cookie']) }
  },
  'node-mocks-http': (app) => async (cookie) => {
    const { createMocks } = require('node-mocks-http')
    const { req, res } = createMocks(
      { method: 'GET', url: '/', headers: cookie ? { cookie } : {} },
      { eventEmitter: EventEmitter },
    )
    const ended = once(res, 'end')
    app(req, res)
    await ended
    const body = Buffer.concat([res._getBuffer(), Buffer.from(String(res._getData()))]).toString()
    return { status: res.statusCode, body, cookies: list(res.getHeader('Set-Cookie')) }
  },
  '@fastify/express': (app) => async (cookie) => {
    const server = require('fastify')()
    await server.register(require('@fastify/express'))
    server.use(app)
    await server.listen({ port: 0, host: '127.0.0.1' })
    try {
      return await overNetwork(server.server.address().port, cookie)
    } finally {
      await server.close()
    }
  },
}

const sessionsIn = (store) => new Promise((resolve) => store.all((_error, all) => resolve(Object.values(all))))

async function wrongWith(name) {
  const wrong = []
  for (const [storeName, make] of Object.entries(stores))
    for (const [turnName, turn] of Object.entries(turns))
      for (const [answerName, answer] of Object.entries(answers)) {
        const store = make()
        const client = clients[name](appOf(store, (res) => turn(() => answer(res))))
        const first = await client()
        const second = await client(first.cookies[0]?.split(';')[0])
        const sessions = await sessionsIn(store)
        const isRight =
          [first, second].every(({ body, status }) => body === BODY && status === 200) &&
          /^connect\.sid=/.test(first.cookies[0]) &&
          sessions.length === 1 &&
          sessions[0].views === 2
        if (!isRight) wrong.push({ storeName, turnName, answerName, first, second, sessions })
      }
  return wrong
}

/** engine.io's response to a handshake, one that is accepted and one that is refused. */
async function wrongWithHandshakes() {
  const wrong = []
  for (const [storeName, make] of Object.entries(stores)) {
    const store = make()
    const server = http.createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const engine = require('engine.io').attach(server, { transports: ['websocket'] })
    engine.use(
      session({ secret: 'a secret for tests only, 3f9c2a7d51', resave: false, saveUninitialized: false, store }),
    )
    engine.use((req, res, next) => {
      req.session.views = 1
      if (!req.url.includes('refuse')) return next()
      res.writeHead(401)
      res.end()
    })
    const handshake = (query) =>
      http
        .request({
          port: server.address().port,
          path: `/engine.io/?EIO=4&transport=websocket${query}`,
          headers: {
            connection: 'Upgrade',
            upgrade: 'websocket',
            'sec-websocket-version': '13',
            'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
          },
        })
        .end()
    const [answer, socket] = await once(handshake(''), 'upgrade')
    // All that engine.io can do then is to close the connection.
    await once(handshake('&refuse'), 'response').catch(() => undefined)
    socket.destroy()
    while ((await sessionsIn(store)).length < 2) await new Promise((resolve) => setTimeout(resolve, 2))
    if (!/^connect\.sid=/.test(answer.headers['set-cookie'])) wrong.push({ storeName, headers: answer.headers })
    engine.close()
    server.close()
  }
  return wrong
}

const server = http.createServer((req, res) => {
  const name = decodeURIComponent(req.url.slice(1))
  const trying = name === 'engine.io' ? wrongWithHandshakes() : wrongWith(name)
  trying.then(
    (wrong) => res.end(JSON.stringify(wrong)),
    (error) => res.writeHead(500).end(error.stack),
  )
})
server.listen(0, '127.0.0.1', () => {
  process.send({ port: server.address().port, sessions: require('express-session/package.json').name })
})
