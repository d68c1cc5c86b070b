import type { Transport } from '../options/options'

const BEARER = /^Bearer +(\S+) *$/i

/**
 * A `transport` for clients that keep no cookies, such as mobile apps: the signed session ID is in the header
 * `Authorization: Bearer …`, of the response that would set a cookie, and of each request after it (RFC 6750).
 */
export function bearer(): Transport {
  return {
    signed: true,
    read: (req) => BEARER.exec(req.headers.authorization ?? '')?.[1],
    write: (_req, res, id) => void res.setHeader('Authorization', `Bearer ${id}`),
  }
}
