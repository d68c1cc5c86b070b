// @module-tag long
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import type { Browser } from 'playwright-core'
import { describe, afterAll, beforeAll, expect, test } from 'vitest'
import { describeInChromium, launchChromium } from '../support/chromium'

const root = path.join(__dirname, '../..')
const site = path.join(root, 'docs/.vitepress/dist')
const TYPES: Record<string, string> = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' }

/** The site, as static hosts serve it. */
function serve(): Server {
  return createServer((req, res) => {
    const asked = path.join(site, decodeURIComponent((req.url ?? '/').split('?', 1)[0] ?? '/'))
    const candidates = [asked, `${asked}.html`, path.join(asked, 'index.html')]
    const file = candidates.find((name) => existsSync(name) && statSync(name).isFile())
    if (!file) return void res.writeHead(404).end()
    res.setHeader('Content-Type', TYPES[path.extname(file)] ?? 'application/octet-stream').end(readFileSync(file))
  })
}

describe('npm run docs', () =>
  describeInChromium('the documentation as a site, in Chromium', () => {
    let browser: Browser
    let server: Server
    let address: string

    // The build fails on a link that leads nowhere.
    beforeAll(async () => {
      execFileSync(process.execPath, ['scripts/docs.mjs'], { cwd: root, stdio: 'pipe' })
      server = serve()
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      address = `http://localhost:${(server.address() as AddressInfo).port}`
      browser = await launchChromium()
    }, 600_000)
    afterAll(async () => {
      await browser?.close()
      server?.close()
    })

    const urls = readdirSync(path.join(root, 'docs'))
      .filter((file) => file.endsWith('.md'))
      .map((file) => `/${file.replace(/\.md$/, '').replace('README', '')}`)
    const generated = [
      '/api/sessile/functions/session',
      '/api/sessile/interfaces/Sessions',
      '/examples/account',
      '/grafana/',
    ]

    test.each([360, 1280])(
      'no page is wider than a window of %i px, and none has an error',
      { timeout: 180_000 },
      async (width) => {
        const page = await browser.newPage({ viewport: { width, height: 800 } })
        const wrong: string[] = []
        page.on('pageerror', (error) => wrong.push(error.message))
        page.on('response', (res) => void (res.status() >= 400 && wrong.push(`${res.status()} ${res.url()}`)))
        for (const url of [...urls, ...generated]) {
          await page.goto(address + url, { waitUntil: 'networkidle' })
          const tooWide = await page.evaluate('document.documentElement.scrollWidth - innerWidth')
          if ((tooWide as number) > 0) wrong.push(`${url} is ${String(tooWide)} px too wide`)
        }
        await page.close()
        expect(wrong).toEqual([])
      },
    )

    test('the menu leads to every page of the guide', async () => {
      const page = await browser.newPage()
      await page.goto(`${address}/options`)
      const links = await page
        .locator('.VPSidebar a')
        .evaluateAll((all) => all.map((link) => link.getAttribute('href')))
      const guide = urls.filter((url) => url !== '/')
      expect(guide.length).toBeGreaterThan(15)
      expect(guide.filter((url) => !links.includes(url))).toEqual([])
      expect(links).toContain('/grafana/')
      await page.close()
    })

    test('the menu of the API has all that the package exports', async () => {
      const { exports } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { exports: object }
      const entries = Object.keys(exports).filter(
        (entry) => /^\.(\/[a-z]+)?$/.test(entry) && !/index|package/.test(entry),
      )
      const page = await browser.newPage()
      await page.goto(`${address}/api/`)
      const groups = await page.locator('.VPSidebar .level-0 > .item h2').allInnerTexts()
      expect(groups.sort()).toEqual(entries.map((entry) => entry.replace('.', 'sessile')).sort())
      await page.close()
    })

    test('the search finds an option, in the guide and in the API', async () => {
      const page = await browser.newPage()
      await page.goto(address)
      await page.getByRole('button', { name: 'Search' }).click()
      await page.locator('#localsearch-input').fill('absoluteTimeout')
      await page.locator('#localsearch-list a').first().waitFor()
      const found = await page.locator('#localsearch-list a').evaluateAll((links) => links.map((link) => String(link)))
      expect(found.some((link) => link.includes('/security') || link.includes('/options'))).toBe(true)
      expect(found.some((link) => link.includes('/api/'))).toBe(true)
      await page.close()
    })

    test('it is dark where the reader’s system is, and at a click', async () => {
      const isDark = `document.documentElement.classList.contains('dark')`
      const dark = await browser.newPage({ colorScheme: 'dark' })
      await dark.goto(`${address}/options`)
      expect(await dark.evaluate(isDark)).toBe(true)
      const light = await browser.newPage({ colorScheme: 'light' })
      await light.goto(`${address}/options`)
      await light.locator('.VPNavBar .VPSwitchAppearance').first().click()
      expect(await light.evaluate(isDark)).toBe(true)
    })
  }))
