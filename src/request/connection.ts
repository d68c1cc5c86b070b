import type { IncomingMessage } from 'node:http'
import parseurl = require('parseurl')

/**
 * Whether the client's connection is encrypted: by the socket; else by the header `X-Forwarded-Proto` when the proxy is
 * trusted (`true`), or by Express's `req.secure` when nothing is said (`undefined`).
 */
export function isSecure(req: IncomingMessage, trustProxy: boolean | undefined): boolean {
  const { socket, connection } = req as unknown as Record<'socket' | 'connection', { encrypted?: boolean } | undefined>
  if ((socket ?? connection)?.encrypted) return true
  if (trustProxy === false) return false
  if (trustProxy !== true) return (req as { secure?: unknown }).secure === true
  const forwarded = req.headers['x-forwarded-proto']
  const nearest = String(forwarded ?? '').split(',', 1)[0] as string
  return nearest.trim().toLowerCase() === 'https'
}

/** Whether the browser sends a cookie of this path with the request (path-match in RFC 6265, section 5.1.4). */
export function isBelow(cookiePath: string, req: IncomingMessage): boolean {
  const url = (req as { originalUrl?: string }).originalUrl ?? req.url ?? '/'
  if (cookiePath === '/' && url.startsWith('/')) return true
  const pathname = pathOf(req)
  return (
    pathname.startsWith(cookiePath) &&
    (pathname.length === cookiePath.length || cookiePath.endsWith('/') || pathname[cookiePath.length] === '/')
  )
}

/** Clients may send anything as the target of a request. What is no URL is below `/` only. */
function pathOf(req: IncomingMessage): string {
  try {
    return parseurl.original(req)?.pathname ?? '/'
  } catch {
    return '/'
  }
}
