// @module-tag slow
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import express from 'express'
import { createClient } from 'redis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import sessile, { type RecordStore } from '../../src'
import { MovingStore } from '../../src/stores/moving'
import { listen, original, SECRET, type RunningServer } from '../support/app'
import { describeWith, until } from '../support/servers'
import { appOver, between, sessile as run, start, stores, told, type Opened } from './cli'

const VISITORS = 16
/** Sessions that nobody uses meanwhile, so that a move takes long enough to be stopped in the middle of it. */
const QUIET = 1000
const HOUR = 3_600_000

/** A shop over a store; `update` adds one safely, where the library can. */
function shop(library: typeof sessile, store: unknown): Promise<RunningServer> {
  const sessions = library({
    ...{ secret: SECRET, resave: false, saveUninitialized: false },
    ...{ store: store as RecordStore, cookie: { maxAge: HOUR } },
    ...(library === sessile && { hints: false, user: (session: object) => (session as { user?: string }).user }),
  })
  const app = express()
  app.use(sessions)
  app.get('/login/:user', (req: any, res) => {
    Object.assign(req.session, { user: req.params.user, count: 0 })
    res.send('in')
  })
  app.get('/me', (req: any, res) => res.json({ user: req.session.user, count: req.session.count }))
  app.get('/add', async (req: any, res) => {
    await sessions.update(req, (session: any) => void session.count++)
    res.send('added')
  })
  app.get('/logout', (req: any, res, next) =>
    req.session.destroy((error: unknown) => (error ? next(error) : res.send('out'))),
  )
  app.use((error: any, _req: any, res: any, _next: any) => res.status(500).send(String(error.code ?? error)))
  return listen(createServer(app))
}

/** A visitor's cookie, and what has to be true of the session by the answers so far. */
class Visitor {
  count = 0
  isOut = false
  constructor(
    readonly user: string,
    public cookie: string,
  ) {}

  /** A few requests at once, one of which may log out. */
  async visit(at: RunningServer, wrong: string[]): Promise<void> {
    const get = async (path: string) => at.get(path, { cookie: this.cookie })
    if (this.isOut) {
      const { body } = await get('/me')
      if (body !== '{}') wrong.push(`back from the dead: ${this.user} has ${body}`)
      return
    }
    const added = await Promise.all([get('/add'), get('/add'), get('/me')])
    for (const { status, body } of added) {
      if (status !== 200) wrong.push(`${this.user} got ${body}`)
      if (body === 'added') this.count++
    }
    await this.check(at, wrong)
    if (Math.random() < 0.01) {
      const [out] = await Promise.all([get('/logout'), get('/me')])
      if (out.body !== 'out') wrong.push(`${this.user} could not log out: ${out.body}`)
      this.isOut = true
    }
  }

  async check(at: RunningServer, wrong: string[]): Promise<void> {
    const { body } = await at.get('/me', { cookie: this.cookie })
    const { user, count } = JSON.parse(body) as { user?: string; count?: number }
    if (user !== this.user) wrong.push(`logged out: ${this.user}`)
    else if (count !== this.count) wrong.push(`lost: ${this.user} has ${count} of ${this.count}`)
  }
}

async function login(at: RunningServer, user: string): Promise<Visitor> {
  const { headers } = await at.get(`/login/${user}`)
  return new Visitor(user, (headers['set-cookie']?.[0] ?? '').split(';')[0] as string)
}

