import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import express from 'express'
import pg from 'pg'
import { createClient } from 'redis'
import { afterAll, beforeAll, expect, test } from 'vitest'
import sessile, { type RecordStore } from '../../src'
import { move, MovingStore } from '../../src/stores/moving'
import { PostgresStore } from '../../src/stores/postgres'
import { RedisStore } from '../../src/stores/redis'
import { listen, original, SECRET, type RunningServer } from '../support/app'
import { describeWith } from '../support/servers'

const VISITORS = 200
const name = 'm' + randomBytes(6).toString('hex')

/** A shop over a store; `update` adds one safely, where the library can. */
function shop(library: typeof sessile, store: unknown): Promise<RunningServer> {
  const sessions = library({
    ...{ secret: SECRET, resave: false, saveUninitialized: false },
    ...{ store: store as RecordStore, cookie: { maxAge: 3_600_000 } },
    ...(library === sessile && { user: (session: object) => (session as { user?: string }).user }),
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

/** Moves under load, stopping and going on four times, until the old store is empty; visitors go on all the time. */
async function moveUnderLoad(from: RecordStore, to: RecordStore, visitors: Visitor[]): Promise<string[]> {
  const at = await shop(sessile, new MovingStore({ from, to }))
  const wrong: string[] = []
  let isOver = false
  const traffic = visitors.map(async (visitor) => {
    while (!isOver) await visitor.visit(at, wrong)
  })
  for (let stops = 1; stops <= 4; stops++) {
    const stop = new AbortController()
    const onProgress = (looked: number): void => void (looked > 0 && stop.abort())
    await expect(move(from, to, { signal: stop.signal, onProgress })).rejects.toThrow('aborted')
  }
  // New visitors come while it goes on.
  const late = await Promise.all(Array.from({ length: 20 }, (_, n) => login(at, `late${n}`)))
  const { failed } = await move(from, to, { onFailure: (_id, error) => wrong.push(`not moved: ${String(error)}`) })
  expect(failed).toBe(0)
  expect(await from.length()).toBe(0)
  isOver = true
  await Promise.all(traffic)
  visitors.push(...late)
  for (const visitor of visitors) await visitor.visit(at, wrong)
  await at.close()
  const alone = await shop(sessile, to)
  for (const visitor of visitors) await visitor.visit(alone, wrong)
  await alone.close()
  return wrong
}

async function login(at: RunningServer, user: string): Promise<Visitor> {
  const { headers } = await at.get(`/login/${user}`)
  return new Visitor(user, (headers['set-cookie']?.[0] ?? '').split(';')[0] as string)
}

describeWith('postgres', 'an app under load', () => {
  const pool = new pg.Pool({ host: '127.0.0.1', user: 'postgres', database: 'test' })
  const client = createClient()
  const redis = new RedisStore({ client, prefix: `${name}:` })
  const postgres = new PostgresStore({ pool, tableName: name, createTableIfMissing: true, pruneSessionInterval: false })
  const visitors: Visitor[] = []

  beforeAll(async () => void (await client.connect()))
  afterAll(async () => {
    await redis.clear()
    client.destroy()
    await pool.query(`DROP TABLE IF EXISTS ${name}, ${name}_user`)
    await pool.end()
  })

  test("from connect-redis' records to PostgreSQL: 0 logged out, 0 lost, 0 back from the dead", async () => {
    const { RedisStore: ConnectRedis } = createRequire(__filename)('connect-redis') as {
      RedisStore: new (options: object) => unknown
    }
    const before = await shop(original, new ConnectRedis({ client, prefix: `${name}:` }))
    for (let n = 0; n < VISITORS; n++) visitors.push(await login(before, `user${n}`))
    await before.close()
    expect(await redis.count()).toBe(VISITORS)
    expect(await moveUnderLoad(redis, postgres, visitors)).toEqual([])
    expect(await postgres.count()).toBe(visitors.filter(({ isOut }) => !isOut).length)
  }, 300_000)

  test('and back', async () => {
    expect(await moveUnderLoad(postgres, redis, visitors)).toEqual([])
    const { isOut, user } = visitors[0] as Visitor
    expect((await redis.linked(user)).length).toBe(isOut ? 0 : 1)
  }, 300_000)
})
