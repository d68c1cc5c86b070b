import cookie = require('cookie')
import { a, aFlag, anything, aString, demandEach, given, show, type Check } from '../base/checks'
import { OptionError, warnOnce } from '../base/errors'
import type { CookieOptions } from '../session/cookie-options'

export const COOKIE_CHECKS: Record<keyof CookieOptions, Check> = {
  maxAge: given(a('a number of ms that leads to a date', (value) => value instanceof Date || isInReach(value))),
  // A number, which is no Date, has always counted as a lifetime.
  expires: given(a('a Date', (value) => value instanceof Date || isInReach(value))),
  path: given(a("a string that begins with '/'", (value) => typeof value === 'string' && value.startsWith('/'))),
  domain: given(aString),
  httpOnly: aFlag,
  secure: (value, option) => (value === 'auto' ? undefined : aFlag(value, option)),
  sameSite: given(
    a('true, false, "lax", "strict", "none" or "auto"', (value) =>
      [true, 'lax', 'strict', 'none', 'auto'].includes(
        typeof value === 'string' ? value.toLowerCase() : (value as boolean),
      ),
    ),
  ),
  partitioned: aFlag,
  priority: given(
    a('"low", "medium" or "high"', (value) => ['low', 'medium', 'high'].includes(String(value).toLowerCase())),
  ),
  signed: anything,
  encode: anything,
}

/** @throws OptionError when no cookie can have this name */
export function checkName(name: string): void {
  if (!canSet(name, {}))
    throw new OptionError(`name option has a character that cookies cannot have; it is ${show(name)}`)
}

/** What the `cookie` package, or the browser by RFC 6265bis, section 4.1.3, would refuse at the first response. */
export function checkCookie(name: string, settings: CookieOptions): void {
  demandEach(settings, COOKIE_CHECKS, 'session()', 'cookie.')
  const { domain, secure, httpOnly } = settings
  const path = settings.path || '/'
  if (!canSet(name, { path })) {
    throw new OptionError(`cookie.path option has a character that cookies cannot have; it is ${show(path)}`)
  }
  if (domain && !canSet(name, { domain })) {
    throw new OptionError(
      `cookie.domain option must be a domain such as "example.com", without scheme and port; it is ${show(domain)}`,
    )
  }
  if (settings.expires instanceof Date && Number.isNaN(settings.expires.getTime())) {
    warnOnce('SESSION_COOKIE', 'cookie.expires option is an invalid Date; no cookie can be set with it', 'expires')
  }
  if (String(settings.sameSite).toLowerCase() === 'none' && !secure) warnOfInsecure("sameSite option 'none'")
  if (settings.partitioned && !secure) warnOfInsecure('partitioned option')
  if (/^__(host|secure)-/i.test(name) && !secure) {
    throw new OptionError(`a cookie named ${name} needs the option cookie.secure: browsers refuse it otherwise`)
  }
  if (/^__host-/i.test(name) && (domain || path !== '/')) {
    throw new OptionError(
      `a cookie named ${name} must have the cookie.path '/' and no cookie.domain: otherwise browsers refuse it`,
    )
  }
  if (/^__host-http-|^__http-/i.test(name) && httpOnly === false) {
    throw new OptionError(`a cookie named ${name} needs the option cookie.httpOnly: browsers refuse it otherwise`)
  }
}

function warnOfInsecure(setting: string): void {
  warnOnce('SESSION_COOKIE', `cookie.${setting} without cookie.secure: browsers refuse such a cookie`, setting)
}

function canSet(name: string, settings: { path?: string; domain?: string }): boolean {
  try {
    return cookie.serialize(name, 'id', settings) !== ''
  } catch {
    return false
  }
}

function isInReach(maxAge: unknown): boolean {
  return typeof maxAge === 'number' && !Number.isNaN(new Date(Date.now() + maxAge).getTime())
}
