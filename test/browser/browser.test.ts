// @module-tag server
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createHttps } from 'node:https'
import type { Server } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import express from 'express'
import type { Browser, BrowserContext } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import session from '../../src'
import { makeCertificate } from '../support/certificate'
import { describeInChromium, launchChromium } from '../support/chromium'

const secret = 'a secret that is long enough for the browser'
type Data = Record<string, unknown>
const dataOf = (req: express.Request): Data => req.session as unknown as Data

/** A store that takes its time to write. */
class SlowStore extends session.RecordStore {
  readonly #memory = new session.MemoryStore()
  read(id: string) {
    return this.#memory.read(id)
  }
  async write(...args: Parameters<session.MemoryStore['write']>) {
    await new Promise((resolve) => setTimeout(resolve, 300))
    return this.#memory.write(...args)
  }
  renew(id: string, expires: number) {
    return this.#memory.renew(id, expires)
  }
  remove(...args: Parameters<session.MemoryStore['remove']>) {
    return this.#memory.remove(...args)
  }
  scan(cursor: string | null, limit: number) {
    return this.#memory.scan(cursor, limit)
  }
}

describeInChromium('in Chromium', () => {
  let browser: Browser
  let context: BrowserContext
  let certificate: ReturnType<typeof makeCertificate>
  const servers: Server[] = []
  const folder = mkdtempSync(path.join(tmpdir(), 'sessile-browser-'))

  beforeAll(async () => {
    browser = await launchChromium()
    certificate = makeCertificate(folder, 'shop.test', 'embedding.test')
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

  async function listen(app: express.Express): Promise<number> {
    const server = app.listen(0, '127.0.0.1')
    servers.push(server)
    await new Promise((resolve) => server.once('listening', resolve))
    return (server.address() as { port: number }).port
  }

  async function listenSecurely(app: express.Express): Promise<number> {
    const server = createHttps({ key: readFileSync(certificate.key), cert: readFileSync(certificate.cert) }, app)
    servers.push(server)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return (server.address() as { port: number }).port
  }

  function shop(options: session.SessionOptions = {}): express.Express {
    const app = express()
    app.use(session({ secret, resave: false, saveUninitialized: false, ...options }))
    app.use(express.urlencoded({ extended: false }))
    app.get('/count', (req, res) => {
      dataOf(req)['views'] = Number(dataOf(req)['views'] ?? 0) + 1
      res.send(`<p>${String(dataOf(req)['views'])}</p>`)
    })
    app.get('/', (req, res) => {
      res.set('Cache-Control', 'no-store')
      const user = dataOf(req)['user'] as string | undefined
      res.send(
        user
          ? `<p>Hello ${user}</p><form method="post" action="/logout"><button>Log out</button></form>`
          : '<form method="post" action="/login"><input name="name"><button>Log in</button></form>',
      )
    })
    app.post('/login', async (req, res) => {
      await req.session.regenerate()
      dataOf(req)['user'] = String((req.body as { name: string }).name)
      res.redirect('/')
    })
    app.post('/logout', async (req, res) => {
      await req.session.destroy()
      res.redirect('/')
    })
    app.get('/key/:key', (req, res) => {
      dataOf(req)[req.params.key] = true
      setTimeout(() => res.send('set'), 10)
    })
    app.get('/keys', (req, res) => res.json(Object.keys(dataOf(req)).filter((key) => key.startsWith('k'))))
    return app
  }

  test('the view counter counts', async () => {
    const port = await listen(shop())
    const page = await context.newPage()
    for (const views of ['1', '2', '3']) {
      await page.goto(`http://shop.test:${port}/count`)
      expect(await page.textContent('p')).toBe(views)
    }
  })

  test('login, redirect on a slow store, logout, and the back button after it', async () => {
    const port = await listen(shop({ store: new SlowStore() }))
    const page = await context.newPage()
    await page.goto(`http://shop.test:${port}/`)
    await page.fill('input', 'ada')
    await page.click('button')
    await page.waitForLoadState()
    expect(await page.textContent('p')).toBe('Hello ada')
    await page.click('button')
    await page.waitForLoadState()
    expect(await page.locator('input').count()).toBe(1)
    await page.goBack()
    expect(await page.locator('p').count(), 'nobody is logged in on the page before').toBe(0)
  })

  test('twenty fetches at once that each write: all twenty keys are there', async () => {
    const port = await listen(shop({ store: new SlowStore() }))
    const page = await context.newPage()
    await page.goto(`http://shop.test:${port}/count`)
    const keys = await page.evaluate(`Promise.all(Array.from({ length: 20 }, (_, n) => fetch('/key/k' + n)))
      .then(() => fetch('/keys')).then((res) => res.json())`)
    expect(keys).toHaveLength(20)
  })

  test('a __Host- cookie over HTTPS', async () => {
    const port = await listenSecurely(shop({ name: '__Host-sid', cookie: { secure: true, sameSite: 'lax' } }))
    const page = await context.newPage()
    for (const views of ['1', '2']) {
      await page.goto(`https://shop.test:${port}/count`)
      expect(await page.textContent('p')).toBe(views)
    }
    const [cookie] = await context.cookies()
    expect(cookie).toMatchObject({ name: '__Host-sid', secure: true, httpOnly: true, sameSite: 'Lax', path: '/' })
  })

  describe('in a frame of another site', () => {
    async function viewsInFrame(cookie: session.CookieOptions): Promise<string[]> {
      const port = await listenSecurely(shop({ cookie }))
      const embedding = express().get(
        '/',
        (_req, res) => void res.send(`<iframe src="https://shop.test:${port}/count"></iframe>`),
      )
      const embeddingPort = await listenSecurely(embedding)
      const page = await context.newPage()
      const seen: string[] = []
      for (let n = 0; n < 2; n++) {
        await page.goto(`https://embedding.test:${embeddingPort}/`)
        seen.push((await page.frameLocator('iframe').locator('p').textContent()) ?? '')
      }
      return seen
    }

    test('SameSite=Lax: the cookie does not come along', async () => {
      expect(await viewsInFrame({ secure: true, sameSite: 'lax' })).toEqual(['1', '1'])
    })
    test('SameSite=None and Partitioned: it does', async () => {
      expect(await viewsInFrame({ secure: true, sameSite: 'none', partitioned: true })).toEqual(['1', '2'])
    })
  })
})
