import { spawn } from 'node:child_process'
import express, { type NextFunction, type Request, type RequestHandler, type Response } from 'express'
import { describe, expect, test } from 'vitest'
import sessile from '../../src'
import type { SessionData, SessionOptions } from '../../src'
import { caught, original, SECRET, stop, type SessionFactory } from '../support/app'

/** A session whose keys a test makes up. */
export type AnySession = Request['session'] & { [key: string]: any }
export type Handler = (req: Request & { session: AnySession }, res: Response, next: NextFunction) => unknown

interface Fault<T> {
  /** Does what shows the fault, and tells what came of it. */
  readonly scenario: (session: SessionFactory) => Promise<T>
  /** What comes of it on express-session 1.19 … */
  readonly original: NoInfer<T>
  /** … and here. */
  readonly sessile: NoInfer<T>
}

/** A fault of express-session: it is shown to be there, and not to be here. */
export function fault<T>(number: number, title: string, fault: Fault<T>): void {
  describe(`fault ${number}: ${title}`, () => {
    test('express-session 1.19 has it', async () => expect(await fault.scenario(original)).toEqual(fault.original))
    test('sessile does not', async () => expect(await fault.scenario(sessile)).toEqual(fault.sessile))
  })
}

export const OPTIONS = { secret: SECRET, resave: false, saveUninitialized: false } satisfies SessionOptions

/** An Express app with sessions and one handler, which answers errors with `500` and their message. */
export function appWith(session: SessionFactory, options: SessionOptions, handler: Handler): express.Express {
  return appOf([session({ ...OPTIONS, ...options })], handler)
}

/** The same for sessile alone, with what else its middleware can do. */
export function appWithSessions(
  options: SessionOptions,
  handler: Handler,
): { app: express.Express; sessions: sessile.Sessions } {
  const sessions = sessile({ ...OPTIONS, hints: false, ...options })
  return { app: appOf([sessions], handler), sessions }
}

export function appOf(middlewares: RequestHandler[], handler: Handler): express.Express {
  const app = express()
  for (const middleware of middlewares) app.use(middleware)
  app.use(caught(handler as RequestHandler))
  app.use((error: Error, _req: Request, res: Response, _next: NextFunction) => {
    if (!res.headersSent) res.status(500).send(error.message)
  })
  return app
}

/** A handler that changes the session, and then stops until the test lets it answer. */
export function slowChange() {
  const { reached, goOn } = stop()
  const handler: Handler = async (req, res) => {
    req.session.seen = true
    reached.open()
    await goOn.opened
    res.send('done')
  }
  return { reached, goOn, handler }
}

type Callback<T> = (error?: unknown, value?: T) => void

/** A classic store over a map, of which a scenario replaces what it needs; `calls` are the names of what was called. */
export function classicStore(session: SessionFactory, records = new Map<string, string>()) {
  class ClassicStore extends session.Store {
    readonly records = records
    readonly calls: string[] = []
    get(id: string, callback: Callback<any>): unknown {
      this.calls.push('get')
      const text = records.get(id)
      return setImmediate(callback, null, text && (JSON.parse(text) as SessionData))
    }
    set(id: string, data: SessionData, callback?: Callback<never>): unknown {
      this.calls.push('set')
      records.set(id, JSON.stringify(data))
      return callback && setImmediate(callback)
    }
    destroy(id: string, callback?: Callback<never>): unknown {
      this.calls.push('destroy')
      records.delete(id)
      return callback && setImmediate(callback)
    }
  }
  return new ClassicStore()
}

/** The record of a session with this data, as stores keep it. */
export function record(data: object, cookie: object = {}): string {
  return JSON.stringify({
    cookie: { originalMaxAge: null, expires: null, httpOnly: true, path: '/', ...cookie },
    ...data,
  })
}

/** Runs a script, in which `session` is the factory, in a process of its own: what it printed, and `dies` if it did. */
export function inProcess(session: SessionFactory, script: string): Promise<string> {
  const implementation = session === original ? 'express-session' : process.cwd()
  const child = spawn(
    process.execPath,
    ['-e', `const session = require(${JSON.stringify(implementation)});${script}`],
    { stdio: ['ignore', 'pipe', 'ignore'], env: { ...process.env, NO_DEPRECATION: 'express-session' } },
  )
  return new Promise((resolve) => {
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
    child.on('close', (code) => resolve(code === 0 ? output.trim() : 'dies'))
  })
}
