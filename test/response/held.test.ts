import compression from 'compression'
import express, { type Response } from 'express'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import http2 from 'node:http2'
import { describe, expect, test, vi } from 'vitest'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import session from '../../src'
import { appOf, classicStore, OPTIONS, type AnySession } from '../faults/fault'
import { gate, get, listen, settled, withServer, type Answer } from '../support/app'
import { RawConnection, rawGet } from '../support/raw'
import { cookieHeader, setCookies } from '../support/set-cookie'

/** A store whose saves wait until the test lets them succeed or fail; `saves` are the texts that came. */
function slowStore() {
  const { opened, open } = gate()
  const began = gate()
  const store = classicStore(session)
  const { set } = store
  let error: Error | undefined
  const saves: string[] = []
  store.set = (id, data, callback) => {
    saves.push(JSON.stringify(data))
    began.open()
    return void opened.then(() => (error ? callback?.(error) : set.call(store, id, data, callback)))
  }
  return {
    store,
    saves,
    began: began.opened,
    release: open,
    fail: () => ((error = new Error('the store is full')), open()),
  }
}

type HeldRequest = IncomingMessage & { session: AnySession }

/** Plain `http` with sessions; errors that reach `next` are told, and answered while that is possible. */
function plain(options: session.SessionOptions, handler: (req: HeldRequest, res: ServerResponse) => unknown) {
  const sessions = session({ ...OPTIONS, hints: false, ...options })
  const told: string[] = []
  const listener: RequestListener = (req, res) =>
    sessions(req as never, res as never, (error?: unknown) => {
      if (!error) return void handler(req as HeldRequest, res)
      told.push((error as Error).message)
      if (!res.headersSent) res.end('the error page')
    })
  return { listener, told }
}

interface Client {
  get(path: string, headers?: Record<string, string>): Promise<Answer>
  method(method: string, path: string): Promise<Answer>
}

/** Both protocols, by the same API on the server. */
const protocols: Record<string, (listener: RequestListener, use: (client: Client) => Promise<void>) => Promise<void>> =
  {
    'HTTP/1': (listener, use) =>
      withServer(listener, ({ port }) =>
        use({
          get: (path, headers) => get(port, path, headers),
          method: async (method, path) => {
            const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method })
            return { status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text() }
          },
        }),
      ),
    'HTTP/2': async (listener, use) => {
      const server = http2.createServer(listener as never).listen(0, '127.0.0.1')
      await once(server, 'listening')
      const client = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
      const ask = async (method: string, path: string, headers: Record<string, string> = {}): Promise<Answer> => {
        const stream = client.request({ ':path': path, ':method': method, ...headers })
        const [answer] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders]
        let body = ''
        for await (const chunk of stream.setEncoding('utf8')) body += String(chunk)
        return { status: Number(answer[':status']), headers: answer, body }
      }
      try {
        await use({ get: (path, headers) => ask('GET', path, headers), method: ask })
      } finally {
        client.destroy()
        server.close()
        await once(server, 'close')
      }
    },
  }

