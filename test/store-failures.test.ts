import express, { type ErrorRequestHandler, type Request } from 'express'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import session from '../src'
import { SECRET, settled } from './support/app'
import { visit, type Jar } from './support/browser'
import type { AnySession } from './faults/fault'

/** A store that answers later, and fails at one call. */
class FailingStore extends session.RecordStore {
  readonly #memory = new session.MemoryStore()
  readonly failures: Error[] = []
  /** How many calls are still to come before the one that fails. */
  callsLeft = Infinity

  async #answer<T>(method: string, work: () => T): Promise<T> {
    const fails = this.callsLeft-- === 0
    await settled(2)
    if (!fails) return work()
    const failure = new Error(`${method} failed`)
    this.failures.push(failure)
    throw failure
  }

  read = (id: string) => this.#answer('read', () => this.#memory.read(id))
  write = (...args: Parameters<session.MemoryStore['write']>) =>
    this.#answer('write', () => this.#memory.write(...args))
  renew = (id: string, expires: number) => this.#answer('renew', () => this.#memory.renew(id, expires))
  remove = (...args: Parameters<session.MemoryStore['remove']>) =>
    this.#answer('remove', () => this.#memory.remove(...args))
  scan = () => this.#answer('scan', () => this.#memory.scan(null, 100))
  override link = (user: string, id: string) => this.#answer('link', () => this.#memory.link(user, id))
  override unlink = (user: string, id: string) => this.#answer('unlink', () => this.#memory.unlink(user, id))
  override linked = (user: string) => this.#answer('linked', () => this.#memory.linked(user))
}

const OPERATIONS: Record<string, (req: Request & { session: AnySession }, sessions: session.Sessions) => unknown> = {
  change: (req) => (req.session.views = 1),
  login: (req) => (req.session.user = 'bob'),
  save: (req) => req.session.save(),
  reload: (req) => req.session.reload(),
  regenerate: (req) => req.session.regenerate(),
  destroy: (req) => req.session.destroy(),
  renew: (req, sessions) => sessions.renew(req),
  update: (req, sessions) => sessions.update(req, (data) => void ((data as AnySession).updated = true)),
  flash: (req, sessions) => sessions.flash(req).add('note', 'hello'),
}

const request = fc.record({
  steps: fc.array(fc.record({ name: fc.constantFrom(...Object.keys(OPERATIONS)), isAwaited: fc.boolean() }), {
    minLength: 1,
    maxLength: 3,
  }),
  failingCall: fc.nat(8),
  isLoggedIn: fc.boolean(),
  streams: fc.boolean(),
  hasListener: fc.boolean(),
  options: fc.record({
    rolling: fc.boolean(),
    renewalTimeout: fc.constantFrom(0, 60_000),
    user: fc.constantFrom(undefined, (data: unknown) => (data as AnySession).user as string | undefined),
  }),
})

async function letStoresFail(requests: number): Promise<void> {
  let failures = 0
  await fc.assert(
    fc.asyncProperty(request, async ({ steps, failingCall, isLoggedIn, streams, hasListener, options }) => {
      const store = new FailingStore()
      const sessions = session({
        ...options,
        secret: SECRET,
        store,
        resave: false,
        saveUninitialized: false,
        hints: false,
      })
      const told: unknown[] = []
      if (hasListener) sessions.events.on('storeError', ({ error }) => told.push(error))
      const app = express()
      app.use(sessions)
      app.get('/login', (req, res) => {
        ;(req.session as AnySession).user = 'ada'
        res.end()
      })
      app.get('/', async (req, res) => {
        if (streams) res.write('a part')
        for (const { name, isAwaited } of steps) {
          const done = new Promise((resolve) => resolve(OPERATIONS[name]?.(req as never, sessions)))
          const noted = done.catch((error: unknown) => told.push(error))
          if (isAwaited) await noted
        }
        res.end()
      })
      app.use(((error, _req, res, _next) => {
        told.push(error)
        if (!res.writableEnded) res.status(500).end()
      }) as ErrorRequestHandler)

      const jar: Jar = {}
      if (isLoggedIn) await visit(app, '/login', jar)
      store.callsLeft = failingCall
      await visit(app, '/', jar)
      await settled()
      failures += store.failures.length
      expect(told.filter((error) => store.failures.includes(error as Error))).toEqual(store.failures)
    }),
    { seed: 1, numRuns: requests },
  )
  expect(failures).toBeGreaterThan(requests / 10)
}

describe('whatever a request does, and whichever call of the store fails: the application is told of it, and once', () => {
  test('300 requests', { timeout: 60_000 }, () => letStoresFail(300))
  test('1000 requests', { tags: ['slow'], timeout: 300_000 }, () => letStoresFail(1000))
  test('20,000 requests', { tags: ['long'], timeout: 600_000 }, () => letStoresFail(20_000))
})
