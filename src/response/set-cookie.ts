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
  if (isOdd(settings)) toSetCookie(name, '', settings)
  else templateOf(name, settings)
}

/** A Set-Cookie header without its value and expiry: `name=` value `middle` expiry `end`; without an expiry no `end`. */
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
  if (isOdd(settings))
    return cookie.serialize(name, encoded, { ...settings, encode: asItIs } as cookie.CookieSerializeOptions)
  const { middle, end } = templateOf(name, settings)
  const { expires } = settings
  return expires ? `${name}=${encoded}${middle}${utcText(expires)}${end}` : `${name}=${encoded}${middle}`
}

/** Whether it has an expiry that is no time: the `cookie` package says what is wrong with it. */
function isOdd({ expires }: CookieSettings): boolean {
  return Boolean(expires) && !isTime(expires)
}

function templateOf(name: string, settings: CookieSettings): Template {
  if (!template || !fits(template, name, settings)) template = makeTemplate(name, settings)
  return template
}

function asItIs(value: string): string {
  return value
}

function fits(
  known: Template,
  name: string,
  {
    domain,
    expires,
    httpOnly,
    maxAge,
    partitioned,
    path,
    priority,
    sameSite,
    secure,
  }: CookieSettings & { maxAge?: number },
): boolean {
  const settings: CookieSettings & { maxAge?: number } = known.settings
  return (
    known.name === name &&
    Boolean(settings.expires) === Boolean(expires) &&
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
  const expires = settings.expires ? SOME_TIME : undefined
  const whole = cookie.serialize(name, '', { ...settings, expires } as cookie.CookieSerializeOptions)
  const [before = '', end = ''] = whole.split(SOME_TIME.toUTCString())
  return { name, settings, middle: before.slice(name.length + 1), end }
}