/** Moves under load, stopped twice, killed once, and begun again, until the old store is empty; visitors go on all the time. */
async function moveUnderLoad(from: Opened, to: Opened, visitors: Visitor[]): Promise<string[]> {
  const at = await shop(sessile, new MovingStore({ from: from.store, to: to.store }))
  const wrong: string[] = []
  const args = ['move', ...between(from, to), '--yes']
  let isOver = false
  const traffic = visitors.map(async (visitor) => {
    while (!isOver) await visitor.visit(at, wrong)
  })
  const stopped = 'sessile: stopped. Nothing is lost: run it again to go on.\n'
  for (const signal of ['SIGINT', 'SIGKILL', 'SIGTERM'] as const) {
    const before = (await to.store.length()) as number
    const moving = start(args)
    await until(async () => ((await to.store.length()) as number) > before + 50)
    moving.process.kill(signal)
    const isKilled = signal === 'SIGKILL'
    expect(await moving.ended).toEqual({ code: isKilled ? null : 130, stdout: '', stderr: isKilled ? '' : stopped })
    expect(await from.store.length()).toBeGreaterThan(0)
  }
  // New visitors come while it goes on.
  const last = run([...args, '--json'])
  const late = await Promise.all(Array.from({ length: 10 }, (_, n) => login(at, `late${visitors.length + n}`)))
  const { code, stdout, stderr } = await last
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(JSON.parse(stdout)).toMatchObject({ moved: expect.any(Number), failed: 0 })
  expect(await from.store.length()).toBe(0)
  isOver = true
  await Promise.all(traffic)
  visitors.push(...late)
  for (const visitor of visitors) await visitor.visit(at, wrong)
  await at.close()
  const alone = await shop(sessile, to.store)
  for (const visitor of visitors) await visitor.visit(alone, wrong)
  await alone.close()
  return wrong
}

describeWith('postgres', 'an app under load is moved', () => {
  const visitors: Visitor[] = []
  const end = Date.now() + 5 * HOUR
  let redis: Opened
  let postgres: Opened

  beforeAll(async () => {
    redis = await stores.redis()
    postgres = await stores.postgres()
  })
  afterAll(() => Promise.all([redis.close(), postgres.close()]))

  async function expectQuietOnes(store: RecordStore): Promise<void> {
    const found = await store.readMany!(Array.from({ length: QUIET }, (_, n) => `quiet-${n}`))
    const isKept = (n: number): boolean => {
      const { text = '{}', expires = 0 } = found[n] ?? {}
      return (JSON.parse(text) as { n?: number }).n === n && Math.abs(expires - end) < 3000
    }
    expect(found.map((_, n) => n).filter((n) => !isKept(n))).toEqual([])
  }

  test("from connect-redis' records to PostgreSQL: 0 logged out, 0 lost, 0 back from the dead", async () => {
    const { RedisStore: ConnectRedis } = createRequire(__filename)('connect-redis') as {
      RedisStore: new (options: object) => unknown
    }
    const client = await createClient().connect()
    const before = await shop(original, new ConnectRedis({ client, prefix: redis.option[1] }))
    for (let n = 0; n < VISITORS; n++) visitors.push(await login(before, `user${n}`))
    await before.close()
    client.destroy()
    const quiet = (n: number): string => JSON.stringify({ cookie: { originalMaxAge: null }, n })
    await Promise.all(
      Array.from({ length: QUIET }, async (_, n) => redis.store.write(`quiet-${n}`, quiet(n), end, 'absent')),
    )
    expect(await redis.store.length()).toBe(VISITORS + QUIET)
    expect(await moveUnderLoad(redis, postgres, visitors)).toEqual([])
    expect(await postgres.store.length()).toBe(QUIET + visitors.filter(({ isOut }) => !isOut).length)
    await expectQuietOnes(postgres.store)
  }, 120_000)

  test('and back', async () => {
    expect(await moveUnderLoad(postgres, redis, visitors)).toEqual([])
    await expectQuietOnes(redis.store)
    for (const { isOut, user } of visitors) {
      // A request that renewed the session while another one logged out may have entered it once more: that counts for nothing.
      const linked = (await redis.store.linked?.(user)) ?? []
      const live = (await redis.store.readMany!(linked)).filter((record) => record !== null)
      expect(live.length).toBe(isOut ? 0 : 1)
    }
  }, 120_000)
})

