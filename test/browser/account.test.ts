// @module-tag server
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { createClient } from 'redis'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { describeInChromium, launchChromium } from '../support/chromium'
import { start, stop } from '../support/examples'
import { describeWith } from '../support/servers'

const folder = mkdtempSync(path.join(tmpdir(), 'sessile-account-'))
const PHONE = 'Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Mobile Safari/537.36'

/** Pictures of the pages, for who wants to look at them. */
const pictures = process.env['PICTURES']

describeInChromium('the account example, in Chromium', () => {
  let browser: Browser
  beforeAll(async () => {
    browser = await launchChromium()
  })
  afterEach(stop)
  afterAll(async () => {
    await browser?.close()
    rmSync(folder, { recursive: true, force: true })
  })

  /** A page in a browser of its own. */
  async function open(address: string, settings = {}): Promise<Page> {
    const context = await browser.newContext(settings)
    const page = await context.newPage()
    await page.goto(address)
    return page
  }

  async function login(page: Page, name: string, password: string): Promise<void> {
    await page.getByLabel('Name').fill(name)
    await page.getByLabel('Password').fill(password)
    await page.getByRole('button', { name: 'Log in' }).click()
  }

  async function picture(page: Page, name: string): Promise<void> {
    if (pictures) await page.screenshot({ path: path.join(pictures, `${name}.png`), fullPage: true })
  }

  const heading = (page: Page): Promise<string> => page.getByRole('heading', { level: 1 }).innerText()
  const devices = (page: Page): Promise<string[]> => page.getByRole('heading', { level: 2 }).allInnerTexts()

  async function logEachOtherOut(address: string): Promise<void> {
    const laptop = await open(address)
    await picture(laptop, 'login')
    await login(laptop, 'ada', 'wrong')
    expect(await laptop.getByRole('alert').innerText()).toBe('Wrong name or password.')
    await login(laptop, 'ada', 'lovelace')
    expect(await devices(laptop)).toEqual(['Chrome on Linux This device'])

    const phone = await open(address, { userAgent: PHONE, viewport: { width: 390, height: 800 }, colorScheme: 'dark' })
    await login(phone, 'ada', 'lovelace')
    const grace = await open(address)
    await login(grace, 'grace', 'hopper')
    expect(await devices(phone)).toEqual(['Chrome on Android This device', 'Chrome on Linux'])
    await picture(phone, 'phone')

    await laptop.reload()
    await picture(laptop, 'account')
    await laptop.getByRole('button', { name: 'Log out Chrome on Android' }).click()
    expect(await laptop.getByRole('status').innerText()).toBe('That device is logged out.')
    await picture(laptop, 'message')
    await laptop.reload()
    expect(await laptop.getByRole('status').count(), 'the message is shown once').toBe(0)
    await phone.reload()
    expect(await heading(phone)).toBe('Log in')

    await login(phone, 'ada', 'lovelace')
    await phone.getByRole('button', { name: 'Log out all other devices' }).click()
    expect(await phone.getByRole('status').innerText()).toBe('One other device is logged out.')
    await laptop.reload()
    expect(await heading(laptop)).toBe('Log in')
    await grace.reload()
    expect(await devices(grace)).toEqual(['Chrome on Linux This device'])

    await phone.getByRole('button', { name: 'Log out', exact: true }).click()
    expect(await heading(phone)).toBe('Log in')
    expect(await phone.context().cookies()).toEqual([])
  }

  test('on SQLite: one browser logs the other one out', async () => {
    process.env['FILE'] = path.join(folder, 'devices.db')
    await logEachOtherOut(await start('node', 'examples/account'))
  }, 60_000)

  test('on SQLite: a restart logs nobody out', async () => {
    process.env['FILE'] = path.join(folder, 'restart.db')
    process.env['SESSION_SECRET'] = 'the same one for both, of more than 32 bytes'
    const page = await open(await start('node', 'examples/account'))
    await login(page, 'ada', 'lovelace')
    const cookies = await page.context().cookies()
    await stop()
    const address = await start('node', 'examples/account')
    const again = await open(address)
    await again.context().addCookies(cookies)
    await again.reload()
    expect(await heading(again)).toBe('Where you’re logged in')
  }, 60_000)

  test('a form of another site is refused', async () => {
    process.env['FILE'] = path.join(folder, 'forged.db')
    const address = await start('node', 'examples/account')
    for (const headers of [{ 'sec-fetch-site': 'cross-site' }, { origin: 'https://elsewhere.test' }]) {
      expect((await fetch(`${address}/devices/logout-others`, { method: 'POST', headers })).status).toBe(403)
    }
  })

  describeWith('redis', 'on Redis', () => {
    afterAll(async () => {
      delete process.env['REDIS_URL']
      const client = await createClient().connect()
      for await (const keys of client.scanIterator({ MATCH: '*account:*' })) if (keys.length) await client.del(keys)
      client.destroy()
    })
    test('one browser logs the other one out', async () => {
      process.env['REDIS_URL'] = 'redis://127.0.0.1:6379'
      await logEachOtherOut(await start('node', 'examples/account'))
    }, 60_000)
  })
})
