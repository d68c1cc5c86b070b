import type { Server } from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'
import express from 'express'
import request from 'supertest'
import { afterEach, describe, expect, test } from 'vitest'
import session from '../../src'
import { caught } from '../support/app'
import { newPlace, onEachStore } from '../support/each-store'

// Visitors whose requests overlap at random, with everything on that gives sessions new IDs and ends them: what was
// acknowledged is there, once, until the logout, and nothing is after it.

const KEY = 'FhGGIBvOu8H6VvRb2ma5mnJ0M1hFyVvAyQMLSSxzyhk='
const LIVES = process.env['THOROUGH'] ? 3 : 1
const ROUNDS = 5
const AT_ONCE = 4

const turn = (): Promise<unknown> =>
  Math.random() < 0.5 ? new Promise((resolve) => setImmediate(resolve)) : pause(Math.random() * 4)

/** One memory for several processes, each of which takes some turns to reach it and to hear of the answer. */
class FarStore extends session.RecordStore {
  readonly #memory: session.MemoryStore
  constructor(memory: session.MemoryStore) {
    super()
    this.#memory = memory
  }
  async #far<T>(work: () => T): Promise<T> {
    await turn()
    const answer = work()
    await turn()
    return answer
  }
  read(id: string) {
    return this.#far(() => this.#memory.read(id))
  }
  write(...args: Parameters<session.MemoryStore['write']>) {
    return this.#far(() => this.#memory.write(...args))
  }
  renew(id: string, expires: number) {
    return this.#far(() => this.#memory.renew(id, expires))
  }
  remove(...args: Parameters<session.MemoryStore['remove']>) {
    return this.#far(() => this.#memory.remove(...args))
  }
  scan(cursor: string | null, limit: number) {
    return this.#memory.scan(cursor, limit)
  }
  override link(user: string, id: string) {
    return this.#far(() => this.#memory.link(user, id))
  }
  override unlink(user: string, id: string) {
    return this.#far(() => this.#memory.unlink(user, id))
  }
  override linked(user: string) {
    return this.#far(() => this.#memory.linked(user))
  }
}

type Data = { owner?: string; count?: number; [key: string]: unknown }
const dataOf = (req: express.Request): Data => req.session as unknown as Data

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.close()
})

function startProcess(store: session.RecordStore, options: session.SessionOptions) {
  const sessions = session({
    secret: 'a secret that is long enough for these tests',
    resave: false,
    saveUninitialized: false,
    hints: false,
    rolling: true,
    cookie: { maxAge: 3_600_000 },
    store,
    user: (data) => (data as unknown as Data).owner,
    onSaveError: 'error',
    ...options,
  })
  const app = express()
  app.use(sessions)
  const get = (path: string, handler: Parameters<typeof caught>[0]) => app.get(path, caught(handler))
  get('/login/:owner', async (req, res) => {
    await req.session.regenerate()
    Object.assign(req.session, { owner: req.params.owner, count: 0 })
    res.send('in')
  })
  get('/logout', async (req, res) => {
    await req.session.destroy()
    res.send('out')
  })
  get('/me', async (req, res) => {
    const { cookie: _, ...data } = dataOf(req)
    res.json({ ...data, flash: await sessions.flash(req).take('info') })
  })
  app.use((req, res, next) => {
    if (!dataOf(req).owner) return void res.status(401).send('nobody')
    setTimeout(next, Math.random() * 10)
  })
  get('/set/:key', (req, res) => {
    dataOf(req)[String(req.params.key)] = true
    res.send('set')
  })
  get('/count', async (req, res) => {
    await sessions.update(req, (data) => void (data as unknown as Data).count!++)
    res.send('counted')
  })
  get('/flash/:text', async (req, res) => {
    await sessions.flash(req).add('info', req.params.text)
    res.send('noted')
  })
  get('/look', (_req, res) => void res.send('seen'))
  get('/renew', async (req, res) => {
    await sessions.renew(req)
    res.send('renewed')
  })
  app.use(((error: Error & { code?: string }, _req, res, _next) => {
    void res.status(500).send(error.code ?? error.stack)
  }) as express.ErrorRequestHandler)
  const server = app.listen(0)
  servers.push(server)
  return { server, sessions }
}

type Process = ReturnType<typeof startProcess>

/** A browser: its cookie is the one that came last. */
class Browser {
  readonly cookies = new Set<string>()
  #cookie = ''
  constructor(readonly anyProcess: () => Process) {}

