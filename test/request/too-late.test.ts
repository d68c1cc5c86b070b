import express, { type Request, type RequestHandler } from 'express'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Store } from '../../src'
import { classicStore, OPTIONS, type AnySession } from '../faults/fault'
import { caught } from '../support/app'
import { visitAndSettle, type Jar } from '../support/browser'

type Factory = typeof import('../../src/index.js')

const warnings: string[] = []
const note = (warning: Error & { code?: string }): void => {
  if (warning.code === 'SESSION_CHANGED_TOO_LATE') warnings.push(warning.message)
}
beforeEach(() => {
  warnings.splice(0)
  process.on('warning', note)
  // Told once in a process: a library that is loaded anew has told nothing.
  vi.resetModules()
})
afterEach(() => void process.off('warning', note))

const stores: Record<string, (session: Factory) => Store> = {
  'a store that answers at once': (session) => new session.MemoryStore(),
  'a store that answers later': (session) => classicStore(session as never),
}
const data = (req: Request): AnySession => req.session

describe.each(Object.keys(stores))('on %s', (name) => {
  async function browser(routes: (sessions: RequestHandler) => Record<string, RequestHandler[]>) {
    const { default: session } = (await import('../../src/index.js')) as { default: Factory }
    const sessions = session({ ...OPTIONS, hints: false, store: stores[name]!(session) })
    const app = express()
    app.use(sessions)
    for (const [path, handlers] of Object.entries(routes(sessions))) app.get(path, ...handlers.map(caught))
    const jar: Jar = {}
    return async (path: string) => (await visitAndSettle(app, path, jar)).body
  }
  const see = [((req, res) => res.send(String(data(req)['message']))) as RequestHandler]

  test('a new session that is first changed when no cookie can be sent is told of, without the query', async () => {
    const visit = await browser(() => ({
      '/stream': [
        (req, res) => {
          res.write('a part, ')
          data(req)['message'] = 'lost'
          res.end('the rest')
        },
      ],
      '/see': see,
    }))
    expect(await visit('/stream?token=secret')).toBe('a part, the rest')
    expect(warnings).toEqual([expect.stringContaining('(GET /stream)')])
    expect(await visit('/see')).toBe('undefined')
  })

  test('but not one that a second pass through the middleware has stored, with its cookie', async () => {
    const visit = await browser((sessions) => ({
      '/login': [(req, res) => res.send((data(req)['user'] = 'ada'))],
      '/logout': [
        (req, _res, next) => void req.session.destroy(next),
        sessions,
        (req, res) => res.send((data(req)['message'] = 'bye')),
      ],
      '/see': see,
    }))
    await visit('/login')
    await visit('/logout')
    expect(await visit('/see')).toBe('bye')
    expect(warnings).toEqual([])
  })
})
