import type { ServerResponse } from 'node:http'
import cookie = require('cookie')
import createDebug = require('debug')
import { isTime, utcText } from '../base/moments'
import type { CookieData } from '../session/cookie'

type CookieSettings = Partial<CookieData>

const debug = createDebug('express-session')

/** Adds the session cookie, its value encoded already, to the response's Set-Cookie headers. */
export function writeSessionCookie(res: ServerResponse, name: string, encoded: string, settings: CookieSettings): void {
  const header = toSetCookie(name, encoded, settings)
  debug('set-cookie %s', name)
  const others = res.getHeader('Set-Cookie') as string | string[] | undefined
  res.setHeader('Set-Cookie', others === undefined ? [header] : ([] as string[]).concat(others, header))
}

/**
 * Finds out whether a cookie can be sent with these settings, while the answer can still be another one.
 * @throws TypeError that names the setting with which it cannot
 */
export function checkSettings(name: string, settings: CookieSettings): void {
  toSetCookie(name, '', settings)
}

/** A Set-Cookie header without its value and expiry: `name=` value `middle` expiry `end`. */
interface Template {
  readonly name: string
  readonly settings: CookieSettings
  readonly middle: string
  readonly end: string
}

const SOME_TIME = new Date(0)
let template: Template | undefined

/**
 * The header as the `cookie` package makes it. An application's cookies mostly differ in the value and the expiry only, so
 * the rest is kept for the next one.
 */
function toSetCookie(name: string, encoded: string, settings: CookieSettings): string {
  const { expires } = settings
  if (!isTime(expires))
    return cookie.serialize(name, encoded, { ...settings, encode: asItIs } as cookie.CookieSerializeOptions)
  if (!template || !fits(template, name, settings)) template = makeTemplate(name, settings)
  return `${name}=${encoded}${template.middle}${utcText(expires)}${template.end}`
}

function asItIs(value: string): string {
  return value
}

function fits(
  known: Template,
  name: string,
  { domain, httpOnly, maxAge, partitioned, path, priority, sameSite, secure }: CookieSettings & { maxAge?: number },
): boolean {
  const settings: CookieSettings & { maxAge?: number } = known.settings
  return (
    known.name === name &&
    // An application's own `data` accessor may give one.
    settings.maxAge === maxAge &&
    settings.path === path &&
    settings.domain === domain &&
    settings.httpOnly === httpOnly &&
    settings.secure === secure &&
    settings.sameSite === sameSite &&
    settings.partitioned === partitioned &&
    settings.priority === priority
  )
}

function makeTemplate(name: string, settings: CookieSettings): Template {
  const whole = cookie.serialize(name, '', { ...settings, expires: SOME_TIME } as cookie.CookieSerializeOptions)
  const [before = '', end = ''] = whole.split(SOME_TIME.toUTCString())
  return { name, settings, middle: before.slice(name.length + 1), end }
}
