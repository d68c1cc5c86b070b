import { configure } from '@codegenie/serverless-express'
import fastifyExpress from '@fastify/express'
import { ServerlessAdapter } from '@h4ad/serverless-adapter'
import { ApiGatewayV2Adapter } from '@h4ad/serverless-adapter/adapters/aws'
import { ExpressFramework } from '@h4ad/serverless-adapter/frameworks/express'
import { AwsStreamHandler } from '@h4ad/serverless-adapter/handlers/aws'
import { DefaultHandler } from '@h4ad/serverless-adapter/handlers/default'
import { DummyResolver } from '@h4ad/serverless-adapter/resolvers/dummy'
import { PromiseResolver } from '@h4ad/serverless-adapter/resolvers/promise'
import vendia from '@vendia/serverless-express'
import express from 'express'
import { attach } from 'engine.io'
import fastify, { type FastifyReply } from 'fastify'
import { inject } from 'light-my-request'
import { EventEmitter, once } from 'node:events'
import { createServer, IncomingMessage, request, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { PassThrough, Readable } from 'node:stream'
import { createMocks } from 'node-mocks-http'
import serverlessHttp from 'serverless-http'
import { afterEach, describe, expect, test, vi } from 'vitest'
import session from '../../src'
import { appOf, classicStore, OPTIONS, type AnySession, type Handler } from '../faults/fault'
import { gate, get, listen, settled } from '../support/app'
import { setCookies } from '../support/set-cookie'

/** Stores that answer at once, in a later turn, and in a later turn by the record contract. */
const stores: Record<string, () => session.Store> = {
  'a synchronous store': () => new session.MemoryStore(),
  'an asynchronous store': () => classicStore(session),
  'an asynchronous record store': () => new LaterStore(),
}

class LaterStore extends session.MemoryStore {
  override read(...args: Parameters<session.MemoryStore['read']>) {
    return later(() => super.read(...args)) as never
  }
  override write(...args: Parameters<session.MemoryStore['write']>) {
    return later(() => super.write(...args)) as never
  }
}

const later = <T>(work: () => T): Promise<T> =>
  new Promise((resolve, reject) =>
    setTimeout(() => {
      try {
        resolve(work())
      } catch (error) {
        reject(error)
      }
    }, 2),
  )

const BODY = 'Grüße, ' + 'x'.repeat(100)

/** How a handler answers. */
const answers: Record<string, (res: express.Response) => unknown> = {
  send: (res) => res.send(BODY),
  end: (res) => res.end(BODY),
  'writeHead and end': (res) => res.writeHead(200, { 'X-One': '1' }).end(BODY),
  'write and end': (res) => {
    res.write(BODY.slice(0, 10))
    res.end(BODY.slice(10))
  },
  'a write of the announced length': (res) => {
    res.setHeader('Content-Length', Buffer.byteLength(BODY))
    res.write(BODY)
    res.end()
  },
}

const turns: Record<string, (answer: () => void) => void> = {
  'in the same turn': (answer) => answer(),
  'in a later one': (answer) => void setTimeout(answer, 2),
}

interface Received {
  status: number
  body: string
  cookies: string[]
}
type App = ReturnType<typeof express>
type Client = (cookie?: string) => Promise<Received>

const list = (value: unknown): string[] =>
  Array.isArray(value) ? (value as string[]) : typeof value === 'string' ? [value] : []

const event = (cookie: string | undefined) => ({
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

interface LambdaAnswer {
  statusCode: number
  body: string
  cookies?: string[]
  isBase64Encoded?: boolean
  headers?: Record<string, unknown>
  multiValueHeaders?: Record<string, string[]>
}

const received = ({ statusCode, body, cookies, headers, multiValueHeaders, isBase64Encoded }: LambdaAnswer) => ({
  status: statusCode,
  body: isBase64Encoded ? Buffer.from(body, 'base64').toString() : body,
  cookies: cookies ?? list(multiValueHeaders?.['set-cookie'] ?? headers?.['set-cookie']),
})

const lambda = (handle: (event: never, context: never) => unknown): Client => {
  return async (cookie) => received((await handle(event(cookie) as never, {} as never)) as LambdaAnswer)
}

/** Others' ways to call an app, with responses of their own. */
const programs: Record<string, (app: App) => Client> = {
  '@codegenie/serverless-express': (app) => lambda(configure({ app }) as never),
  '@vendia/serverless-express': (app) => lambda(vendia({ app }) as never),
  '@h4ad/serverless-adapter': (app) =>
    lambda(
      ServerlessAdapter.new(app)
        .setFramework(new ExpressFramework())
        .setHandler(new DefaultHandler())
        .setResolver(new PromiseResolver())
        .addAdapter(new ApiGatewayV2Adapter())
        .build(),
    ),
  'serverless-http': (app) => lambda(serverlessHttp(app as never)),
  "@h4ad/serverless-adapter's AwsStreamHandler": (app) => async (cookie) => {
    const stream = new PassThrough()
    let head: { statusCode: number; headers: Record<string, unknown>; cookies?: string[] } | undefined
    vi.stubGlobal('awslambda', {
      streamifyResponse: (handle: unknown) => handle,
      HttpResponseStream: { from: (to: unknown, metadata: typeof head) => ((head = metadata), to) },
    })
    const handle = ServerlessAdapter.new(app)
      .setFramework(new ExpressFramework())
      .setHandler(new AwsStreamHandler())
      .setResolver(new DummyResolver())
      .addAdapter(new ApiGatewayV2Adapter())
      .build()
    const answered = handle(event(cookie), stream, { awsRequestId: '1' })
    let body = ''
    for await (const chunk of stream.setEncoding('utf8')) body += String(chunk)
    await answered
    return { status: head?.statusCode ?? 0, body, cookies: head?.cookies ?? list(head?.headers['set-cookie']) }
  },
  'light-my-request': (app) => async (cookie) => {
    const { statusCode, payload, headers } = await inject(app as never, {
      url: '/',
      headers: cookie ? { cookie } : {},
    })
    return { status: statusCode, body: payload, cookies: list(headers['set-cookie']) }
  },
  'node-mocks-http': (app) => async (cookie) => {
    const { req, res } = createMocks(
      { method: 'GET', url: '/', headers: cookie ? { cookie } : {} },
      { eventEmitter: EventEmitter },
    )
    const ended = new Promise((resolve) => res.once('end', resolve))
    app(req as never, res as never)
    await ended
    const body = Buffer.concat([res._getBuffer(), Buffer.from(String(res._getData()))]).toString()
    return { status: res.statusCode, body, cookies: list(res.getHeader('Set-Cookie')) }
  },
}

function counting(answer: (res: express.Response) => unknown, turn: (answer: () => void) => void): Handler {
  return (req, res) => {
    req.session['views'] = ((req.session['views'] as number | undefined) ?? 0) + 1
    res.setHeader('X-Views', req.session['views'] as number)
    turn(() => answer(res))
  }
}

async function expectSession(client: Client, store: session.Store): Promise<void> {
  const first = await client()
  expect(first).toMatchObject({ status: 200, body: BODY })
  expect(first.cookies).toEqual([expect.stringContaining('connect.sid=')])
  const second = await client(first.cookies[0]?.split(';')[0])
  expect(second).toMatchObject({ status: 200, body: BODY })
  await settled()
  expect(await sessionsIn(store)).toMatchObject([{ views: 2 }])
}

async function sessionsIn(store: session.Store): Promise<unknown[]> {
  if (!(store instanceof session.MemoryStore)) {
    return [...(store as ReturnType<typeof classicStore>).records.values()].map((text) => JSON.parse(text) as object)
  }
  const all = await new Promise(
    (resolve, reject) => void store.all((error: unknown, sessions) => (error ? reject(error) : resolve(sessions))),
  )
  return Object.values(all as object)
}

afterEach(() => void vi.unstubAllGlobals())

describe.each(Object.keys(programs))('%s', (program) => {
  describe.each(Object.keys(stores))('with %s', (store) => {
    describe.each(Object.keys(turns))('an answer %s', (turn) => {
      test.each(Object.keys(answers))('by %s arrives with its cookie, and the session is stored', async (answer) => {
        const made = stores[store]!()
        const app = appOf([session({ ...OPTIONS, store: made })], counting(answers[answer]!, turns[turn]!))
        await expectSession(programs[program]!(app), made)
      })
    })
  })
})

describe.each(Object.keys(stores))('@fastify/express, with %s', (store) => {
  const replies: Record<string, (reply: FastifyReply) => unknown> = {
    'a text': (reply) => reply.send(BODY),
    'a stream': (reply) => reply.send(Readable.from([BODY.slice(0, 10), BODY.slice(10)])),
  }
  const ways: Record<string, (reply: FastifyReply, send: (reply: FastifyReply) => unknown) => unknown> = {
    'in the same turn': (reply, send) => void send(reply),
    'in a later one': (reply, send) => void setTimeout(() => send(reply), 2),
    'by an asynchronous handler': async (reply, send) => {
      await settled(1)
      return send(reply)
    },
  }
  const cases = Object.keys(replies).flatMap((reply) => Object.keys(ways).map((way) => [reply, way] as const))

  test.each(cases)('%s, sent %s, arrives with its cookie, and the session is stored', async (reply, way) => {
    const made = stores[store]!()
    const app = fastify()
    await app.register(fastifyExpress)
    app.use(session({ ...OPTIONS, store: made }))
    app.get('/', (request, answer) => {
      const { session } = request.raw as unknown as { session: AnySession }
      session['views'] = ((session['views'] as number | undefined) ?? 0) + 1
      return ways[way]!(answer, replies[reply]!)
    })
    await app.listen({ port: 0, host: '127.0.0.1' })
    try {
      await expectSession(async (cookie) => {
        const { port } = app.server.address() as AddressInfo
        const { status, body, headers } = await get(port, '/', cookie ? { cookie } : {})
        return { status, body, cookies: setCookies(headers, 'connect.sid') }
      }, made)
    } finally {
      await app.close()
    }
  })
})

describe.each(Object.keys(stores))("engine.io's response to a WebSocket, with %s", (store) => {
  test('carries the cookie, and the session is stored', async () => {
    const made = stores[store]!()
    const sessions = session({ ...OPTIONS, store: made })
    const server = await listen(createServer())
    const engine = attach(server.server, { transports: ['websocket'] })
    engine.use(sessions as never)
    engine.use((req: object, _res: unknown, next: () => void) => {
      ;(req as unknown as { session: AnySession }).session['views'] = 2
      next()
    })
    const req = request({
      port: server.port,
      path: '/engine.io/?EIO=4&transport=websocket',
      headers: {
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
      },
    }).end()
    const [answer, socket] = (await once(req, 'upgrade')) as [IncomingMessage, Socket]
    expect(answer.statusCode).toBe(101)
    expect(setCookies(answer.headers, 'connect.sid')).toHaveLength(1)
    await vi.waitUntil(async () => (await sessionsIn(made)).length === 1)
    socket.destroy()
    engine.close()
    await server.close()
  })
})

describe.each(Object.keys(stores))('responses that are hardly any, with %s', (store) => {
  const begin = async (res: object, req = new IncomingMessage(null as never)) => {
    const made = stores[store]!()
    Object.assign(req, { url: '/', method: 'GET' })
    const sessions = session({ ...OPTIONS, store: made })
    await new Promise<void>((resolve, reject) =>
      sessions(req as never, res as never, (error?: unknown) => (error ? reject(error) : resolve())),
    )
    ;(req as unknown as { session: AnySession }).session['views'] = 2
    return made
  }

  test('only an end: it is called with what was given to it, once the session is stored', async () => {
    const ended = gate()
    const seen: unknown[] = []
    const res = {
      end(...args: unknown[]) {
        seen.push(args)
        ended.open()
      },
    }
    const made = await begin(res)
    res.end('the body', 'utf8')
    await ended.opened
    expect(seen).toEqual([['the body', 'utf8']])
    expect(await sessionsIn(made)).toMatchObject([{ views: 2 }])
  })

  test('no method at all', async () => {
    await begin({})
  })

  test('a request and its response without a socket', async () => {
    const req = new IncomingMessage(null as never)
    const res = new ServerResponse(req)
    const made = await begin(res, req)
    expect(res.end('the body')).toBe(res)
    await vi.waitUntil(() => res.writableEnded)
    expect(res.getHeader('Set-Cookie')).toHaveLength(1)
    expect(res.writableEnded).toBe(true)
    expect(await sessionsIn(made)).toMatchObject([{ views: 2 }])
  })
})
