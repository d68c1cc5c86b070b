import { readFileSync } from 'node:fs'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'
import { compileFunction } from 'node:vm'
import cookieSession from 'cookie-session'
import express from 'express'
import { getIronSession } from 'iron-session'
import request from 'supertest'
import { beforeAll, expect, test } from 'vitest'
import session from '../src'

const page = readFileSync(path.join(__dirname, '../docs/migrating.md'), 'utf8')
const KEY = 'the key of the old cookies'
const PASSWORD = 'the password of the old cookies, of 32 characters or more'

beforeAll(() => {
  process.env['SESSION_SECRET'] = 'the secret of the new cookies, long enough'
  process.env['COOKIE_SESSION_KEY'] = KEY
  process.env['IRON_SESSION_PASSWORD'] = PASSWORD
})

/** The app that the page shows below a heading. */
function appBelow(heading: string): RequestListener {
  const [, code] = page.slice(page.indexOf(`## ${heading}`)).match(/^```js\n([\s\S]*?)^```$/m) as RegExpMatchArray
  const module = { exports: {} }
  const require = createRequire(__filename)
  const requireHere = (name: string): unknown => (name === 'sessile' ? session : require(name))
  compileFunction(code as string, ['require', 'module'])(requireHere, module)
  return module.exports as RequestListener
}

function cookiesOf({ headers }: { headers: Record<string, unknown> }): string {
  return (headers['set-cookie'] as string[]).map((cookie) => cookie.split(';')[0]).join('; ')
}

function namesOf({ headers }: { headers: Record<string, unknown> }): string[] {
  return (headers['set-cookie'] as string[] | undefined)?.map((cookie) => cookie.replace(/=.*/, '')) ?? []
}

/** What an app that used cookie-session has given its visitor. */
async function cookieSessionCookies(key: string): Promise<string> {
  const app = express()
  app.use(cookieSession({ name: 'session', keys: [key] }))
  app.get('/', (req, res) => {
    Object.assign(req.session as object, { user: 'ada' })
    res.end()
  })
  return cookiesOf(await request(app).get('/'))
}

async function ironSessionCookies(password: string): Promise<string> {
  const login = async (req: IncomingMessage, res: ServerResponse): Promise<void> => {
    const old = await getIronSession<{ user?: string }>(req, res, { password, cookieName: 'my-app' })
    old.user = 'ada'
    await old.save()
    res.end()
  }
  return cookiesOf(await request((req: IncomingMessage, res: ServerResponse) => void login(req, res)).get('/'))
}

for (const { from, old, names, stolen } of [
  {
    from: 'From cookie-session',
    old: () => cookieSessionCookies(KEY),
    names: ['session', 'session.sig'],
    stolen: () => cookieSessionCookies('another key'),
  },
  {
    from: 'From iron-session',
    old: () => ironSessionCookies(PASSWORD),
    names: ['my-app'],
    stolen: () => ironSessionCookies('another password, which has 32 characters, too'),
  },
]) {
  test(`${from}: who was logged in stays logged in, with one cookie of ours in place of the old ones`, async () => {
    const app = appBelow(from)
    const first = await request(app)
      .get('/')
      .set('Cookie', await old())
    expect(first.text).toBe('Hello ada')
    expect(namesOf(first).sort()).toEqual([...names, 'sid'].sort())

    const [sid = ''] = cookiesOf(first)
      .split('; ')
      .filter((cookie) => cookie.startsWith('sid='))
    const second = await request(app).get('/').set('Cookie', sid)
    expect(second.text).toBe('Hello ada')
  })

  test(`${from}: a cookie that somebody else made counts for nothing`, async () => {
    const forged = await request(appBelow(from))
      .get('/')
      .set('Cookie', await stolen())
    expect(forged.text).toBe('Hello stranger')
    expect(namesOf(forged)).not.toContain('sid')
  })
}
