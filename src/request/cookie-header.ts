import { createSecretKey, type KeyObject } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import cookie = require('cookie')
import signature = require('cookie-signature')
import createDebug = require('debug')
import depd = require('depd')
import type { CookieData } from '../session/cookie'
import { isTime, utcText } from '../base/moments'
import type { Secret } from '../options/options'

type CookieSettings = Partial<CookieData>

const debug = createDebug('express-session')
const deprecate = depd('express-session')

/** The session ID that a request brought. */
export interface PresentedId {
  readonly id: string
  /** True when an older secret of the list signed it, so that the cookie is to be sent anew. */
  readonly oldSecret: boolean
  /** The signed ID as it goes into a header, where the first secret signed it. */
  readonly encoded?: string
  /** True when the application presents it, not a client: it may be an ID that the session had before. */
  readonly byApplication?: true
}

/** The length of the end of a signed value: a dot, and 256 bits in base64. A value that ends otherwise costs no HMAC. */
const SIGNATURE_LENGTH = 1 + 43

/** How many verified cookies a generation remembers: what a busy process sees in some minutes, in at most 4 MB. */
const REMEMBERED = 5000

/** Signs session IDs with the first secret and verifies them with all: the format is cookie-signature's, after `s:`. */
export class Signer {
  readonly #keys: KeyObject[]
  /**
   * Cookies that were verified, as they were sent, so that a returning visitor costs no HMAC. Only a whole cookie with a
   * valid signature is ever found here, and a look-up compares hashes that are seeded anew in each process, so its timing
   * tells nothing about parts of a signature. Two generations bound the memory.
   */
  #recent = new Map<string, PresentedId>()
  #older = new Map<string, PresentedId>()

  constructor(secrets: readonly Secret[]) {
    this.#keys = secrets.map(toKey)
  }

  /** The signed ID as it goes into a header. */
  sign(id: string): string {
    return encodeURIComponent('s:' + signature.sign(id, this.#keys[0] as KeyObject))
  }

  /** The ID in a cookie's value as it was sent, or `undefined` when none of the secrets signed it. */
  verifySent(sent: string): PresentedId | undefined {
    const known = this.#recent.get(sent) ?? this.#older.get(sent)
    if (known) return known
    const verified = this.verify(decode(sent))
    if (!verified) return undefined
    if (this.#recent.size >= REMEMBERED) {
      this.#older = this.#recent
      this.#recent = new Map()
    }
    this.#recent.set(detach(sent), verified)
    return verified
  }

  /** The same for a value that was decoded already. */
  verify(value: string): PresentedId | undefined {
    if (!value.startsWith('s:')) {
      debug('cookie is not signed')
      return undefined
    }
    const signed = value.slice(2)
    if (signed.length - signed.lastIndexOf('.') !== SIGNATURE_LENGTH) {
      debug('cookie has no valid signature')
      return undefined
    }
    for (let i = 0; i < this.#keys.length; i++) {
      const id = signature.unsign(signed, this.#keys[i] as KeyObject)
      if (!id) continue
      if (i > 0) return { id: detach(id), oldSecret: true }
      return { id: detach(id), oldSecret: false, encoded: encodeURIComponent(value) }
    }
    debug('cookie has no valid signature')
    return undefined
  }
}

function toKey(secret: Secret): KeyObject {
  if (typeof secret === 'string') return createSecretKey(secret, 'utf8')
  if ('export' in secret) return secret
  return createSecretKey(ArrayBuffer.isView(secret) ? secret : Buffer.from(secret))
}

/** A copy that does not keep the whole header in memory, as a substring does. */
function detach(text: string): string {
  return Buffer.from(text).toString()
}

/** A cookie's value as the `cookie` package reads it: without quotes, and percent-decoded where that is possible. */
function decode(sent: string): string {
  const value = sent.startsWith('"') ? sent.slice(1, -1) : sent
  if (!value.includes('%')) return value
  try {
    return decodeURIComponent(value)
  } catch {
    return value
  }
}

interface ParsedCookies {
  cookies?: Record<string, unknown>
  signedCookies?: Record<string, unknown>
}

/**
 * The session ID of a request: of all cookies of this name the first with a valid signature, as anyone who can set a
 * cookie on a sibling domain can put one in front. Cookies that only `cookie-parser` has seen count too, deprecated.
 */
export function readSessionId(req: IncomingMessage, name: string, signer: Signer): PresentedId | undefined {
  const header = req.headers.cookie
  const presented = header === undefined ? undefined : findSigned(header, name, signer)
  if (presented) return presented

  const { signedCookies, cookies } = req as ParsedCookies
  const unsigned = signedCookies?.[name]
  if (typeof unsigned === 'string' && unsigned !== '') {
    deprecate('cookie should be available in req.headers.cookie')
    return { id: unsigned, oldSecret: false }
  }
  const value = cookies?.[name]
  const verified = typeof value === 'string' ? signer.verify(value) : undefined
  if (verified) deprecate('cookie should be available in req.headers.cookie')
  return verified
}

const SEMICOLON = 59
const EQUALS = 61

function findSigned(header: string, name: string, signer: Signer): PresentedId | undefined {
  for (let at = header.indexOf(name); at !== -1; at = header.indexOf(name, at + 1)) {
    let before = at - 1
    while (isBlank(header.charCodeAt(before))) before--
    if (before >= 0 && header.charCodeAt(before) !== SEMICOLON) continue
    let equals = at + name.length
    while (isBlank(header.charCodeAt(equals))) equals++
    if (header.charCodeAt(equals) !== EQUALS) continue

    const semicolon = header.indexOf(';', equals)
    const sent = header.slice(equals + 1, semicolon === -1 ? undefined : semicolon).trim()
    const verified = sent === '' ? undefined : signer.verifySent(sent)
    if (verified) return verified
  }
  return undefined
}

function isBlank(code: number): boolean {
  return code === 32 || code === 9
}

/** Adds the session cookie, its value encoded already, to the response's Set-Cookie headers. */
export function writeSessionCookie(res: ServerResponse, name: string, encoded: string, settings: CookieSettings): void {
  const header = toSetCookie(name, encoded, settings)
  debug('set-cookie %s', name)
  const others = res.getHeader('Set-Cookie') as string | string[] | undefined
  res.setHeader('Set-Cookie', others === undefined ? [header] : ([] as string[]).concat(others, header))
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
