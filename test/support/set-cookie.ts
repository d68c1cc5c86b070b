import type { OutgoingHttpHeaders } from 'node:http'
import signature = require('cookie-signature')

/** A session cookie for the Cookie header, signed as express-session signs it. */
export function signedCookie(id: string, secret: string, name = 'connect.sid'): string {
  return `${name}=${encodeURIComponent('s:' + signature.sign(id, secret))}`
}

/** The lines of the Set-Cookie header, of one cookie where a name is given. */
export function setCookies(headers: OutgoingHttpHeaders, name?: string): string[] {
  const lines = ([] as string[]).concat(headers['set-cookie'] ?? [])
  return name === undefined ? lines : lines.filter((line) => line.startsWith(name + '='))
}

/** What a browser sends back of the cookies it was given. */
export function cookieHeader(headers: OutgoingHttpHeaders): string {
  return setCookies(headers)
    .map((line) => line.split(';', 1)[0])
    .join('; ')
}

/** The ID in a Set-Cookie line or in a Cookie header. */
export function idIn(cookie: string): string {
  const value = decodeURIComponent(cookie.slice(cookie.indexOf('=') + 1).split(';', 1)[0] as string)
  return value.slice(2, value.lastIndexOf('.'))
}
