import type { IncomingMessage, ServerResponse } from 'node:http'
import { expect, test } from 'vitest'
import sessile from '../../src'
import { gate, get, settled, withServer, type SessionFactory } from '../support/app'
import { Exchange, exchange } from '../support/exchange'
import { cookieHeader } from '../support/set-cookie'
import { appWith, classicStore, fault, inProcess, OPTIONS, type Handler } from './fault'

/** Runs plain `http` with sessions: errors that reach `next` are listed. */
function plain(
  session: SessionFactory,
  store: unknown,
  handler: (req: IncomingMessage & { session: any }, res: ServerResponse) => void,
) {
  const middleware = session({ ...OPTIONS, store } as never)
  const errors: unknown[] = []
  return {
    errors,
    listener: (req: IncomingMessage, res: ServerResponse) =>
      middleware(req as never, res as never, (error?: unknown) => {
        if (error) errors.push(error)
        else handler(req as never, res)
      }),
  }
}

fault(1, 'ending an HTTP/2 response ends the process', {
  scenario: (session) =>
    inProcess(
      session,
      `const http2 = require('node:http2')
      const sessions = session({ secret: 's', resave: false, saveUninitialized: true })
      const server = http2.createServer((req, res) => sessions(req, res, () => res.end('hello')))
      server.listen(0, () => {
        const client = http2.connect('http://localhost:' + server.address().port)
        const stream = client.request({ ':path': '/' })
        let body = ''
        stream.on('response', (headers) => (body = headers[':status'] + ' ' + String(headers['set-cookie']).slice(0, 11) + ' '))
        stream.on('data', (chunk) => (body += chunk))
        stream.on('end', () => { console.log(body); client.close(); server.close() })
      })`,
    ),
  original: 'dies',
  sessile: '200 connect.sid hello',
})

fault(2, 'res.end(callback) throws, and res.end(chunk, encoding, callback) never calls back', {
  async scenario(session) {
    const outcomes: Record<string, string[]> = {}
    const forms: Record<string, (res: ServerResponse, callback: () => void) => void> = {
      'end(callback)': (res, callback) => res.end(callback),
      'end(chunk, callback)': (res, callback) => res.end('body', callback),
      'end(chunk, encoding, callback)': (res, callback) => res.end('body', 'utf8', callback),
    }
    for (const [form, end] of Object.entries(forms)) {
      const { listener } = plain(session, new session.MemoryStore(), (req, res) => {
        req.session.views = 1
        const outcome: string[] = (outcomes[form] = [])
        try {
          end(res, () => outcome.push('calls back'))
        } catch {
          outcome.push('throws')
        }
      })
      const { req, res } = new Exchange()
      listener(req, res)
      await settled()
    }
    return outcomes
  },
  original: {
    'end(callback)': ['throws', 'calls back'],
    'end(chunk, callback)': ['calls back'],
    'end(chunk, encoding, callback)': [],
  },
  sessile: {
    'end(callback)': ['calls back'],
    'end(chunk, callback)': ['calls back'],
    'end(chunk, encoding, callback)': ['calls back'],
  },
})

fault(3, 'the answer leaves before the session is saved', {
  async scenario(session) {
    const saving = gate()
    const store = classicStore(session)
    store.set = (_id, _data, callback) => void saving.opened.then(() => callback?.())
    const app = appWith(session, { store }, (req, res) => {
      req.session.user = 'ada'
      res.redirect('/welcome')
    })
    const { req, res, writes, finished } = new Exchange({ headers: { accept: 'text/html' } })
    app(req as never, res as never)
    await settled()
    const before = writes.length > 0 ? 'leaves before the save has ended' : 'waits for the save'
    saving.open()
    await finished
    return `${before}, ${writes.length === 1 ? 'in one write' : 'in several writes'}`
  },
  original: 'leaves before the save has ended, in several writes',
  sessile: 'waits for the save, in one write',
})

fault(3, 'a write after the end gets into the body', {
  async scenario(session) {
    const { listener } = plain(session, new session.MemoryStore(), (req, res) => {
      req.session.views = 1
      res.on('error', () => undefined)
      res.end('body')
      res.write(' and more')
    })
    return (await exchange(listener)).body
  },
  original: 'body and more',
  sessile: 'body',
})