describe.each(Object.keys(protocols))('%s', (protocol) => {
  const serve = protocols[protocol]!

  test('while a response waits, its headers are fixed as after any end', async () => {
    const { store, began, release } = slowStore()
    const seen: unknown[] = []
    const { listener } = plain({ store }, async (req, res) => {
      req.session['views'] = 1
      res.setHeader('X-Kept', 'yes')
      res.end('the body')
      await began
      seen.push(res.headersSent)
      for (const late of [
        () => res.setHeader('X-Late', '1'),
        () => res.appendHeader('X-Late', '1'),
        () => res.removeHeader('X-Kept'),
        () => res.writeHead(500),
      ]) {
        try {
          late()
          seen.push('done')
        } catch (error) {
          seen.push((error as { code: string }).code)
        }
      }
      res.statusCode = 500
      release()
    })
    await serve(listener, async (client) => {
      const { status, headers, body } = await client.get('/')
      expect({ status, body, kept: headers['x-kept'], late: headers['x-late'] }).toEqual({
        status: 200,
        body: 'the body',
        kept: 'yes',
        late: undefined,
      })
    })
    const code = protocol === 'HTTP/1' ? 'ERR_HTTP_HEADERS_SENT' : 'ERR_HTTP2_HEADERS_SENT'
    expect(seen).toEqual([true, code, code, code, code])
  })

  test.each(['GET', 'HEAD'])('the cookie of an answer to %s tells what the store has confirmed', async (method) => {
    const { store, fail } = slowStore()
    const { listener, told } = plain({ store }, (req, res) => {
      req.session['views'] = 1
      res.end('the body')
      fail()
    })
    await serve(listener, async (client) => {
      const { status, headers } = await client.method(method, '/')
      expect(status).toBe(200)
      expect(setCookies(headers, 'connect.sid')).toEqual([])
    })
    await vi.waitUntil(() => told.length > 0)
    expect(told).toEqual(['the store is full'])
  })

  test.each(['writeHead', 'no writeHead'])(
    'an error page in place of an answer (%s) inherits nothing that told of that, and keeps the rest',
    async (how) => {
      const { store, fail } = slowStore()
      const ofTheAnswer = {
        'Content-Type': 'application/pdf',
        'Content-Disposition': 'attachment',
        'Content-Encoding': 'identity',
        'Cache-Control': 'public, max-age=600',
        Expires: 'Thu, 01 Jan 2099 00:00:00 GMT',
        ETag: '"1"',
        Location: '/welcome',
        'Clear-Site-Data': '"cache"',
        'X-Accel-Redirect': '/secret.pdf',
        'Set-Cookie': 'remember=ada',
      }
      const ofTheServer = {
        'Access-Control-Allow-Origin': 'https://shop.test',
        'Content-Security-Policy': "default-src 'self'",
        'Strict-Transport-Security': 'max-age=1',
        Vary: 'Origin',
        'X-Request-Id': '1',
      }
      const { listener, told } = plain({ store, onSaveError: 'error' }, (req, res) => {
        req.session['views'] = 1
        for (const [name, value] of Object.entries({ ...ofTheServer, ...ofTheAnswer })) res.setHeader(name, value)
        res.statusCode = 204
        if (how === 'writeHead' && protocol === 'HTTP/1') res.writeHead(204, 'Nothing To See', { 'Content-Length': 0 })
        res.end()
        fail()
      })
      await serve(listener, async (client) => {
        const { status, headers, body } = await client.get('/')
        expect({ status, body }).toEqual({ status: 500, body: 'the error page' })
        for (const name of Object.keys(ofTheAnswer)) expect(headers).not.toHaveProperty(name.toLowerCase())
        for (const [name, value] of Object.entries(ofTheServer))
          expect(headers).toHaveProperty(name.toLowerCase(), value)
      })
      expect(told).toEqual(['the store is full'])
    },
  )

  describe('an answer whose length was announced, and that is piped', () => {
    const chunks = ['one, ', 'two, ', 'three']
    const announced = (store: unknown, onSaveError?: 'respond' | 'error' | 'disconnect', parts = chunks) =>
      plain({ store, onSaveError } as never, (req, res) => {
        req.session['views'] = 1
        res.setHeader('Content-Length', parts.join('').length)
        Readable.from(parts).pipe(res)
      })

    test.each([
      ['in parts', chunks],
      ['in one', [chunks.join('')]],
    ])('%s: its last part waits for the commit', async (_how, parts) => {
      const { store, began, release } = slowStore()
      const { listener } = announced(store, 'respond', parts)
      await serve(listener, async (client) => {
        let complete = false
        const answer = client.get('/').finally(() => (complete = true))
        await began
        await settled()
        expect(complete).toBe(false)
        expect(store.records.size).toBe(0)
        release()
        const { body, headers } = await answer
        expect(body).toBe('one, two, three')
        expect(setCookies(headers, 'connect.sid')).toHaveLength(1)
        expect(store.records.size).toBe(1)
      })
    })

    test.each(['error', 'disconnect'] as const)(
      'with onSaveError %s it is cut off when the save fails',
      async (how) => {
        const { store, began, fail } = slowStore()
        const { listener, told } = announced(store, how)
        await serve(listener, async (client) => {
          const answer = client.get('/').then(
            ({ body }) => body,
            () => 'cut off',
          )
          await began
          fail()
          expect(await answer).toBe('cut off')
          await vi.waitUntil(() => told.length > 0)
        })
        expect(told).toEqual(['the store is full'])
      },
    )

    test('with onSaveError respond it is whole when the save fails, which is told once', async () => {
      const { store, began, fail } = slowStore()
      const { listener, told } = announced(store)
      await serve(listener, async (client) => {
        const answer = client.get('/')
        await began
        fail()
        expect((await answer).body).toBe('one, two, three')
        await vi.waitUntil(() => told.length > 0)
      })
      expect(told).toEqual(['the store is full'])
    })

    test('what is changed between its last byte and its end is stored, too', async () => {
      const store = classicStore(session)
      const { listener } = plain({ store }, (req, res) => {
        req.session['views'] = 1
        res.setHeader('Content-Length', 3)
        res.write('one', () => {
          req.session['late'] = true
          res.end()
        })
      })
      await serve(listener, async (client) => expect((await client.get('/')).body).toBe('one'))
      await vi.waitUntil(() => [...store.records.values()].some((text) => text.includes('"late":true')))
    })

    test('a source that waits for drain goes on', async () => {
      const store = classicStore(session)
      const { listener } = plain({ store }, async (req, res) => {
        req.session['views'] = 1
        res.setHeader('Content-Length', 6)
        for (const part of ['one', 'two']) if (!res.write(part)) await once(res, 'drain')
        res.end()
      })
      await serve(listener, async (client) => expect((await client.get('/')).body).toBe('onetwo'))
    })
  })

  test.each([false, true])('the client leaves a stream early, and its handler ends it then: %s', async (ends) => {
    const { store, saves, release } = slowStore()
    release()
    const left = gate()
    const { listener, told } = plain({ store }, (req, res) => {
      res.on('close', () => {
        if (ends) setImmediate(() => res.end())
        left.open()
      })
      req.session['downloads'] = 1
      res.write('the first part')
      if (req.url === '/late') req.session['downloads'] = 2
      setImmediate(() =>
        protocol === 'HTTP/1' ? res.destroy() : (res as never as { stream: { close(): void } }).stream.close(),
      )
    })
    await serve(listener, async (client) => {
      await client.get('/late').catch(() => undefined)
      await left.opened
      await vi.waitUntil(() => [...store.records.values()].some((text) => text.includes('"downloads":2')))
      await settled()
    })
    expect(saves.map((text) => (JSON.parse(text) as AnySession)['downloads'] as number)).toEqual([1, 2])
    expect(told).toEqual([])
  })

  test('a reader who comes during a stream finds what was changed before it', async () => {
    const store = new session.MemoryStore()
    const end = gate()
    const begun = gate()
    const { listener } = plain({ store }, (req, res) => {
      if (req.url === '/see') return void res.end(String(req.session['user']))
      req.session['user'] = 'ada'
      res.write('begun')
      begun.open()
      void end.opened.then(() => res.end(', ended'))
    })
    await serve(listener, async (client) => {
      const streamed = client.get('/')
      await begun.opened
      const [id] = Object.keys(store.sessions)
      expect(store.sessions[id as string]).toContain('ada')
      end.open()
      const { headers, body } = await streamed
      expect(body).toBe('begun, ended')
      expect((await client.get('/see', { cookie: cookieHeader(headers) })).body).toBe('ada')
    })
  })
})

