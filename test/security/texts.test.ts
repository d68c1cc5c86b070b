import createDebug from 'debug'
import express, { type ErrorRequestHandler } from 'express'
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import session from '../../src'
import { OPTIONS, type AnySession } from '../faults/fault'
import { caught, settled } from '../support/app'
import { visitAndSettle, type Jar } from '../support/browser'
import { newPlace, onEachStore } from '../support/each-store'

/** What is in sessions and in queries, and never in a text. */
const MARK = 'marked-3f9c2a7d51'

/** Whatever somebody could read in a log. */
const texts: string[] = []
const note = (what: unknown): void => {
  const error = what as Partial<Error & { code: string }>
  texts.push(what instanceof Error ? `${error.stack} ${error.code} ${JSON.stringify(what)}` : String(what))
  if (what instanceof Error && what.cause !== undefined) note(what.cause)
}
const warned = (warning: Error): void => note(warning)
const { log } = createDebug
beforeAll(() => {
  process.on('warning', warned)
  for (const method of ['log', 'warn', 'error', 'info', 'debug'] as const) {
    vi.spyOn(console, method).mockImplementation((...args) => args.forEach(note))
  }
  createDebug.enable('express-session')
  createDebug.log = (...args: unknown[]) => args.forEach(note)
})
afterAll(() => {
  process.off('warning', warned)
  createDebug.disable()
  createDebug.log = log
  vi.restoreAllMocks()
})
beforeEach(() => void texts.splice(0))

const METHODS = ['read', 'write', 'renew', 'remove', 'link', 'unlink', 'linked'] as const
// Keys are named by the error of what cannot be stored.
let deep: object = { total: 1n }
for (let n = 0; n < 6000; n++) deep = { part: deep, mark: MARK }

/** What goes wrong in a request, or is told of one. */
const requests: Record<
  string,
  (req: express.Request & { session: AnySession }, sessions: session.Sessions) => unknown
> = {
  'changes the session': (req) => (req.session['n'] = MARK),
  'stores what JSON cannot hold': (req) => (req.session['deep'] = deep),
  'stores values that change': (req) => (req.session['at'] = new Date()),
  'stores very much': (req) => (req.session['much'] = MARK.repeat(5000)),
  'changes a new session too late': async (req) => {
    await req.session.regenerate()
    req.res?.write('a part')
    req.session['late'] = MARK
  },
  'renews and regenerates': async (req, sessions) => {
    await sessions.renew(req)
    await req.session.regenerate()
  },
  'destroys, and saves': async (req) => {
    const { session } = req
    await session.destroy()
    await session.save()
  },
  'reloads what is gone': async (req, sessions) => {
    await sessions.destroy(req.sessionID)
    await req.session?.reload()
    await sessions.flash(req).add('note', MARK)
  },
  'logs in, one too many': (req, sessions) => sessions.login(req, { user: MARK } as never),
  'updates in an update': (req, sessions) => sessions.update(req, () => sessions.update(req, () => undefined)),
  'updates what others keep changing': (req, sessions) =>
    sessions.update(req.sessionID, () => Promise.reject(new Error('no'))),
  'gives no user': (req) => (req.session['user'] = { [MARK]: MARK }),
  'ends all, of nobody': (req, sessions) => sessions.users.endAll({ [MARK]: req.sessionID } as never),
  'replaces the session': (req) => Object.assign(req, { session: { [MARK]: MARK } }),
  'gives its cookie a domain that is none': (req) => (req.session.cookie.domain = 'a.com:3000'),
}

onEachStore((open) => {
  test.each([undefined, ...METHODS])(
    'no whole ID, nothing of a session and no query is in any text, while %s fails',
    { timeout: 120_000 },
    async (failing) => {
      const store = open(newPlace())
      const secrets = new Set<string>([MARK])
      const state = { fails: false }
      if (failing) {
        const good = (store[failing] as (...args: unknown[]) => unknown).bind(store)
        Object.assign(store, {
          [failing]: (...args: unknown[]) =>
            state.fails ? Promise.reject(new Error('the store is away')) : good(...args),
        })
      }
      const sessions = session({
        ...OPTIONS,
        store,
        hints: true,
        cookie: { maxAge: 600_000 },
        idleTimeout: 600_000,
        renewalTimeout: 600_000,
        user: (data) => (data as AnySession)['user'] as string,
        maxSessionsPerUser: 1,
        onSessionLimit: 'refuse',
      })
      const app = express()
      app.use(sessions)
      app.get('/start', (req, res) => {
        ;(req.session as AnySession)['n'] = MARK
        secrets.add(req.sessionID)
        res.end()
      })
      for (const [name, handler] of Object.entries(requests)) {
        app.get(
          `/${encodeURIComponent(name)}`,
          caught(async (req, res) => {
            secrets.add(req.sessionID)
            await handler(req as never, sessions)
            if (req.session) secrets.add(req.sessionID)
            res.end()
          }),
        )
      }
      app.use(((error, _req, res, _next) => {
        note(error)
        if (!res.writableEnded) res.end()
      }) as ErrorRequestHandler)
      for (const name of Object.keys(requests)) {
        const jar: Jar = {}
        await visitAndSettle(app, `/start?token=${MARK}`, jar)
        state.fails = true
        await visitAndSettle(app, `/${encodeURIComponent(name)}?token=${MARK}`, jar)
        state.fails = false
        for (const part of decodeURIComponent(jar.cookie ?? '').split(/[=:~.;]/))
          if (part.length > 20) secrets.add(part)
      }
      await settled()

      expect(texts.length).toBeGreaterThan(20)
      for (const text of texts) {
        for (const secret of secrets) expect(text).not.toContain(secret)
        expect(text.split('\n    at ', 1)[0]!.length).toBeLessThan(1000)
      }
    },
  )

  test('nor of a record that is none', async () => {
    const store = open(newPlace())
    const id = 'an-id-that-nobody-may-read-0123456789'
    const bad = [
      '{"cookie":{},"sessile',
      `{"${MARK}":1}`,
      `{"cookie":{"sessile":"${MARK}"}}`,
      `"${MARK}"`,
      `[{"${MARK}"`,
    ]
    const sessions = session({ ...OPTIONS, store, hints: true })
    for (const text of bad) {
      try {
        await store.write(id, text, Date.now() + 60_000, 'always')
      } catch (error) {
        // A column of JSON refuses what is none.
        if ((error as { code?: string }).code === '22P02') continue
        throw error
      }
      for (const work of [() => sessions.get(id), () => sessions.update(id, () => undefined), () => store.get(id)]) {
        await Promise.resolve(work()).catch(note)
      }
    }
    expect(texts.length).toBeGreaterThan(3)
    for (const text of texts) for (const secret of [MARK, id]) expect(text).not.toContain(secret)
  })
})
