import { createServer } from 'node:http'
import express from 'express'
import request from 'supertest'
import { describe, expect, test } from 'vitest'
import session from '../src'
import { listen } from './support/app'

const sessions = session('a secret that is long enough for this', { hints: false })

function shop(): express.Express {
  const app = express()
  app.use(sessions.sameOrigin())
  app.use((_req, res) => void res.send('done'))
  app.use(((error: session.SessionError, _req, res, _next) => {
    res.status((error as { status?: number }).status ?? 500).send(error.code)
  }) as express.ErrorRequestHandler)
  return app
}

describe('sessions.sameOrigin()', () => {
  test.each<[why: string, headers: Record<string, string>]>([
    ['a page of its own', { 'Sec-Fetch-Site': 'same-origin', Origin: 'http://shop.test' }],
    ['its own page that hides where it is', { 'Sec-Fetch-Site': 'same-origin', Origin: 'null' }],
    ['the address bar', { 'Sec-Fetch-Site': 'none' }],
    ['an old browser, on a page of its own', { Origin: 'http://shop.test' }],
    ['the same behind a proxy that ends TLS', { Origin: 'https://shop.test' }],
    ['an older browser yet', { Referer: 'http://shop.test/cart?full=1' }],
    ['a client that is no browser', {}],
  ])('a post is let through: %s', async (_, headers) => {
    await request(shop())
      .post('/')
      .set({ Host: 'shop.test', ...headers })
      .expect(200, 'done')
  })

  test.each<[why: string, headers: Record<string, string>]>([
    ['a page of another site', { 'Sec-Fetch-Site': 'cross-site' }],
    ['a sibling domain', { 'Sec-Fetch-Site': 'same-site' }],
    ['a word of the future', { 'Sec-Fetch-Site': 'something' }],
    ['an empty word', { 'Sec-Fetch-Site': '' }],
    ['another site, whatever the origin says', { 'Sec-Fetch-Site': 'cross-site', Origin: 'http://shop.test' }],
    ['an old browser, on another site', { Origin: 'https://elsewhere.test' }],
    ['an old browser, on another port', { Origin: 'http://shop.test:8080' }],
    ['a frame without an origin', { Origin: 'null' }],
    ['an empty origin', { Origin: '' }],
    ['an origin that only begins alike', { Origin: 'http://shop.test.elsewhere.test' }],
    ['an origin with our host as its user', { Origin: 'http://shop.test@elsewhere.test' }],
    ['another site, told by the referrer', { Referer: 'https://elsewhere.test/http://shop.test' }],
  ])('a post is refused: %s', async (_, headers) => {
    for (const method of ['post', 'put', 'patch', 'delete'] as const) {
      const post = request(shop())[method]('/')
      const { status, text } = await post.set({ Host: 'shop.test', ...headers })
      expect([status, text]).toEqual([403, 'ERR_SESSION_CROSS_ORIGIN'])
    }
  })

  test('links and requests that change nothing are let through from everywhere', async () => {
    for (const method of ['get', 'head', 'options'] as const) {
      await request(shop())[method]('/').set('Sec-Fetch-Site', 'cross-site').expect(200)
    }
  })

  test('a WebSocket is opened by own pages only', async () => {
    const sent: unknown[] = []
    const server = createServer()
    server.on('upgrade', (req, socket) => {
      sessions.sameOrigin()(req, {} as never, (error?: unknown) => {
        sent.push((error as session.SessionError | undefined)?.code ?? 'opened')
        socket.destroy()
      })
    })
    const { close, get, url } = await listen(server)
    for (const Origin of ['https://elsewhere.test', url]) {
      await get('/', { Origin, Connection: 'Upgrade', Upgrade: 'websocket' }).catch(() => undefined)
    }
    await close()
    expect(sent).toEqual(['ERR_SESSION_CROSS_ORIGIN', 'opened'])
  })

  test('Express answers with 403, if the app has no error handler of its own', async () => {
    const app = express().use(sessions.sameOrigin())
    app.set('env', 'test')
    await request(app).post('/').set('Sec-Fetch-Site', 'cross-site').expect(403)
  })
})
