// @module-tag server
import type { Server } from 'node:http'
import express from 'express'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import request from 'supertest'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import session from '../../src'
import { inspector } from '../../src/observability/inspector'
import { describeInChromium, launchChromium } from '../support/chromium'

const FIREFOX = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'

describeInChromium('the inspector in Chromium', () => {
  let browser: Browser
  let context: BrowserContext
  let server: Server | undefined

  beforeAll(async () => void (browser = await launchChromium()))
  afterAll(() => browser?.close())
  afterEach(async () => {
    await context?.close()
    server?.closeAllConnections()
    server?.close()
  })

  async function open(width = 1280, colorScheme: 'light' | 'dark' = 'light') {
    const sessions = session({
      secret: 'a secret that is long enough for the browser',
      resave: false,
      saveUninitialized: false,
      cookie: { maxAge: 3_600_000 },
      user: (data) => (data as { user?: string }).user,
      describe: (req) => ({ agent: req.get('user-agent'), address: req.ip }),
    })
    const app = express()
    app.use('/sessions', inspector(sessions))
    app.use(sessions)
    app.get('/login/:user', async (req, res) => {
      await sessions.login(req, { user: req.params.user, cart: [] } as never)
      res.send('in')
    })
    app.get('/logout', async (req, res) => {
      await sessions.logout(req)
      res.send('out')
    })
    app.get('/me', (req, res) => res.send(String((req.session as { user?: string }).user)))
    const listening = app.listen(0, '127.0.0.1')
    server = listening
    await new Promise((resolve) => listening.once('listening', resolve))
    const { port } = listening.address() as { port: number }
    const loggedIn = async (user: string, agentName = FIREFOX) => {
      const agent = request.agent(`http://127.0.0.1:${port}`).set('User-Agent', agentName)
      await agent.get(`/login/${user}`)
      return agent
    }
    context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme })
    const page = await context.newPage()
    const errors: string[] = []
    page.on('pageerror', (error) => errors.push(String(error)))
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()))
    const visit = () => page.goto(`http://localhost:${port}/sessions`)
    return { errors, loggedIn, page, visit }
  }

  const rowOf = (page: Page, user: string) => page.locator('#live tbody tr').filter({ hasText: user })

  test('shows who is signed in, and what happens, without being asked again', async () => {
    const { errors, loggedIn, page, visit } = await open()
    const ada = await loggedIn('ada')
    await visit()
    await page.getByText('1 signed in, 1 session').waitFor()
    const row = rowOf(page, 'ada')
    expect(await row.innerText()).toMatch(/Firefox on Linux[^]*user, cart[^]*in 60 min[^]*\d+ B/)
    await ada.get('/me')
    await row.getByText('it is stored as it is').waitFor()
    const grace = await loggedIn('grace')
    await page.getByText('2 signed in, 2 sessions').waitFor()
    await grace.get('/logout')
    await page.locator('#ended').getByText('by the application: a logout, or users.endAll').waitFor()
    expect(errors).toEqual([])
  })

  test('the button ends that session, when that was meant', async () => {
    const { errors, loggedIn, page, visit } = await open()
    const [ada, grace] = [await loggedIn('ada'), await loggedIn('grace')]
    await visit()
    const button = rowOf(page, 'ada').getByRole('button', { name: /^End the session of ada/ })
    page.once('dialog', (dialog) => void dialog.dismiss())
    await button.click()
    await ada.get('/me').expect('ada')
    page.once('dialog', (dialog) => void dialog.accept())
    await button.press('Enter')
    await page.locator('#ended').getByText('by whoever looks at this page').waitFor()
    await ada.get('/me').expect('undefined')
    await grace.get('/me').expect('grace')
    expect(await page.locator('#live tbody tr').count()).toBe(1)
    expect(errors).toEqual([])
  })

  test('finds a user, and keeps the focus where it is while rows come and go', async () => {
    const { loggedIn, page, visit } = await open()
    const ada = await loggedIn('ada')
    await loggedIn('grace')
    await visit()
    await page.getByLabel('Find').fill('gra')
    await rowOf(page, 'ada').waitFor({ state: 'detached' })
    await page.getByLabel('Find').fill('')
    const button = rowOf(page, 'grace').getByRole('button')
    await button.focus()
    await ada.get('/me')
    await rowOf(page, 'ada').getByText('it is stored as it is').waitFor()
    expect(await page.evaluate('document.activeElement.ariaLabel')).toMatch(/^End the session of grace/)
  })

  test('what a client has sent is text', async () => {
    const { errors, loggedIn, page, visit } = await open()
    const markup = '<img src=x onerror="document.title=1">'
    await loggedIn('mallory', markup)
    await visit()
    await page.getByText(markup).waitFor()
    expect(await page.title()).toBe('Sessions')
    expect(await page.locator('img').count()).toBe(0)
    expect(errors).toEqual([])
  })

  describe.each([360, 1280])('at %i px', (width) => {
    test.each(['light', 'dark'] as const)('%s: all is in sight, and can be read', async (colorScheme) => {
      const { loggedIn, page, visit } = await open(width, colorScheme)
      const ada = await loggedIn('ada')
      await loggedIn('a.very.long.name.of.a.user@department.example.org')
      await (await loggedIn('grace')).get('/me')
      await visit()
      await page.getByText('3 signed in, 3 sessions').waitFor()
      await ada.get('/logout')
      await page.locator('#ended tbody tr').waitFor()
      const { INSPECTOR_PICTURES: pictures } = process.env
      if (pictures) await page.screenshot({ path: `${pictures}/inspector-${width}-${colorScheme}.png`, fullPage: true })
      expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(width)
      expect(await page.evaluate(CONTRASTS)).toEqual([])
      for (const button of await rowOf(page, 'grace').getByRole('button').all()) {
        expect((await button.boundingBox())?.height).toBeGreaterThanOrEqual(24)
      }
    })
  })
})

/** The texts of the page whose contrast to what is behind them is below WCAG's 4.5. */
const CONTRASTS = `
(() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number)
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    return 0.2126 * x + 0.7152 * y + 0.0722 * z
  }
  const behind = (element) => {
    const color = channels(getComputedStyle(element).backgroundColor)
    return color[3] === 0 ? behind(element.parentElement) : color
  }
  return [...document.querySelectorAll('h1, h2, p, span, small, code, time, button, label, th')]
    .filter((element) => element.textContent.trim() && element.checkVisibility())
    .filter((element) => {
      const [a, b] = [light(channels(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a)
      return (a + 0.05) / (b + 0.05) < 4.5
    })
    .map((element) => element.outerHTML)
})()`