test('writeHead leaves the head open until the first of the body: its cookie tells what the store has confirmed', async () => {
  const { store, began, fail } = slowStore()
  const codes: unknown[] = []
  const { listener } = plain({ store }, async (req, res) => {
    req.session['views'] = 1
    res.writeHead(201, { 'X-One': '1' })
    codes.push(res.headersSent)
    expect(() => res.setHeader('X-Late', '1')).toThrow(
      expect.objectContaining({ code: 'ERR_HTTP_HEADERS_SENT' }) as Error,
    )
    expect(() => res.writeHead(500)).toThrow(expect.objectContaining({ code: 'ERR_HTTP_HEADERS_SENT' }) as Error)
    res.end('the body')
    await began
    fail()
  })
  await withServer(listener, async ({ get }) => {
    const { status, headers, body } = await get('/')
    expect({ status, body, one: headers['x-one'] }).toEqual({ status: 201, body: 'the body', one: '1' })
    expect(setCookies(headers, 'connect.sid')).toEqual([])
  })
  expect(codes).toEqual([true])
})

describe('destroyed a tick after its end', () => {
  const ways: Record<string, (req: IncomingMessage, res: ServerResponse) => unknown> = {
    'by res.destroy()': (_req, res) => res.destroy(),
    'by req.socket.destroy()': (req) => req.socket.destroy(),
    'by req.destroy()': (req) => req.destroy(),
  }
  test.each(Object.keys(ways))('%s, a response that waits is delivered first, as without sessions', async (way) => {
    const { store, began, release } = slowStore()
    const { listener } = plain({ store }, async (req, res) => {
      req.session['views'] = 1
      res.end('the body')
      await began
      ways[way]!(req, res)
      setImmediate(release)
    })
    await withServer(listener, async ({ port }) => {
      const connection = new RawConnection(port).send(rawGet('/', 'GET', 'Connection: keep-alive'))
      if (way === 'by req.destroy()') await connection.until('the body')
      else expect(await connection.ended()).toContain('the body')
    })
  })

  test('by res.socket.destroy(), it is gone: the application has taken the connection itself', async () => {
    const { store, began, release } = slowStore()
    const { listener, told } = plain({ store }, async (req, res) => {
      req.session['views'] = 1
      res.end('the body')
      await began
      res.socket?.destroy()
      setImmediate(release)
    })
    await withServer(listener, async ({ port }) => {
      expect(await new RawConnection(port).send(rawGet()).ended()).toBe('')
      await vi.waitUntil(() => store.records.size === 1)
    })
    expect(told).toEqual([])
  })
})

