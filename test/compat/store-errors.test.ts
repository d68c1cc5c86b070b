import { describe, expect, test } from 'vitest'
import express, { type NextFunction, type Request, type Response } from 'express'
import sessile from '../../src'
import { classicStore, OPTIONS, record, type AnySession } from '../faults/fault'
import { original, SECRET, settled, type SessionFactory } from '../support/app'
import { exchange } from '../support/exchange'
import { signedCookie } from '../support/set-cookie'

type Handler = (req: Request & { session: AnySession }, done: (error?: unknown) => void) => unknown

const handlers: Record<string, Handler> = {
  reads: (req, done) => done(req.session.user),
  writes: (req, done) => {
    req.session.views = 1
    done()
  },
  saves: (req, done) => req.session.save(done),
  reloads: (req, done) => req.session.reload(done),
  regenerates: (req, done) => req.session.regenerate(done),
  destroys: (req, done) => req.session.destroy(done),
  unsets: (req, done) => {
    delete (req as { session?: unknown }).session
    done()
  },
}

interface Failure {
  readonly method: 'get' | 'set' | 'destroy' | 'touch'
  readonly error?: unknown
  readonly value?: unknown
  /** With any other handler nothing fails, or express-session ends the process. */
  readonly handlers: (keyof typeof handlers)[]
}

const get = (error: unknown, value?: unknown): Failure => ({
  method: 'get',
  error,
  value,
  handlers: ['reads', 'writes'],
})

const failures: Record<string, Failure> = {
  'get fails': get(new Error('no connection')),
  'get fails with ENOENT': get(Object.assign(new Error('no such file'), { code: 'ENOENT' })),
  'get passes undefined': get(undefined),
  'get passes null': get(null, null),
  'get passes false': get(null, false),
  'get passes 0': get(null, 0),
  'get passes an empty string': get(null, ''),
  'get passes a session without a cookie': get(null, {}),
  'get passes a session whose cookie is null': get(null, { cookie: null }),
  'get passes a text': get(null, 'rubbish'),
  'get passes a number': get(null, 42),
  'get passes true': get(null, true),
  'set fails': { method: 'set', error: new Error('full'), handlers: ['reads', 'writes', 'saves', 'regenerates'] },
  'destroy fails': {
    method: 'destroy',
    error: new Error('cannot delete'),
    handlers: ['regenerates', 'destroys', 'unsets'],
  },
  'touch fails': { method: 'touch', error: new Error('cannot touch'), handlers: ['reads', 'writes'] },
}

/** What the client gets, what the handler is told, and of what the application is told besides. */
async function outcome(
  session: SessionFactory,
  failure: Failure,
  handler: string,
  unset: 'keep' | 'destroy',
  cookie: boolean,
) {
  const store = Object.assign(classicStore(session, new Map([['known', record({ user: 'ada' })]])), {
    touch: (_id: string, _data: unknown, callback: () => void) => setImmediate(callback),
  })
  const { method, error, value } = failure
  Object.assign(store, {
    [method](...args: unknown[]) {
      setImmediate(args.at(-1) as (error: unknown, value: unknown) => void, error, value)
    },
  })
  const told: unknown[] = []
  const errors: string[] = []
  const app = express()
  const sessions = session({ ...OPTIONS, store, unset })
  app.use(sessions)
  app.use((req: Request, res: Response) => {
    ;(handlers[handler] as Handler)(req as never, (what) => {
      told.push(what instanceof Error ? what.message : (what ?? 'fine'))
      res.send('done')
    })
  })
  app.use((error: Error, _req: Request, res: Response, _next: NextFunction) => {
    errors.push(error.message.split(' of ')[0] ?? '')
    if (!res.headersSent) res.status(500).send('failed')
  })
  // Nobody waits for a touch here: when it fails, the response has gone, and there is an event.
  if (method === 'touch') sessions.events?.on('storeError', ({ error }) => errors.push((error as Error).message))
  const headers = cookie ? { cookie: signedCookie('known', SECRET) } : {}
  const { status, body } = await exchange(app as never, { headers })
  await settled()
  return { status, body, told, errors }
}

describe.each(Object.entries(failures))('%s', (_name, failure) => {
  test.each(failure.handlers)('as on express-session for a handler that %s', async (handler) => {
    for (const unset of ['keep', 'destroy'] as const) {
      for (const cookie of [true, false]) {
        const expected = await outcome(original, failure, handler, unset, cookie)
        const got = await outcome(sessile, failure, handler, unset, cookie)
        expect(got, `unset ${unset}, ${cookie ? 'with' : 'without'} a cookie`).toEqual(expected)
      }
    }
  })
})