const UNSERIALIZABLE: Record<string, (session: any) => void> = {
  'a BigInt': (session) => (session.cart = { total: 1n }),
  'a circle': (session) => (session.cart = { self: session }),
}

fault(8, 'a request hangs for ever when JSON cannot hold its session', {
  async scenario(session) {
    const outcomes: Record<string, string> = {}
    for (const [what, put] of Object.entries(UNSERIALIZABLE)) {
      const app = appWith(session, {}, (req, res) => {
        put(req.session)
        res.send('done')
      })
      const one = new Exchange()
      app(one.req as never, one.res as never)
      await settled()
      const { status, body } = one.received
      outcomes[what] = one.res.writableFinished ? `${status} ${body.split(' cannot')[0]}` : 'hangs'
    }
    return outcomes
  },
  original: { 'a BigInt': 'hangs', 'a circle': 'hangs' },
  sessile: { 'a BigInt': '500 req.session.cart.total', 'a circle': '500 req.session.cart.self' },
})

fault(8, 'the process dies when JSON cannot hold a session and the response ends in a callback', {
  scenario: (session) =>
    inProcess(
      session,
      `const http = require('node:http'), express = require('express')
      const app = express()
      app.use(session({ secret: 's', resave: false, saveUninitialized: false }))
      app.get('/good', (req, res) => res.send('lives'))
      app.get('/bad', (req, res) => { req.session.n = 1n; setImmediate(() => res.send('done')) })
      app.use((error, req, res, next) => res.status(500).send('failed'))
      const server = app.listen(0, async () => {
        const get = async (path) => (await fetch('http://localhost:' + server.address().port + path)).text()
        console.log(await get('/bad'), await get('/good'))
        process.exit()
      })`,
    ),
  original: 'dies',
  sessile: 'failed lives',
})

fault(10, 'a failed save looks like a success, with no way to choose otherwise', {
  async scenario(session) {
    const outcomes: Record<string, unknown> = {}
    for (const onSaveError of ['error', 'disconnect'] as const) {
      const store = classicStore(session)
      store.set = (_id, _data, callback) => setImmediate(() => callback?.(new Error('the store is full')))
      const app = appWith(session, { store, onSaveError }, (req, res) => {
        req.session.user = 'ada'
        res.send('you are logged in')
      })
      outcomes[onSaveError] = await withServer(app, async ({ port }) =>
        get(port, '/').then(
          ({ status, body }) => `${status} ${body}`,
          () => 'disconnected',
        ),
      )
    }
    return outcomes
  },
  original: { error: '200 you are logged in', disconnect: '200 you are logged in' },
  sessile: { error: '500 the store is full', disconnect: 'disconnected' },
})

fault(13, 'a session that is changed after the response has begun is stored, though nobody gets its cookie', {
  async scenario(session) {
    const store = classicStore(session)
    const app = appWith(session, { store }, (req, res) => {
      res.write('first part, ')
      req.session.user = 'ada'
      res.end('second part')
    })
    const { headers, body } = await exchange(app as never)
    await settled()
    return { body, cookie: headers.some(([name]) => name === 'set-cookie'), stored: store.records.size }
  },
  original: { body: 'first part, second part', cookie: false, stored: 1 },
  sessile: { body: 'first part, second part', cookie: false, stored: 0 },
})

test('a session that had its cookie before is stored, however late it is changed', async () => {
  const store = classicStore(sessile)
  const handler: Handler = (req, res) => {
    if (req.url === '/login') req.session.user = 'ada'
    res.write('first part, ')
    req.session.late = true
    res.end('second part')
  }
  const app = appWith(sessile, { store }, handler)
  const { headers } = await exchange(app as never, { url: '/login' })
  await exchange(app as never, { url: '/', headers: { cookie: cookieHeader(Object.fromEntries(headers)) } })
  expect([...store.records.values()].map((text) => JSON.parse(text) as object)).toMatchObject([
    { user: 'ada', late: true },
  ])
})