describe('a middleware before the sessions that rewrites the body as it ends', () => {
  const stores = {
    'a synchronous store': () => new session.MemoryStore(),
    'an asynchronous store': () => classicStore(session),
  }

  /** Collects the body, and sends another one, whose length it announces; `later` in another turn. */
  const rewriting =
    (later: boolean): express.RequestHandler =>
    (_req, res, next) => {
      const parts: string[] = []
      const end = res.end.bind(res) as (chunk: string) => Response
      res.write = ((chunk: string) => (parts.push(String(chunk)), true)) as never
      res.end = ((chunk?: unknown) => {
        if (typeof chunk === 'string' || chunk instanceof Uint8Array)
          parts.push(Buffer.from(chunk as string).toString())
        const send = (): void => {
          const body = `<${parts.join('')}>`
          res.setHeader('Content-Length', Buffer.byteLength(body))
          end(body)
        }
        if (later) setImmediate(send)
        else send()
        return res
      }) as never
      next()
    }

  const answers: Record<string, (res: Response) => unknown> = {
    send: (res) => res.send('the body'),
    'write and end': (res) => {
      res.write('the ')
      res.end('body')
    },
  }
  const cases = Object.keys(stores).flatMap((store) =>
    Object.keys(answers).flatMap((answer) => [false, true].map((later) => [answer, store, later] as const)),
  )
  test.each(cases)(
    '%s, with %s (in another turn: %s): the new body with its length and the cookie',
    async (answer, store, later) => {
      const app = appOf(
        [rewriting(later), session({ ...OPTIONS, store: stores[store as keyof typeof stores]() })],
        (req, res) => {
          req.session['views'] = 1
          answers[answer]!(res)
        },
      )
      await withServer(app, async ({ get }) => {
        const { status, headers, body } = await get('/')
        expect({ status, body, length: headers['content-length'] }).toEqual({
          status: 200,
          body: '<the body>',
          length: '10',
        })
        expect(setCookies(headers, 'connect.sid')).toHaveLength(1)
      })
    },
  )
})

describe('compression before the sessions', () => {
  test('decides by the length of the body, and its head has the cookie of what the store has confirmed', async () => {
    const store = classicStore(session)
    const big = 'compress me '.repeat(500)
    const app = appOf([compression(), session({ ...OPTIONS, store })], (req, res) => {
      req.session['views'] = 1
      res.type('text').end(req.url === '/big' ? big : 'small')
    })
    await withServer(app, async ({ url }) => {
      for (const [path, encoding, body] of [
        ['/big', 'gzip', big],
        ['/small', null, 'small'],
      ] as const) {
        const answer = await fetch(url + path, { headers: { 'accept-encoding': 'gzip' } })
        expect(answer.headers.get('content-encoding')).toBe(encoding)
        expect(answer.headers.getSetCookie()).toHaveLength(1)
        expect(await answer.text()).toBe(body)
      }
    })
    expect(store.records.size).toBe(2)
  })
})

test('a target that is no URL does not throw at a bare server', async () => {
  const { listener } = plain({}, (_req, res) => res.end('hi'))
  const server = await listen(createServer(listener))
  for (const target of ['http://[', 'http://[::1', 'http://a:99999999/', '//', '/%', '/?%00']) {
    expect(await new RawConnection(server.port).send(rawGet(target)).ended()).toContain('hi')
  }
  await server.close()
})
