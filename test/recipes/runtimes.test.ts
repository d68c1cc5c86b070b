// @module-tag slow
import { existsSync } from 'node:fs'
import path from 'node:path'
import { createClient } from 'redis'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { newPlace } from '../support/each-store'
import { Browser } from '../support/alias-project'
import { RecipeFolder } from '../support/recipes'
import { describeWith } from '../support/servers'

/** An app that counts views, logs in and out, on the store that it is told. */
const APP = `
import express from 'express'
import process from 'node:process'
import session from 'sessile'
import { RedisStore } from 'sessile/redis'

const { PORT, PREFIX, SESSION_SECRET, STORE } = process.env

class SlowStore extends session.MemoryStore {}
for (const method of ['read', 'write', 'renew', 'remove']) {
  SlowStore.prototype[method] = async function (...args) {
    await new Promise((resolve) => setTimeout(resolve, 2))
    return session.MemoryStore.prototype[method].apply(this, args)
  }
}

const stores = {
  memory: () => new session.MemoryStore(),
  slow: () => new SlowStore(),
  async redis() {
    const { createClient } = await import('redis')
    return new RedisStore({ client: await createClient().connect(), prefix: PREFIX })
  },
  async ioredis() {
    const { Redis } = await import('ioredis')
    return new RedisStore({ client: new Redis(), prefix: PREFIX })
  },
}

const sessions = session(SESSION_SECRET, { store: await stores[STORE](), user: (data) => data.user, cookie: { maxAge: 60_000 } })
const app = express()
app.use(sessions)
app.get('/', (req, res) => res.send(String((req.session.views = (req.session.views ?? 0) + 1))))
app.get('/login', async (req, res) => {
  await sessions.login(req, { user: 'ada' })
  res.redirect('/me')
})
app.get('/me', (req, res) => res.send(req.session.user ?? 'nobody'))
app.get('/add', async (req, res) => {
  await sessions.update(req, (data) => void (data.count = (data.count ?? 0) + 1))
  res.send(String(req.session.count))
})
app.get('/logout', async (req, res) => {
  await sessions.logout(req)
  res.send('out')
})
app.get('/head', (req, res) => {
  req.session.head = true
  res.writeHead(201, { 'X-One': '1' }).end('head')
})
app.get('/stream', (req, res) => {
  req.session.stream = true
  res.write('a part, ')
  setTimeout(() => res.end('the rest'), 2)
})
app.get('/logout-everywhere', async (req, res) => res.send(String(await sessions.users.endAll(req))))
app.listen(PORT)
`

const RUNTIMES: Record<string, string[]> = {
  node: [],
  deno: ['run', '--allow-env', '--allow-net', '--allow-read', '--allow-sys'],
  bun: [],
}

function binary(runtime: string): string {
  return runtime === 'node' ? process.execPath : path.join(__dirname, '../../node_modules/.bin', runtime)
}

let folder: RecipeFolder
beforeEach(() => void (folder = new RecipeFolder({ 'app.js': APP, 'package.json': '{ "type": "module" }' })))
afterEach(() => folder.close())

async function works(runtime: string, store: string): Promise<void> {
  const env = { STORE: store, PREFIX: `${newPlace()}:` }
  const address = await folder.start(binary(runtime), [...RUNTIMES[runtime]!, 'app.js'], env)
  const port = Number(new URL(address).port)
  const [phone, laptop, stranger] = [new Browser(port), new Browser(port), new Browser(port)]
  try {
    expect([await phone.body('/'), await phone.body('/'), await stranger.body('/')]).toEqual(['1', '2', '1'])

    const planted = phone.cookie
    expect((await phone.get('/login')).headers.location).toBe('/me')
    await laptop.get('/login')
    expect(phone.cookie).not.toBe(planted)
    stranger.cookies.set('connect.sid', planted.slice('connect.sid='.length))
    expect([await phone.body('/me'), await laptop.body('/me'), await stranger.body('/me')]).toEqual([
      'ada',
      'ada',
      'nobody',
    ])

    for (const [path, status, body] of [
      ['/head', 201, 'head'],
      ['/stream', 200, 'a part, the rest'],
    ] as const) {
      const visitor = new Browser(port)
      expect(await visitor.get(path)).toMatchObject({ status, body })
      expect([...visitor.cookies.keys()]).toEqual(['connect.sid'])
    }

    await Promise.all(Array.from({ length: 10 }, () => phone.get('/add')))
    expect(await phone.body('/add')).toBe('11')

    const held = phone.cookie
    expect(await phone.body('/logout')).toBe('out')
    stranger.cookies.set('connect.sid', held.slice('connect.sid='.length))
    expect(await stranger.body('/me')).toBe('nobody')
    expect(await laptop.body('/logout-everywhere')).toBe('1')
    expect(await laptop.body('/me')).toBe('nobody')
    expect(folder.told).toBe('')
  } finally {
    if (store.includes('redis')) await clear(env.PREFIX)
  }
}

async function clear(prefix: string): Promise<void> {
  const client = await createClient().connect()
  for await (const keys of client.scanIterator({ MATCH: `*${prefix}*` })) if (keys.length > 0) await client.del(keys)
  client.destroy()
}

for (const runtime of Object.keys(RUNTIMES)) {
  const isThere = existsSync(binary(runtime))
  if (!isThere) console.warn(`skipped: ${runtime}, which npm has not installed here: npm install ${runtime}`)
  describe.skipIf(!isThere && !process.env['CI'])(runtime, () => {
    test.each(['memory', 'slow'])('the view counter, the login and the logout work on a %s store', (store) =>
      works(runtime, store),
    )

    describeWith('redis', 'RedisStore', () => {
      test.each(['redis', 'ioredis'])('and on Redis, by %s', (client) => works(runtime, client))
    })
  })
}
