// @module-tag server
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createHttp, type Server } from 'node:http'
import { createServer as createHttps } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import express from 'express'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { Server as SocketServer } from 'socket.io'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import session from '../../src'
import { makeCertificate } from '../support/certificate'
import { describeInChromium, launchChromium } from '../support/chromium'

const secret = 'a secret that is long enough for the browser'
type Data = Record<string, unknown>

/** Every page of every host of these servers: a form that posts to the address in its query. */
const FORM = (req: express.Request): string =>
  `<form method="post" action="${req.query['to'] as string}"><button>Post</button></form>`

describeInChromium('requests of other origins, in Chromium', () => {
  let browser: Browser
  let context: BrowserContext
  let certificate: ReturnType<typeof makeCertificate>
  const servers: Server[] = []
  const folder = mkdtempSync(path.join(tmpdir(), 'sessile-origins-'))

  beforeAll(async () => {
    browser = await launchChromium()
    certificate = makeCertificate(folder, 'shop.test')
  })
  afterAll(async () => {
    await browser?.close()
    rmSync(folder, { recursive: true })
  })
  beforeEach(async () => {
    context = await browser.newContext({ ignoreHTTPSErrors: true })
  })
  afterEach(async () => {
    await context.close()
    for (const server of servers.splice(0)) {
      server.closeAllConnections()
      server.close()
    }
  })

  async function listen(protocol: 'http' | 'https', app: express.Express): Promise<{ port: number; server: Server }> {
    const files = { key: readFileSync(certificate.key), cert: readFileSync(certificate.cert) }
    const server = protocol === 'http' ? createHttp(app) : createHttps(files, app)
    servers.push(server)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return { port: (server.address() as AddressInfo).port, server }
  }

  function shop(): { app: express.Express; sessions: session.Sessions } {
    const app = express()
    const sessions = session(secret, { cookie: { sameSite: 'none', secure: 'auto' } })
    app.get('/', (req, res) => void res.send(FORM(req)))
    app.use(sessions.sameOrigin())
    app.use(sessions)
    app.post('/transfer', (_req, res) => void res.send('done'))
    app.use(((error: session.SessionError, _req, res, _next) => {
      res.status(403).send(error.code)
    }) as express.ErrorRequestHandler)
    return { app, sessions }
  }

  describe.each(['https', 'http'] as const)('%s', (protocol) => {
    test.each([
      ['shop.test', 'done'],
      ['sibling.shop.test', 'ERR_SESSION_CROSS_ORIGIN'],
      ['elsewhere.test', 'ERR_SESSION_CROSS_ORIGIN'],
    ])('a form on a page of %s: %s', async (host, answer) => {
      const { port } = await listen(protocol, shop().app)
      const page = await context.newPage()
      await page.goto(`${protocol}://${host}:${port}/?to=${protocol}://shop.test:${port}/transfer`)
      await page.click('button')
      await page.waitForURL(/transfer/)
      expect(await page.textContent('body')).toBe(answer)
    })
  })

  test('a form on a page that hides where it is still posts to its own site', async () => {
    const { app } = shop()
    const { port } = await listen(
      'https',
      express()
        .use((_req, res, next) => next(void res.set('Referrer-Policy', 'no-referrer')))
        .use(app),
    )
    const page = await context.newPage()
    await page.goto(`https://shop.test:${port}/?to=/transfer`)
    await page.click('button')
    await page.waitForURL(/transfer/)
    expect(await page.textContent('body')).toBe('done')
  })

  test('socket.io is opened by a page of the own origin only', async () => {
    const { app, sessions } = shop()
    const { port, server } = await listen('https', app)
    const io = new SocketServer(server, { cors: { origin: true, credentials: true } })
    io.engine.use(sessions.sameOrigin())
    for (const [host, outcome] of [
      ['shop.test', 'open'],
      ['elsewhere.test', 'refused'],
    ] as const) {
      const page = await context.newPage()
      await page.goto(`https://${host}:${port}/`)
      await page.addScriptTag({ url: `https://${host}:${port}/socket.io/socket.io.js` })
      const seen = await page.evaluate(`new Promise((resolve) => {
        const socket = io('https://shop.test:${port}', { transports: ['websocket'], reconnection: false })
        socket.on('connect', () => resolve('open'))
        socket.on('connect_error', () => resolve('refused'))
      })`)
      expect(seen, host).toBe(outcome)
    }
    await io.close()
  })

  describe('session.bearer()', () => {
    function api(): express.Express {
      const app = express()
      const sessions = session(secret, { transport: session.bearer(), noStore: true })
      app.get('/', (_req, res) => void res.send('a page'))
      app.use((req, res, next) => {
        res.set({
          'Access-Control-Allow-Origin': req.get('Origin') ?? '',
          'Access-Control-Allow-Headers': 'Authorization',
          'Access-Control-Expose-Headers': 'Authorization',
        })
        if (req.method === 'OPTIONS') return void res.sendStatus(204)
        next()
      })
      app.use(sessions)
      app.post('/login', async (req, res) => {
        await sessions.login(req, { user: 'ada' } as Data)
        res.sendStatus(204)
      })
      app.post('/logout', async (req, res) => {
        await sessions.logout(req)
        res.sendStatus(204)
      })
      app.get('/me', (req, res) => void res.json((req.session as unknown as Data)['user'] ?? null))
      return app
    }

    const useApi = (page: Page, address: string): Promise<unknown> =>
      page.evaluate(`(async () => {
        const seen = []
        const login = await fetch('${address}/login', { method: 'POST' })
        const headers = { authorization: login.headers.get('authorization') }
        seen.push(await (await fetch('${address}/me', { headers })).json())
        seen.push(await (await fetch('${address}/me')).json())
        await fetch('${address}/logout', { method: 'POST', headers })
        seen.push(await (await fetch('${address}/me', { headers })).json())
        return seen
      })()`)

    test.each(['api.test', 'elsewhere.test'])('a page of %s logs in, is in, and out again', async (host) => {
      const { port } = await listen('https', api())
      const page = await context.newPage()
      await page.goto(`https://${host}:${port}/`)
      expect(await useApi(page, `https://api.test:${port}`)).toEqual(['ada', null, null])
      expect(await context.cookies()).toEqual([])
    })
  })
})
