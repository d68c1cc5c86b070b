import fastifyExpress from '@fastify/express'
import { attach } from 'engine.io'
import fastify, { type FastifyReply } from 'fastify'
import { once } from 'node:events'
import { createServer, IncomingMessage, request, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { PassThrough, Readable } from 'node:stream'
import { describe, expect, test, vi } from 'vitest'
import session from '../../src'
import { OPTIONS, type AnySession } from '../faults/fault'
import { gate, get, listen, settled } from '../support/app'
import { setCookies } from '../support/set-cookie'
import { BODY, expectSession, sessionsIn, stores } from './any-response'

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

const HANDSHAKE = {
  connection: 'Upgrade',
  upgrade: 'websocket',
  'sec-websocket-version': '13',
  'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
}

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
      headers: HANDSHAKE,
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

test.each(Object.keys(stores))("engine.io's refusal of a WebSocket, with %s: the session is stored", async (store) => {
  const made = stores[store]!()
  const server = await listen(createServer())
  const engine = attach(server.server, { transports: ['websocket'] })
  engine.use(session({ ...OPTIONS, store: made }) as never)
  engine.use((req: object, res: { writeHead(status: number): void; end(): void }) => {
    ;(req as unknown as { session: AnySession }).session['refused'] = 1
    res.writeHead(401)
    res.end()
  })
  const req = request({ port: server.port, path: '/engine.io/?EIO=4&transport=websocket', headers: HANDSHAKE }).end()
  // All that engine.io can do then is to close the connection.
  await expect(once(req, 'response')).rejects.toThrow('socket hang up')
  expect(await sessionsIn(made)).toMatchObject([{ refused: 1 }])
  engine.close()
  await server.close()
})

/** What Sails gives to its middlewares for a request over a WebSocket: a stream that has methods of a response. */
class VirtualResponse extends PassThrough {
  statusCode = 200
  readonly headers: Record<string, unknown> = {}
  setHeader = (name: string, value: unknown): void => void (this.headers[name.toLowerCase()] = value)
  getHeader = (name: string): unknown => this.headers[name.toLowerCase()]
  removeHeader = (name: string): void => void Reflect.deleteProperty(this.headers, name.toLowerCase())
  writeHead = (status: number): void => void (this.statusCode = status)
}

test.each(Object.keys(stores).flatMap((store) => [false, true].map((streams) => [store, streams] as const)))(
  "a response as Sails' virtual ones, with %s (streamed: %s): body, cookie and session arrive",
  async (store, streams) => {
    const made = stores[store]!()
    const sessions = session({ ...OPTIONS, store: made })
    await expectSession(async (cookie) => {
      const req = { url: '/', method: 'GET', headers: { cookie } }
      const res = new VirtualResponse()
      sessions(req as never, res as never, () => {
        const { session } = req as unknown as { session: AnySession }
        session['views'] = ((session['views'] as number | undefined) ?? 0) + 1
        if (streams) setTimeout(() => (res.write(BODY.slice(0, 20)), res.end(BODY.slice(20))), 2)
        else res.end(BODY)
      })
      let body = ''
      for await (const chunk of res.setEncoding('utf8')) body += String(chunk)
      return { status: res.statusCode, body, cookies: (res.headers['set-cookie'] as string[] | undefined) ?? [] }
    }, made)
  },
)

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
