import fastifyExpress from '@fastify/express'
import { attach } from 'engine.io'
import fastify, { type FastifyReply } from 'fastify'
import { once } from 'node:events'
import { createServer, IncomingMessage, request, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { Readable } from 'node:stream'
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
