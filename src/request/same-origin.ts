import type { IncomingMessage, ServerResponse } from 'node:http'
import { SessionError } from '../base/errors'

/** Requests that change nothing, if the application keeps to RFC 9110, section 9.2.1. */
const SAFE = new Set(['GET', 'HEAD', 'OPTIONS'])

/** The middleware that `sessions.sameOrigin` returns. */
export function refuseOtherOrigins(req: IncomingMessage, _res: ServerResponse, next: (error?: unknown) => void): void {
  const isSafe = SAFE.has(req.method ?? '') && req.headers.upgrade === undefined
  if (isSafe || isOwn(req)) return next()
  const error = new SessionError('ERR_SESSION_CROSS_ORIGIN', 'the request was sent by a page of another origin')
  next(Object.assign(error, { status: 403 }))
}

/**
 * Whether a page of this very origin has sent the request, or nobody's. Browsers say so in `Sec-Fetch-Site`, to HTTPS and
 * localhost; others and before 2023 in `Origin`, or in `Referer`. Who sends none of them is no browser, and sends a cookie
 * only if it means to.
 */
function isOwn({ headers }: IncomingMessage): boolean {
  const site = headers['sec-fetch-site']
  if (site !== undefined) return site === 'same-origin' || site === 'none'
  const from = headers.origin ?? headers.referer
  // The scheme is not compared: behind a proxy that ends TLS, the server does not know its own.
  return from === undefined || (URL.canParse(from) && new URL(from).host === (headers.host ?? headers[':authority']))
}
