import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import http2 from 'node:http2'
import { PassThrough, pipeline, Readable } from 'node:stream'
import compression from 'compression'
import express5, { type Express } from 'express'
import { createRequire } from 'node:module'
import type { AddressInfo, Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import session from '../../src'
import { appOf, classicStore, OPTIONS, type AnySession } from '../faults/fault'
import { gate, listen, settled, withServer, type RunningServer } from '../support/app'
import { cookieHeader, setCookies } from '../support/set-cookie'
import { comparable, RawConnection, rawGet, rawResponse } from '../support/raw'

const express4 = createRequire(__filename)('express4') as typeof express5

type Log = (what: string, value?: unknown) => void
type Shape = (res: ServerResponse, log: Log, req: IncomingMessage) => unknown

const BODY = 'Grüße, ' + 'x'.repeat(100)
const returned = (res: ServerResponse, value: unknown): unknown => (value === res ? 'the response' : value)

function attempt(log: Log, what: string, run: () => unknown): void {
  try {
    run()
    log(what, 'fine')
  } catch (error) {
    log(what, (error as NodeJS.ErrnoException).code)
  }
}

/** The ways to answer: each has to be on the wire, and to its handler, what it is without sessions. */
const shapes: Record<string, Shape> = {
  'end()': (res, log) => log('end', returned(res, res.end())),
  'end(string)': (res, log) => log('end', returned(res, res.end(BODY))),
  'end(buffer)': (res) => res.end(Buffer.from(BODY)),
  'end(Uint8Array)': (res) => res.end(new Uint8Array([1, 2, 3])),
  'end(empty string)': (res) => res.end(''),
  'end(null)': (res) => res.end(null),
  'end(undefined, undefined)': (res) => res.end(undefined, undefined as never),
  'end(string, latin1)': (res) => res.end(BODY, 'latin1'),
  'end(string, hex)': (res) => res.end('cafe', 'hex'),
  'end(callback)': (res, log) =>
    log(
      'end',
      returned(
        res,
        res.end(() => log('called back')),
      ),
    ),
  'end(string, callback)': (res, log) => res.end(BODY, () => log('called back')),
  'end(string, encoding, callback)': (res, log) => res.end(BODY, 'utf8', () => log('called back')),
  'end(null, callback)': (res, log) => res.end(null, () => log('called back')),
  'end of a number is refused': (res, log) => {
    attempt(log, 'end', () => res.end(42 as never))
    res.end('after all')
  },
  'end of an object is refused': (res, log) => {
    attempt(log, 'end', () => res.end({} as never))
    res.end('after all')
  },
  'write and end': (res, log) => {
    log('write', res.write('one, '))
    log('end', returned(res, res.end('two')))
  },
  'write(buffer), write(string, encoding, callback), end()': (res, log) => {
    res.write(Buffer.from('one, '))
    res.write('dHdv', 'base64', () => log('written'))
    res.end()
  },
  'write(string, callback)': (res, log) => {
    res.write('one', () => log('written'))
    res.end('two', () => log('ended'))
  },
  'write with Content-Length': (res) => {
    res.setHeader('Content-Length', 6)
    res.write('one')
    res.end('two')
  },
  'writeHead(status)': (res, log) => {
    log('writeHead', returned(res, res.writeHead(201)))
    res.end(BODY)
  },
  'writeHead(status, headers)': (res) => res.writeHead(202, { 'X-One': '1', 'Content-Type': 'text/plain' }).end(BODY),
  'writeHead(status, message, headers)': (res) => res.writeHead(203, 'As You Like', { 'X-One': ['1', '2'] }).end(BODY),
  'writeHead(status, list of headers)': (res) => res.writeHead(200, ['X-One', '1', 'X-Two', '2'] as never).end(BODY),
  'writeHead with Content-Length': (res) => res.writeHead(200, { 'Content-Length': 3 }).end('one'),
  'writeHead, write, end': (res) => {
    res.writeHead(200, { 'X-One': '1' })
    res.write('one')
    res.end('two')
  },
  'writeHead twice': (res, log) => {
    res.writeHead(200)
    attempt(log, 'writeHead', () => res.writeHead(500))
    res.end('one')
  },
  flushHeaders: (res, log) => {
    res.setHeader('X-One', '1')
    res.flushHeaders()
    log('headersSent', res.headersSent)
    res.end(BODY)
  },
  'flushHeaders and end()': (res) => {
    res.flushHeaders()
    res.end()
  },
  'Content-Length and end': (res) => {
    res.setHeader('Content-Length', Buffer.byteLength(BODY))
    res.end(BODY)
  },
  'Content-Length: 0': (res) => {
    res.setHeader('Content-Length', '0')
    res.end()
  },
  'chunked by header': (res) => {
    res.setHeader('Transfer-Encoding', 'chunked')
    res.end(BODY)
  },
  trailers: (res, _log, req) => {
    if (req.method === 'GET') {
      res.setHeader('Trailer', 'X-Sum')
      res.write('one')
      res.addTrailers({ 'X-Sum': '1' })
    }
    res.end()
  },
  'status 204': (res) => {
    res.statusCode = 204
    res.end()
  },
  'status 204 with a body': (res) => {
    res.statusCode = 204
    res.end(BODY)
  },
  'status 304': (res) => {
    res.statusCode = 304
    res.setHeader('ETag', '"1"')
    res.end()
  },
  'a status message': (res) => {
    res.statusCode = 418
    res.statusMessage = 'Short and Stout'
    res.end('tea')
  },
  'a redirect': (res) => {
    res.statusCode = 302
    res.setHeader('Location', '/elsewhere')
    res.end()
  },
  'several cookies': (res) => {
    res.setHeader('Set-Cookie', ['a=1', 'b=2'])
    res.end('one')
  },
  corked: (res) => {
    res.cork()
    res.write('one')
    res.write('two')
    res.uncork()
    res.end('three')
  },
  'end twice': (res, log) => {
    log('first', returned(res, res.end('one')))
    log('second', returned(res, res.end()))
  },
  'end twice, the second with a callback': (res, log) => {
    res.end('one')
    res.end(() => setImmediate(log, 'called back'))
  },
  'end twice, the second with a body': (res, log) => {
    res.on('error', (error: NodeJS.ErrnoException) => log('error', error.code))
    res.end('one')
    res.end('two', (error?: NodeJS.ErrnoException) => log('second', error?.code))
  },
  'write after end': (res, log) => {
    res.on('error', (error: NodeJS.ErrnoException) => log('error', error.code))
    res.end('one')
    log(
      'write',
      res.write('two', (error) => log('written', (error as NodeJS.ErrnoException | null)?.code)),
    )
  },
  'after end': (res, log) => {
    res.end('one')
    log('headersSent', res.headersSent)
    log('writableEnded', res.writableEnded)
    // Not `finished`, which is deprecated: while it is true, server.close() would cut a response that is held.
    attempt(log, 'setHeader', () => res.setHeader('X-Late', '1'))
    attempt(log, 'removeHeader', () => res.removeHeader('X-Late'))
    attempt(log, 'writeHead', () => res.writeHead(500))
    res.statusCode = 500
  },
  'a stream that is piped': (res) => Readable.from(['one, ', 'two, ', 'three']).pipe(res),
  'a stream in a pipeline': (res, log) =>
    pipeline(Readable.from(['one, ', 'two, ', 'three']), new PassThrough(), res, (error) =>
      log('pipeline', error?.message),
    ),
  'a big body': (res) => res.end('x'.repeat(1_000_000)),
  'many big writes that wait for drain': async (res, log) => {
    for (let i = 0; i < 20; i++) {
      if (!res.write('x'.repeat(100_000))) await once(res, 'drain')
    }
    log('drained')
    res.end()
  },
  'early hints and processing': (res) => {
    res.writeProcessing()
    res.writeEarlyHints({ link: '</style.css>; rel=preload; as=style' })
    res.end('one')
  },
  'an end later on': (res) => void setImmediate(() => res.end('one')),
  'prefinish, finish and close': (res, log) => {
    for (const event of ['prefinish', 'finish', 'close']) res.on(event, () => log(event))
    res.end('one')
  },
}

/** Where the response itself ends among these is left to chance by Node, too. */
const unordered = new Set(['write after end', 'end twice, the second with a body'])

function sorted(log: unknown[]): unknown[] {
  return log.map((entry) => JSON.stringify(entry)).sort()
}

interface Result {
  response: string
  log: unknown[]
}

/** Answers in the shape that the path names; `use` is what comes before it. */
function shapeServer(use: (req: IncomingMessage, res: ServerResponse, next: () => void) => void) {
  const logs = new Map<string, unknown[]>()
  const closed = new Map<string, Promise<unknown>>()
  const listener: RequestListener = (req, res) => {
    const key = `${req.method} ${decodeURIComponent(req.url ?? '')}`
    const log: unknown[] = []
    logs.set(key, log)
    res.on('finish', () => log.push('finish'))
    closed.set(key, new Promise((resolve) => res.once('close', resolve)))
    use(
      req,
      res,
      () => void shapes[key.slice(key.indexOf('/') + 1)]?.(res, (what, value) => log.push([what, value]), req),
    )
  }
  const run = async (server: RunningServer, name: string, method: string): Promise<Result> => {
    const path = `/${encodeURIComponent(name)}`
    const response = await rawResponse(server.port, path, method)
    const key = `${method} /${name}`
    await closed.get(key)
    const log = logs.get(key) ?? []
    return { response: comparable(response), log: unordered.has(name) ? sorted(log) : log }
  }
  return { listener, run }
}

type Sessions = ReturnType<typeof session>
const change = (req: IncomingMessage): unknown => ((req as unknown as { session: AnySession }).session.views = 1)

/** What may come before a handler; each is to leave the response as it is without. */
const befores: Record<string, () => (req: IncomingMessage, res: ServerResponse, next: () => void) => void> = {
  'a session that is not looked at': () => session({ ...OPTIONS }) as never,
  'a session in memory that is saved': () => {
    const sessions: Sessions = session(OPTIONS)
    return (req, res, next) => sessions(req as never, res as never, () => (change(req), next()))
  },
  'a session that is saved after a while': () => {
    const store = classicStore(session)
    const { set } = store
    store.set = (...args) => setTimeout(() => set.apply(store, args), 2)
    const sessions = session({ ...OPTIONS, store })
    return (req, res, next) => sessions(req as never, res as never, () => (change(req), next()))
  },
  'a session whose save fails': () => {
    const store = classicStore(session)
    store.set = (_id, _data, callback) => setImmediate(() => callback?.(new Error('full')))
    const sessions = session({ ...OPTIONS, store })
    return (req, res, next) =>
      sessions(req as never, res as never, (error?: unknown) => {
        if (!error) next()
      })
  },
  'two middlewares': () => {
    const one = session({ ...OPTIONS, store: classicStore(session), name: 'one' })
    const two = session({ ...OPTIONS, store: classicStore(session), name: 'two', property: 'other' })
    return (req, res, next) =>
      one(req as never, res as never, () =>
        two(req as never, res as never, () => {
          change(req)
          ;(req as never as { other: AnySession }).other.views = 1
          next()
        }),
      )
  },
}

/**
 * The bytes of a chunked body, but for where they are cut: Node 26 puts a write and the end after it into one chunk, and
 * a write that has left before a held end is a chunk by itself.
 */
function withoutChunkSizes<T>(result: T): T {
  const { response } = result as { response?: unknown }
  if (typeof response !== 'string' || !/transfer-encoding: chunked/i.test(response)) return result
  const [head = '', ...body] = response.split('\r\n\r\n')
  const text = body.join('\r\n\r\n').replaceAll(/(^|\r\n)[0-9a-f]+\r\n/g, '')
  return { ...result, response: `${head}\r\n\r\n${text}` }
}

describe('the response is as without sessions', () => {
  const bare = shapeServer((_req, _res, next) => next())
  let bareServer: RunningServer
  beforeAll(async () => void (bareServer = await listen(createServer(bare.listener))))
  afterAll(() => bareServer.close())

  describe.each(Object.keys(befores))('behind %s', (before) => {
    let server: RunningServer
    const served = shapeServer((befores[before] as (typeof befores)[string])())
    beforeAll(async () => void (server = await listen(createServer(served.listener))))
    afterAll(() => server.close())

    test.each(Object.keys(shapes))('%s', async (name) => {
      for (const method of ['GET', 'HEAD']) {
        const [without, behind] = await Promise.all([
          bare.run(bareServer, name, method),
          served.run(server, name, method),
        ])
        expect(withoutChunkSizes(behind), method).toEqual(withoutChunkSizes(without))
      }
    })
  })
})

/** A store whose saves wait until the test opens the gate. */
function slowStore() {
  const saving = gate()
  const began = gate()
  const store = classicStore(session)
  const { set } = store
  store.set = (...args) => {
    began.open()
    return void saving.opened.then(() => set.apply(store, args))
  }
  return { store, began: began.opened, release: saving.open }
}

function withSession(store: unknown, handler: (req: IncomingMessage, res: ServerResponse) => unknown): RequestListener {
  const sessions = session({ ...OPTIONS, store } as never)
  return (req, res) => sessions(req as never, res as never, () => void handler(req, res))
}

describe('nothing of a response that has not begun leaves before the commit has ended', () => {
  const unstarted = Object.keys(shapes).filter((name) =>
    /^(end|status|writeHead\(|writeHead with|Content-Length|a redirect)/.test(name),
  )
  test.each(unstarted.filter((name) => !name.includes('refused')))('%s', async (name) => {
    const { store, began, release } = slowStore()
    const answer = withSession(store, (req, res) => {
      change(req)
      shapes[name]?.(res, () => undefined, req)
    })
    const listener: RequestListener = (req, res) => (req.url === '/ping' ? res.end('pong') : answer(req, res))
    await withServer(listener, async ({ port }) => {
      const connection = new RawConnection(port).send(rawGet())
      await began
      expect(await rawResponse(port, '/ping')).toContain('pong')
      expect(connection.text).toBe('')
      release()
      expect(await connection.ended()).toMatch(/^HTTP\/1\.1 \d/)
    })
  })
})

test('a response that is held leaves in one write', async () => {
  const writes: number[] = []
  const store = classicStore(session)
  const server = createServer(
    withSession(store, (req, res) => {
      change(req)
      res.setHeader('Content-Type', 'text/plain')
      if (req.url === '/length') res.setHeader('Content-Length', Buffer.byteLength(BODY))
      res.end(req.url === '/buffer' ? Buffer.from(BODY) : BODY)
    }),
  )
  server.on('connection', (socket: Socket) => countWrites(socket, writes))
  const running = await listen(server)
  const urls = ['/text', '/length', '/buffer']
  for (const url of urls) expect(await rawResponse(running.port, url)).toContain('x'.repeat(100))
  await running.close()
  expect(writes).toEqual([1, 1, 1])
  expect(store.calls.filter((call) => call === 'set')).toHaveLength(3)
})

/** Counts what goes to the operating system by one call each. */
function countWrites(socket: Socket, counts: number[]): void {
  const index = counts.push(0) - 1
  const streams = socket as unknown as Record<'_write' | '_writev', (...args: unknown[]) => void>
  for (const name of ['_write', '_writev'] as const) {
    const write = streams[name]
    streams[name] = (...args) => {
      counts[index] = (counts[index] ?? 0) + 1
      write.apply(socket, args)
    }
  }
}

test('from end on the headers are fixed and the response counts as sent, while it is held', async () => {
  const { store, began, release } = slowStore()
  const seen: unknown[] = []
  const listener = withSession(store, async (req, res) => {
    change(req)
    res.end('done')
    await began
    seen.push(res.headersSent, res.writableEnded)
    for (const late of [() => res.setHeader('X-Late', '1'), () => res.writeHead(500)]) {
      expect(late).toThrow(expect.objectContaining({ code: 'ERR_HTTP_HEADERS_SENT' }) as Error)
    }
    release()
  })
  await withServer(listener, async ({ get }) => expect(await get('/')).toMatchObject({ status: 200, body: 'done' }))
  expect(seen).toEqual([true, true])
})

describe('an application that does more to a response that is held', () => {
  const mistakes: Record<string, (res: express5.Response) => void> = {
    'answers again': (res) => void res.send('short').send('a second body, which is longer'),
    'answers after a redirect': (res) => {
      res.redirect('/login')
      res.send('a page')
    },
    throws: (res) => {
      res.send('short')
      throw new Error('after the answer')
    },
    'writes a head': (res) => {
      res.end('short')
      attempt(
        () => undefined,
        'writeHead',
        () => res.writeHead(500, { 'Content-Length': 100 }),
      )
    },
    'flushes the headers': (res) => void res.end('short').flushHeaders(),
  }
  const held = { 'as it is by default': {}, 'its headers, too': { onSaveError: 'error' } } as const
  const cases = Object.keys(mistakes).flatMap((mistake) => Object.keys(held).map((how) => [mistake, how] as const))
  const versions = { 'Express 4': express4, 'Express 5': express5 }

  describe.each(Object.entries(versions))('%s', (_name, express) => {
    const appWith = (middleware: express5.RequestHandler, mistake: string): Express => {
      const app = express()
      app.set('env', 'test')
      app.use(middleware, (req, res) => {
        change(req)
        mistakes[mistake]?.(res)
      })
      return app
    }
    const noSession: express5.RequestHandler = (req, _res, next) => (Object.assign(req, { session: {} }), next())

    test.each(cases)('%s, %s: the whole answer, as without sessions, after the commit', async (mistake, how) => {
      const bare = await withServer(appWith(noSession, mistake), ({ port }) => rawResponse(port))
      const { store, began, release } = slowStore()
      const sessions = session({ ...OPTIONS, ...held[how as keyof typeof held], store })
      await withServer(appWith(sessions, mistake), async ({ port }) => {
        const connection = new RawConnection(port).send(rawGet())
        await began
        await settled()
        expect(connection.text).toBe('')
        release()
        expect(comparable(await connection.ended())).toBe(comparable(bare))
      })
    })
  })

  test('on HTTP/2 a response that is cut off is no whole one', async () => {
    const { store, fail } = failingStore()
    const sessions = session({ ...OPTIONS, store, onSaveError: 'disconnect' })
    const listener: RequestListener = (req, res) =>
      sessions(req as never, res as never, (error?: unknown) => {
        if (error) return
        change(req)
        res.writeHead(201)
        res.end('the whole of it')
      })
    const server = http2.createServer(listener as never).listen(0)
    await once(server, 'listening')
    const client = http2.connect(`http://localhost:${(server.address() as AddressInfo).port}`)
    const stream = client.request()
    fail()
    const [error] = (await once(stream, 'error')) as [NodeJS.ErrnoException]
    expect(error.message).toContain('NGHTTP2_INTERNAL_ERROR')
    client.close()
    server.close()
  })

  test('on HTTP/2 a second answer changes nothing of the first', async () => {
    const { store, began, release } = slowStore()
    const listener = withSession(store, async (req, res) => {
      change(req)
      res.setHeader('Content-Length', 5)
      res.end('short')
      await began
      res.statusCode = 500
      const sent = expect.objectContaining({ code: 'ERR_HTTP2_HEADERS_SENT' }) as Error
      expect(res.headersSent).toBe(true)
      expect(() => res.setHeader('Content-Length', 30)).toThrow(sent)
      expect(() => res.writeHead(500)).toThrow(sent)
      res.end('a second body, which is longer')
      release()
    })
    const server = http2.createServer(listener as never).listen(0)
    await once(server, 'listening')
    const client = http2.connect(`http://localhost:${(server.address() as AddressInfo).port}`)
    const stream = client.request()
    const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders]
    let body = ''
    for await (const chunk of stream) body += String(chunk)
    client.close()
    server.close()
    expect([headers[':status'], headers['content-length'], body]).toEqual([200, '5', 'short'])
  })
})

/** A store whose saves fail when the test opens the gate. */
function failingStore() {
  const { opened, open } = gate()
  const store = classicStore(session)
  store.set = (_id, _data, callback) => void opened.then(() => callback?.(new Error('the store is full')))
  return { store, fail: open }
}

/** Plain `http` with sessions; errors that reach `next` are listed, and answered where that is possible. */
function telling(
  options: session.SessionOptions,
  handler: (req: { session: AnySession }, res: ServerResponse) => unknown,
) {
  const sessions = session({ ...OPTIONS, ...options })
  const told: string[] = []
  const listener: RequestListener = (req, res) =>
    sessions(req as never, res as never, (error?: unknown) => {
      if (!error) return void handler(req as never, res)
      told.push((error as Error).message)
      if (res.headersSent) return
      res.statusCode = 500
      res.statusMessage = ''
      res.end('an error')
    })
  return { listener, told }
}

test('a response whose head cannot be made: the next one leaves after the commit, and a failure of that is told', async () => {
  const { store, fail } = failingStore()
  const { listener, told } = telling({ store }, (req, res) => {
    req.session['views'] = 1
    res.statusCode = 99
    expect(() => res.end('never')).toThrow('Invalid status code')
    res.statusCode = 500
    res.end('the error page')
  })
  await withServer(listener, async ({ port }) => {
    const connection = new RawConnection(port).send(rawGet())
    await settled()
    expect(connection.text).toBe('')
    fail()
    expect(await connection.ended()).toContain('the error page')
    await settled()
  })
  expect(told).toEqual(['the store is full'])
})

test.each(['respond', 'error'] as const)(
  'a head that Node refuses to make is refused by end, as without sessions, with onSaveError %s',
  async (onSaveError) => {
    const store = classicStore(session)
    const { listener, told } = telling({ store, onSaveError }, (req, res) => {
      req.session['views'] = 1
      res.statusMessage = 'no\nmessage'
      expect(() => res.end('never')).toThrow('Invalid character in statusMessage')
      res.statusMessage = ''
      res.end('the error page')
    })
    await withServer(listener, async ({ get }) => {
      const { body, headers } = await get('/')
      expect(body).toBe('the error page')
      expect(setCookies(headers, 'connect.sid')).toHaveLength(1)
    })
    expect(told).toEqual([])
    expect(store.records.size).toBe(1)
  },
)

describe('what cannot be stored is told once', () => {
  const handlers: Record<string, (req: { session: AnySession }, res: ServerResponse) => unknown> = {
    'after a save that has ended': async (req, res) => {
      req.session['views'] = 1
      await req.session.save()
      req.session['views'] = 1n
      res.end('never')
    },
    'while a save is under way': (req, res) => {
      req.session['views'] = 1
      void req.session.save()
      req.session['views'] = 1n
      res.end('never')
    },
  }
  test.each(Object.entries(handlers))('%s: with another answer', async (_name, handler) => {
    const { listener, told } = telling({ store: classicStore(session) }, handler)
    await withServer(listener, async ({ get }) =>
      expect(await get('/')).toMatchObject({ status: 500, body: 'an error' }),
    )
    expect(told).toEqual([expect.stringContaining('req.session.views cannot be stored')])
  })

  test('in a stream: after its end', async () => {
    const { listener, told } = telling({ store: classicStore(session) }, (req, res) => {
      req.session['views'] = 1n
      res.write('one, ')
      setImmediate(() => res.end('two'))
    })
    await withServer(listener, async ({ get }) => {
      expect((await get('/')).body).toBe('one, two')
      await settled()
    })
    expect(told).toEqual([expect.stringContaining('req.session.views cannot be stored')])
  })
})

describe('a body that a middleware before the sessions changes as it ends', () => {
  const changing: RequestListener = (_req, res) => {
    const end = res.end.bind(res) as (chunk: unknown, encoding: BufferEncoding) => ServerResponse
    res.end = ((chunk: unknown, encoding: BufferEncoding) =>
      end(`${typeof chunk === 'string' ? chunk : ''} and more`, encoding)) as typeof res.end
  }
  test.each(['with a body', 'without one'])('is sent whole, %s', async (how) => {
    const { listener } = telling({ store: classicStore(session) }, (req, res) => {
      req.session['views'] = 1
      if (how === 'with a body') res.end('the body')
      else res.end()
    })
    const both: RequestListener = (req, res) => {
      changing(req, res)
      listener(req, res)
    }
    await withServer(both, async ({ get }) => {
      expect((await get('/')).body).toBe(how === 'with a body' ? 'the body and more' : ' and more')
    })
  })

  test('behind two session middlewares the length is known, as of a body that nobody changes', async () => {
    const store = classicStore(session)
    const one = session({ ...OPTIONS, store, name: 'one' })
    const two = session({ ...OPTIONS, store: classicStore(session), name: 'two', property: 'other' })
    const app = express5().use(one, two, (req, res) => {
      change(req)
      ;(req as never as { other: AnySession }).other['views'] = 1
      res.end('the body')
    })
    await withServer(app, async ({ get }) => expect((await get('/')).headers['content-length']).toBe('8'))
  })
})

test('a session whose expiry cannot be renewed: the answer is whole, its connection lives, and the error is told', async () => {
  const told: unknown[] = []
  const store = new session.MemoryStore()
  const app = express5()
  app.set('env', 'test')
  app.use(session({ ...OPTIONS, store }), (req, res) => {
    if (req.url === '/login') change(req)
    res.send('the answer')
  })
  app.use(((error, _req, _res, next) => (told.push(error), next(error))) as express5.ErrorRequestHandler)
  await withServer(app, async ({ get, port }) => {
    const { headers } = await get('/login')
    store.renew = (() => Promise.reject(new Error('the store is read-only'))) as never
    const again = rawGet('/', 'GET', `Cookie: ${cookieHeader(headers)}`)
    const connection = new RawConnection(port).send(again)
    await connection.until('the answer')
    await settled()
    expect(told).toEqual([new Error('the store is read-only')])
    connection.text = ''
    connection.send(rawGet('/', 'GET', `Cookie: ${cookieHeader(headers)}\r\nConnection: close`))
    expect(await connection.ended()).toContain('the answer')
  })
})

test('an error page in place of an answer whose session could not be stored has no header of that answer', async () => {
  const store = classicStore(session)
  store.set = (_id, _data, callback) => setImmediate(() => callback?.(new Error('the store is full')))
  const app = appOf([session({ ...OPTIONS, store, onSaveError: 'error' })], (req, res) => {
    req.session['views'] = 1
    res.set({ 'Cache-Control': 'public, max-age=600', Location: '/next', 'Last-Modified': new Date(0).toUTCString() })
    res.status(201).send('the answer')
  })
  await withServer(app, async ({ get }) => {
    const { body, headers, status } = await get('/')
    expect({ body, status }).toEqual({ body: 'the store is full', status: 500 })
    for (const name of ['cache-control', 'location', 'last-modified', 'set-cookie'])
      expect(headers).not.toHaveProperty(name)
  })
})

describe('a cookie that cannot be sent', () => {
  const settings = { domain: 'a.com:3000', path: '/a;b', sameSite: 'some', priority: 'some' }

  test.each(Object.entries(settings))(
    'for its %s: the error names it, and no session is stored',
    async (name, value) => {
      const store = classicStore(session)
      const app = appOf([session({ ...OPTIONS, store })], (req, res) => {
        req.session['views'] = 1
        Object.assign(req.session.cookie, { [name]: value })
        res.send('the answer')
      })
      await withServer(app, async ({ get }) =>
        expect(await get('/')).toMatchObject({ status: 500, body: `option ${name} is invalid` }),
      )
      expect(store.calls).toEqual([])
    },
  )

  test('of a stream: it is not cut off, and the error is told', async () => {
    const { listener, told } = telling({ store: classicStore(session) }, (req, res) => {
      req.session['views'] = 1
      req.session.cookie.domain = 'a b;c'
      res.write('the ')
      res.end('answer')
    })
    await withServer(listener, async ({ get }) => {
      expect((await get('/')).body).toBe('the answer')
      await settled()
    })
    expect(told).toEqual(['option domain is invalid'])
  })
})

test('pipelined requests on one socket are answered in their order, each by its own session', async () => {
  const { store, began, release } = slowStore()
  const handled: string[] = []
  const listener = withSession(store, (req, res) => {
    handled.push(String(req.url))
    if (req.url === '/1') change(req)
    res.end(`answer ${req.url}`)
  })
  await withServer(listener, async ({ port }) => {
    const keep = 'Connection: keep-alive'
    const requests = rawGet('/1', 'GET', keep) + rawGet('/2', 'HEAD', keep) + rawGet('/3', 'GET', keep) + rawGet('/4')
    const connection = new RawConnection(port).send(requests)
    await began
    await settled()
    expect(handled).toEqual(['/1', '/2', '/3', '/4'])
    expect(connection.text).toBe('')
    release()
    const text = await connection.ended()
    expect(text.match(/answer \/\d/g)).toEqual(['answer /1', 'answer /3', 'answer /4'])
    expect(text.match(/HTTP\/1\.1 200/g)).toHaveLength(4)
    expect(text.match(/^Set-Cookie/gim)).toHaveLength(1)
  })
})

test('server-sent events flow as they are written, and the end waits for the commit', async () => {
  const { store, release } = slowStore()
  const heard = [gate(), gate(), gate()]
  const listener = withSession(store, async (req, res) => {
    change(req)
    res.writeHead(200, { 'Content-Type': 'text/event-stream' })
    res.flushHeaders()
    for (const [i, { opened }] of heard.entries()) {
      res.write(`data: ${i}\n\n`)
      await opened
    }
    res.end('data: end\n\n')
  })
  await withServer(listener, async ({ port }) => {
    const connection = new RawConnection(port).send(rawGet())
    for (const [i, { open }] of heard.entries()) {
      await connection.until(`data: ${i}\n\n`)
      open()
    }
    await settled()
    expect(connection.text).not.toContain('data: end')
    release()
    expect(await connection.ended()).toMatch(/data: end\n\n\r\n0\r\n\r\n$/)
  })
})

describe('compression', () => {
  const large = 'compress me '.repeat(500)
  const orders: Record<string, (sessions: Sessions) => express5.RequestHandler[]> = {
    'before the sessions': (sessions) => [compression(), sessions],
    'after the sessions': (sessions) => [sessions, compression()],
  }
  test.each(Object.keys(orders))('%s', async (order) => {
    const { store, began, release } = slowStore()
    const middlewares = (orders[order] as (sessions: Sessions) => express5.RequestHandler[])(
      session({ ...OPTIONS, store }),
    )
    const app = appOf(middlewares, (req, res) => {
      if (req.url === '/ping') return res.send('pong')
      change(req)
      if (req.url === '/written') {
        res.type('text').write(large)
        return res.end(large)
      }
      return res.send(large + large)
    })
    await withServer(app, async ({ port, get }) => {
      for (const path of ['/sent', '/written']) {
        let complete = false
        const response = fetch(`http://127.0.0.1:${port}${path}`, { headers: { 'accept-encoding': 'gzip' } })
        const body = response.then((answer) => answer.text()).finally(() => (complete = true))
        if (path === '/sent') {
          await began
          expect((await get('/ping')).body).toBe('pong')
          expect(complete).toBe(false)
          release()
        }
        const { headers } = await response
        expect(headers.get('content-encoding')).toBe('gzip')
        expect(headers.get('set-cookie')).toContain('connect.sid')
        expect(await body).toBe(large + large)
      }
    })
    expect(store.records.size).toBe(2)
  })
})

describe('a client that goes away', () => {
  test.each(['before the handler ends', 'while the response is held', 'in the middle of a stream'])(
    '%s',
    async (when) => {
      const { store, began, release } = slowStore()
      const gone = gate()
      const entered = gate()
      const errors: unknown[] = []
      const listener = withSession(store, async (req, res) => {
        if (req.url === '/again') return res.end('lives')
        res.on('close', gone.open)
        res.on('error', (error) => errors.push(error))
        change(req)
        entered.open()
        if (when === 'in the middle of a stream') res.write('one')
        if (when !== 'while the response is held') await gone.opened
        return res.end('two')
      })
      await withServer(listener, async ({ port, get }) => {
        const connection = new RawConnection(port).send(rawGet())
        await entered.opened
        if (when === 'while the response is held') await began
        connection.socket.destroy()
        await gone.opened
        release()
        await settled()
        expect((await get('/again')).body).toBe('lives')
      })
      expect(errors).toEqual([])
      expect(store.records.size).toBe(1)
    },
  )
})

test.each(['before the handler ends', 'while the response is held'])(
  'a save that fails for a client that went away %s is told once',
  async (when) => {
    const { store, fail } = failingStore()
    const entered = gate()
    const gone = gate()
    const { listener, told } = telling({ store }, (req, res) => {
      req.session['views'] = 1
      res.on('close', gone.open)
      if (when === 'while the response is held') res.end('for nobody')
      else void gone.opened.then(() => res.end('for nobody'))
      entered.open()
    })
    await withServer(listener, async ({ port }) => {
      const connection = new RawConnection(port).send(rawGet())
      await entered.opened
      connection.socket.destroy()
      await gone.opened
      await settled()
      fail()
      await settled()
    })
    expect(told).toEqual(['the store is full'])
  },
)

test('an answer that only renews its session does not wait for a record store', async () => {
  const renewing = gate()
  class SlowStore extends session.MemoryStore {
    override renew(): boolean {
      return renewing.opened.then(() => true) as unknown as boolean
    }
  }
  const listener = withSession(new SlowStore(), (req, res) => {
    if (req.url === '/login') change(req)
    res.end('done')
  })
  await withServer(listener, async ({ get }) => {
    const { headers } = await get('/login')
    expect(await get('/', { cookie: cookieHeader(headers) })).toMatchObject({ status: 200, body: 'done' })
  })
  renewing.open()
})

describe.each(Object.entries({ 'Express 4': express4, 'Express 5': express5 }))('%s', (_name, express) => {
  const big = 'a file of some size\n'.repeat(5000)
  const answers: Record<string, (res: express5.Response) => unknown> = {
    'send text': (res) => res.send('<p>hello</p>'),
    'send a buffer': (res) => res.send(Buffer.from('hello')),
    'send an object': (res) => res.send({ hello: 'world' }),
    'send nothing': (res) => res.send(),
    json: (res) => res.status(201).json({ hello: 'world' }),
    jsonp: (res) => res.jsonp({ hello: 'world' }),
    redirect: (res) => res.redirect('/welcome'),
    sendStatus: (res) => res.sendStatus(404),
    sendFile: (res) => res.sendFile('package.json', { root: '.' }),
    attachment: (res) => res.attachment('hello.txt').send('hello'),
    'a cookie of its own': (res) => res.cookie('a', '1').send('hello'),
    'status 204': (res) => res.status(204).end(),
    'a big text': (res) => res.type('text').send(big),
    'an error': (res) =>
      (res.req.next as (error: Error) => void)(Object.assign(new Error('oops'), { status: 400, stack: 'oops' })),
    'no route': (res) => (res.req.next as () => void)(),
  }
  const appFor = (sessions?: Sessions): Express => {
    const app = express()
    app.set('env', 'test')
    app.use((req: express5.Request, res: express5.Response, next: express5.NextFunction) => {
      if (!sessions) return next()
      return sessions(req, res, () => (change(req), next()))
    })
    app.use((req: express5.Request, res: express5.Response) => answers[decodeURIComponent(req.path).slice(1)]?.(res))
    return app
  }

  test.each(Object.keys(answers))('%s', async (answer) => {
    const path = '/' + encodeURIComponent(answer)
    const store = classicStore(session)
    const without = await withServer(appFor(), ({ port }) => rawResponse(port, path))
    const behind = await withServer(appFor(session({ ...OPTIONS, store })), ({ port }) => rawResponse(port, path))
    expect(comparable(behind)).toBe(comparable(without))
    expect(behind).toMatch(/^Set-Cookie: connect\.sid/m)
    expect(store.records.size).toBe(1)
  })

  test('a conditional request is answered with 304, and its session saved', async () => {
    const store = classicStore(session)
    await withServer(appFor(session({ ...OPTIONS, store })), async ({ get }) => {
      const { headers } = await get('/json')
      const again = await get('/send%20text', { 'if-none-match': '*', cookie: cookieHeader(headers) })
      expect(again).toMatchObject({ status: 304, body: '' })
    })
  })
})

test('Connect-style: a chain of middlewares on a plain server', async () => {
  const sessions = session({ ...OPTIONS, store: classicStore(session) })
  type Step = (req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void) => void
  const chain: Step[] = [
    sessions,
    (req, _res, next) => (change(req), next()),
    (_req, res) => res.end('end of the chain'),
  ]
  const run: RequestListener = (req, res) => {
    const step = (i: number): void => chain[i]?.(req, res, () => step(i + 1))
    step(0)
  }
  await withServer(run, async ({ get }) => {
    const { body, headers } = await get('/')
    expect(body).toBe('end of the chain')
    expect(setCookies(headers, 'connect.sid')).toHaveLength(1)
  })
})

describe('HTTP/2, its compatibility API', () => {
  type Answer = (res: http2.Http2ServerResponse, log: Log) => unknown
  const answers: Record<string, Answer> = {
    'end()': (res, log) => log('end', (res.end() as unknown) === res),
    'end(string)': (res) => res.end(BODY),
    'end(buffer)': (res) => res.end(Buffer.from(BODY)),
    'end(callback)': (res, log) => res.end(() => log('called back')),
    'end(string, callback)': (res, log) => res.end(BODY, () => log('called back')),
    'end(string, encoding, callback)': (res, log) => res.end('cafe', 'hex', () => log('called back')),
    'write and end': (res) => {
      res.write('one, ')
      res.end('two')
    },
    'writeHead and end': (res) => {
      res.writeHead(201, { 'x-one': '1' })
      res.end('one')
    },
    'status 204': (res) => {
      res.statusCode = 204
      res.end()
    },
    'status 304': (res) => {
      res.statusCode = 304
      res.end()
    },
    'end twice': (res, log) => {
      res.end('one')
      log('second', (res.end() as unknown) === res)
    },
    'a stream that is piped': (res) => Readable.from(['one, ', 'two']).pipe(res as never),
  }

  interface Answered {
    headers: http2.IncomingHttpHeaders
    body: string
    log: unknown[]
  }

  async function ask(name: string, method: string, sessions?: Sessions): Promise<Answered> {
    const log: unknown[] = []
    const server = http2.createServer((req, res) => {
      res.on('finish', () => log.push('finish'))
      const answer = (): unknown => answers[name]?.(res, (what, value) => log.push([what, value]))
      if (!sessions) return answer()
      return sessions(req as never, res as never, () => (change(req as never), answer()))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const client = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    const stream = client.request({ ':path': '/', ':method': method })
    let body = ''
    stream.setEncoding('utf8').on('data', (text: string) => (body += text))
    const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders]
    if (!stream.closed) await once(stream, 'close')
    client.close()
    server.close()
    await once(server, 'close')
    const { date: _, ...rest } = headers
    return { headers: rest, body, log }
  }

  test.each(Object.keys(answers))('%s', async (name) => {
    for (const method of ['GET', 'HEAD']) {
      const store = classicStore(session)
      const without = await ask(name, method)
      const { headers, ...behind } = await ask(name, method, session({ ...OPTIONS, store }))
      const { 'set-cookie': cookie, ...others } = headers
      expect({ headers: others, ...behind }, method).toEqual(without)
      expect(cookie).toEqual([expect.stringContaining('connect.sid')])
      expect(store.records.size, method).toBe(1)
    }
  })

  test('what is changed after the answer to HEAD has ended, at its first write, is committed at its end', async () => {
    const store = new session.MemoryStore()
    const sessions = session({ ...OPTIONS, store })
    const server = http2.createServer((req, res) => {
      sessions(req as never, res as never, () => {
        change(req as never)
        res.on('error', () => undefined)
        res.write('one')
        res.stream.once('close', () =>
          setImmediate(() => {
            Object.assign((req as never as { session: object }).session, { late: true })
            res.end()
          }),
        )
      })
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const client = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    await once(client.request({ ':path': '/', ':method': 'HEAD' }), 'close')
    await vi.waitUntil(() => Object.values<string>(store.sessions).some((text) => text.includes('"late":true')))
    client.close()
    server.close()
    await once(server, 'close')
  })

  test('nothing leaves before the commit has ended', async () => {
    const { store, began, release } = slowStore()
    const sessions = session({ ...OPTIONS, store })
    const server = http2.createServer((req, res) => {
      if (req.url === '/ping') return res.end('pong')
      return sessions(req as never, res as never, () => (change(req as never), res.end('done')))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const client = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    const held = client.request({ ':path': '/' })
    let answered = false
    held.once('response', () => (answered = true))
    await began
    const ping = client.request({ ':path': '/ping' })
    await once(ping.resume(), 'end')
    expect(answered).toBe(false)
    release()
    const [headers] = (await once(held, 'response')) as [http2.IncomingHttpHeaders]
    expect(headers[':status']).toBe(200)
    held.resume()
    await once(held, 'end')
    client.close()
    server.close()
    await once(server, 'close')
  })
})