describe('a move', () => {
  const KEY = 'MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE='
  let from: Opened
  let to: Opened
  beforeAll(async () => {
    from = await stores.sqlite()
    to = await stores.sqlite()
  })
  afterAll(() => Promise.all([from.close(), to.close()]))

  test('only says what it would do, until --yes', async () => {
    const cookie = await appOver(from.store).login('ada')
    const args = ['move', ...between(from, to)]
    expect(await run(args)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^1 sessions of .* would be moved/),
    })
    expect(JSON.parse((await run([...args, '--json'])).stdout)).toEqual({ dryRun: true, sessions: 1 })
    expect([await from.store.length(), await to.store.length()]).toEqual([1, 0])
    expect(await run([...args, '--yes'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('1 sessions were moved.'),
    })
    expect([await from.store.length(), await to.store.length()]).toEqual([0, 1])
    expect(await appOver(to.store).ask('/me', cookie)).toBe('ada')
    // Again, it finds nothing to do.
    expect(await run([...args, '--yes'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('0 sessions were moved.'),
    })
    expect(await to.store.length()).toBe(1)
  })

  test('that has come half the way: the commands look at both stores', async () => {
    const [old, moved] = [appOver(from.store), appOver(to.store)]
    const app = appOver(new MovingStore({ from: from.store, to: to.store }))
    const cookies = [await old.login('gus'), await moved.login('gus'), await old.login('hal'), await app.login('hal')]
    const both = between(from, to)
    const json = async (...args: string[]) => JSON.parse((await run([...args, ...both, '--json'])).stdout)
    const before = ((await from.store.length()) as number) + ((await to.store.length()) as number)
    expect(await json('count')).toEqual({ sessions: before })
    expect(await json('list', '--user', 'gus')).toMatchObject({ total: 2 })
    for (const cookie of cookies) expect(await json('show', cookie)).toMatchObject({ token: 'present' })
    const [, fromTable] = from.option
    const [, toTable] = to.option
    const env = { SESSILE_FROM: from.url, SESSILE_TO: to.url, SESSILE_STORE: '/no/such/file.db' }
    const endUser = ['end-user', 'gus', '--from-table', fromTable, '--to-table', toTable]
    expect((await run(endUser, env)).stdout).toContain('2 would be ended')
    expect(await Promise.all(cookies.map((cookie) => app.ask('/me', cookie)))).toEqual(['gus', 'gus', 'hal', 'hal'])
    expect((await run([...endUser, '--yes'], env)).stdout).toContain('2 ended.')
    expect((await run(['end', cookies[2] as string, ...both, '--yes'])).stdout).toContain('1 ended.')
    const left = ['nobody', 'nobody', 'nobody', 'hal']
    expect(await Promise.all(cookies.map((cookie) => app.ask('/me', cookie)))).toEqual(left)
    expect(await app.sessions.users.endAll('hal')).toBe(1)
    for (const { store } of [from, to]) {
      for (const user of ['gus', 'hal']) expect(await store.linked?.(user)).toEqual([])
    }
    // What is given as an argument goes before the environment.
    expect((await run(['count', ...told(from)], env)).stdout).toBe(`${await from.store.length()} sessions\n`)
  })

  test('from a store to itself is refused, by whatever names it goes', async () => {
    const [, table] = to.option
    const args = ['move', '--from', to.url, '--from-table', table, '--to', `file://${to.url}`, '--to-table', table]
    expect(await run([...args, '--yes'])).toEqual({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining('are the same store'),
    })
    expect(await to.store.length()).toBe(1)
  })

  test('leaves what is encrypted where it is, unless it has the keys, as it could not enter it in the index', async () => {
    const cookie = await appOver(from.store, { encryption: KEY }).login('bob')
    const args = ['move', ...between(from, to), '--yes']
    expect(await run(args)).toMatchObject({ code: 2, stderr: expect.stringContaining('set SESSILE_ENCRYPTION') })
    expect(await appOver(from.store, { encryption: KEY }).ask('/me', cookie)).toBe('bob')
    expect(await run(args, { SESSILE_ENCRYPTION: KEY })).toMatchObject({ code: 0 })
    const moved = appOver(to.store, { encryption: KEY })
    expect(await moved.ask('/me', cookie)).toBe('bob')
    expect(await moved.sessions.users.endAll('bob')).toBe(1)
  })

  test('to a store that cannot be reached moves nothing', async () => {
    await appOver(from.store).login('eve')
    const [, table] = from.option
    const args = ['move', '--from', from.url, '--from-table', table, '--to', 'redis://127.0.0.1:1', '--yes']
    expect(await run(args)).toEqual({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/^sessile: cannot open redis.*\n$/),
    })
    expect((await run(['count', ...told(from)])).stdout).toBe('1 sessions\n')
  })
})
