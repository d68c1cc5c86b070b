import type { IncomingMessage, ServerResponse } from 'node:http'
import { describe, expect, test, vi } from 'vitest'
import { withServer } from '../support/app'
import { RawConnection, rawGet } from '../support/raw'
import { setCookies } from '../support/set-cookie'
import { plain, protocols, slowStore } from './protocols'

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