  async get(path: string, cookie = this.#cookie): Promise<request.Response> {
    const res = await request(this.anyProcess().server).get(path).set('Cookie', cookie)
    const set = res.get('Set-Cookie')?.at(-1)?.split(';')[0]
    if (set) this.cookies.add((this.#cookie = set))
    return res
  }
}

async function live(owner: string, anyProcess: () => Process, renews: boolean, grace: number): Promise<void> {
  const browser = new Browser(anyProcess)
  await browser.get(`/login/${owner}`)
  const keys: string[] = []
  let count = 0
  for (let round = 0; round < ROUNDS; round++) {
    const flash: string[] = []
    const act = async (_: unknown, n: number): Promise<void> => {
      await pause(Math.random() * 25)
      const tag = `tag-${round}-${n}`
      const dice = Math.random()
      const path = dice < 0.35 ? `/set/${tag}` : dice < 0.55 ? '/count' : dice < 0.7 ? `/flash/${tag}` : '/look'
      const { status, text } = await browser.get(path)
      expect(status, `${owner} ${path}: ${text}`).toBe(200)
      if (path.startsWith('/set')) keys.push(tag)
      else if (path === '/count') count++
      else if (path.startsWith('/flash')) flash.push(tag)
    }
    await Promise.all(Array.from({ length: AT_ONCE }, act))
    // Alone: what is under way with the former token counts no more.
    if (renews) expect((await browser.get('/renew')).status).toBe(200)
    if (round % 2) await pause(grace)
    const body = (await browser.get('/me')).body as Data & { flash: string[] }
    expect(body, `${owner} in round ${round}`).toMatchObject({ owner, count })
    expect(Object.keys(body)).toEqual(expect.arrayContaining(keys))
    expect(body.flash.sort()).toEqual(flash.sort())
  }

  const late = ['/set/late', '/look', '/count', '/flash/late'].map(async (path) => {
    await pause(Math.random() * 10)
    return browser.get(path)
  })
  if (Math.random() < 0.5) await browser.get('/logout')
  else await anyProcess().sessions.users.endAll(owner)
  await Promise.all(late)
  for (const cookie of browser.cookies) expect((await browser.get('/me', cookie)).body).not.toHaveProperty('owner')
  expect(await anyProcess().sessions.users.list(owner)).toEqual([])
}

const NEVER_MIND = 10_000
const SHORT = 1_500

type Options = session.SessionOptions & { renewalGrace: number }
const TIMEOUTS: Options = { renewalGrace: SHORT, renewalTimeout: 60, idleTimeout: 60_000 }
const ALL: Options = { renewalGrace: NEVER_MIND, renewalTimeout: 60, hashIds: true, encryption: KEY }

async function visitorsOf(stores: session.RecordStore[], options: Options, count = 16): Promise<void> {
  const processes = stores.map((store) => startProcess(store, options))
  const anyProcess = (): Process => processes[Math.floor(Math.random() * processes.length)] as Process
  const { renewalGrace } = options
  const visitor = async (_: unknown, n: number): Promise<void> => {
    for (let life = 0; life < LIVES; life++) {
      await live(`${n}-${life}`, anyProcess, renewalGrace === NEVER_MIND, renewalGrace === SHORT ? SHORT + 50 : 0)
    }
  }
  await Promise.all(Array.from({ length: count }, visitor))
}

function farStores(count: number): FarStore[] {
  const memory = new session.MemoryStore()
  return Array.from({ length: count }, () => new FarStore(memory))
}

describe('of many requests at once, what was acknowledged is there, once, until the end, and nothing is after it', () => {
  test.each([
    ['timeouts', TIMEOUTS],
    ['all of it', ALL],
  ])('on a far store, two processes, few visitors, %s', (_, options) => visitorsOf(farStores(2), options, 4))

  describe('with more visitors', { tags: ['slow'] }, () => {
    test.each<[string, number, Options]>([
      ['one process renews', 1, { renewalGrace: NEVER_MIND }],
      ['one process, timeouts', 1, TIMEOUTS],
      ['one process, all of it', 1, ALL],
      ['two processes, timeouts', 2, TIMEOUTS],
      ['two processes, all of it', 2, ALL],
    ])('on a far store, %s', (_, count, options) => visitorsOf(farStores(count), options))

    onEachStore((open) => {
      // Real databases wait for the disk at each of some thousand writes.
      test('two processes, all of it', { timeout: 120_000 }, async () => {
        const place = newPlace()
        await visitorsOf([open(place), open(place)], ALL)
      })
    })
  })
})
