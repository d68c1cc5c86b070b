import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Request, RequestHandler } from 'express'
import { OptionError } from '../base/errors'
import { settingsOf } from '../middleware'
import { refuseOtherOrigins } from '../request/same-origin'
import type { Sessions } from '../sessions'
import { Inspected } from './inspected'
import { pageWith } from './inspector-page'

export interface InspectorOptions {
  /**
   * Whether a request may see all sessions and end each. Required with `NODE_ENV=production`. Default: only requests of this
   * machine, asked for by a name of this machine, and through no proxy.
   */
  guard?: ((req: Request) => boolean | Promise<boolean>) | undefined
  /** The most sessions that are shown. Default: 200. */
  limit?: number | undefined
}

/** How long, in ms, changes are collected before they are shown; and how often the store is looked at for those of others. */
const PAUSE = 250
const INTERVAL = 10_000
/** The most pages that are kept up to date. */
const MOST_PAGES = 20

/**
 * A page that shows the sessions of a middleware, live, and can end each: `app.use('/sessions', inspector(sessions))`. For
 * development; it reads up to `limit` records of the store whenever something happens, as long as somebody looks.
 * @param sessions what `session()` returned
 * @throws OptionError when an option cannot be used, and with `NODE_ENV=production` when there is no guard
 * @throws TypeError when the sessions are not sessile's
 */
export function inspector(sessions: Sessions, options: InspectorOptions = {}): RequestHandler {
  const { guard, limit = 200 } = options
  const settings = settingsOf.get(sessions)
  if (!settings) throw new TypeError('inspector takes what session() returned')
  if (guard !== undefined && typeof guard !== 'function') throw new OptionError('guard option must be a function')
  if (!Number.isInteger(limit) || limit < 1) throw new OptionError('limit option must be a whole number of at least 1')
  if (!guard && process.env['NODE_ENV'] === 'production') {
    throw new OptionError('the inspector needs the option guard in production: it shows all sessions, and can end each')
  }
  const pages = new Set<ServerResponse>()
  let timer: NodeJS.Timeout | undefined
  let interval: NodeJS.Timeout | undefined
  const inspected = new Inspected(sessions, settings, limit, () => {
    if (pages.size > 0) timer ??= setTimeout(() => void show(), PAUSE).unref()
  })

  async function show(to: Iterable<ServerResponse> = pages): Promise<void> {
    timer = undefined
    const event = await eventOf(inspected)
    for (const page of to) page.write(event)
  }

  function keepUpToDate(res: ServerResponse): void {
    if (pages.size >= MOST_PAGES) return plain(res, 503, `${MOST_PAGES} pages are open already`)
    // Not to be compressed, as that would hold it back.
    res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store, no-transform' })
    pages.add(res)
    interval ??= setInterval(() => void show(), INTERVAL).unref()
    res.once('close', () => {
      pages.delete(res)
      if (pages.size > 0) return
      clearInterval(interval)
      interval = undefined
    })
    void show([res])
  }

  async function answer(req: Request, res: ServerResponse, next: (error?: unknown) => void): Promise<void> {
    if (!(await (guard ?? isLocal)(req))) return plain(res, 403, guard ? 'not for you' : NOT_LOCAL)
    const [path = '/'] = req.url.split('?', 1)
    const [, handle] = /^\/end\/([\w-]+)$/.exec(path) ?? []
    if (handle !== undefined && req.method === 'POST') {
      return refuseOtherOrigins(req, res, (error) => {
        if (error) return next(error)
        inspected.end(handle).then((isEnded) => plain(res, isEnded ? 204 : 404), next)
      })
    }
    if (req.method !== 'GET' && req.method !== 'HEAD') return next()
    if (path === '/') return sendPage(res)
    return path === '/events' ? keepUpToDate(res) : next()
  }

  return (req, res, next) => {
    answer(req, res, next).catch(next)
  }
}

const NOT_LOCAL =
  'The inspector answers requests of this machine only. For others, as from outside of a container, give it the option guard.'

/** By its name, too: a page of another site may have this machine's address given to its own name. */
function isLocal(req: IncomingMessage): boolean {
  const { forwarded, host = req.headers[':authority'], 'x-forwarded-for': forwardedFor } = req.headers
  if (forwarded !== undefined || forwardedFor !== undefined) return false
  const address = req.socket.remoteAddress ?? ''
  return /^(::1|(::ffff:)?127\.[\d.]+)$/.test(address) && LOCAL_NAME.test(String(host))
}

const LOCAL_NAME = /^(([\w-]+\.)*localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/i

function plain(res: ServerResponse, status: number, text = ''): void {
  res.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8', 'Cache-Control': 'no-store' }).end(text)
}

function sendPage(res: ServerResponse): void {
  const nonce = randomBytes(16).toString('base64')
  const own = `'nonce-${nonce}'`
  res.writeHead(200, {
    'Content-Type': 'text/html; charset=utf-8',
    'Cache-Control': 'no-store',
    'Content-Security-Policy':
      `default-src 'none'; script-src ${own}; style-src ${own}; connect-src 'self'; img-src data:; ` +
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
  })
  res.end(pageWith(nonce))
}

/** What failed is told on the page, which stays as it was. */
async function eventOf(inspected: Inspected): Promise<string> {
  try {
    return `event: sessions\ndata: ${JSON.stringify(await inspected.snapshot())}\n\n`
  } catch (error) {
    return `event: failure\ndata: ${JSON.stringify(String(error))}\n\n`
  }
}
