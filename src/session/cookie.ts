import cookie = require('cookie')
import depd = require('depd')
import { hiddenSlot } from '../base/hidden-slot'
import { isoText, isTime } from '../base/moments'
import type { CookieOptions } from './cookie-options'
import { NOTES, notesOf, setNotes, type SessionNotes } from './notes'

const deprecate = depd('express-session')

/** The settings of a session cookie as they are stored with the session and given to the Set-Cookie header. */
export interface CookieData {
  originalMaxAge: number | null | undefined
  partitioned: boolean | undefined
  priority: 'low' | 'medium' | 'high' | undefined
  expires: Date | false | null | undefined
  secure: boolean | 'auto' | undefined
  httpOnly: boolean | undefined
  domain: string | undefined
  path: string | undefined
  sameSite: boolean | 'lax' | 'strict' | 'none' | 'auto' | undefined
}

/** Cookies that were handed to a classic store, which makes the JSON itself: theirs has the notes. */
const handed = hiddenSlot<true>()

/** Has the cookie's JSON show the notes from now on, as the classic store that gets it makes a text of it. */
export function handToStore(cookie: object): void {
  if (notesOf(cookie)) handed.set(cookie, true)
}

function withNotes<T extends object>(cookie: object, data: T): T & { [NOTES]?: SessionNotes } {
  const noted = notesOf(cookie)
  return noted ? { ...data, [NOTES]: noted } : data
}

/** The cookie of one session: its settings, and when it ends. */
export interface Cookie extends CookieOptions {
  /** The lifetime, in ms, that every request renews; `null` for a cookie that ends with the browser. */
  originalMaxAge: number | null
  /** Ms until the cookie ends. Setting it sets `expires` and the lifetime that later requests renew. */
  maxAge?: number | undefined
  /** When the cookie ends; `null` or `false` for the end of the browser session. Setting it sets `originalMaxAge`. */
  expires?: Date | null | undefined
  /** The option `'auto'` has become `'none'` or `'lax'`, by the connection of the request that made the session. */
  sameSite?: boolean | 'lax' | 'strict' | 'none' | undefined
  /** What is stored and sent. */
  readonly data: CookieData
  /** The text of a Set-Cookie header with this cookie's settings. */
  serialize(name: string, value: string): string
  /** What `JSON.stringify` stores. */
  toJSON(): CookieData
}

export interface CookieConstructor {
  new (options?: CookieOptions): Cookie
  (this: unknown, options?: CookieOptions): void
  readonly prototype: Cookie
}

/** The fields behind the accessors. */
type Fields = Omit<Cookie, 'data' | 'maxAge' | 'expires'> & {
  _expires: Date | false | null | undefined
  maxAge: unknown
  expires: Date | false | null | undefined
}

/**
 * A session cookie with `path: '/'`, `httpOnly: true` and no expiry unless the options say otherwise.
 * A function and not a class: packages call it on objects of their own.
 * @throws TypeError when the options are no object or `maxAge` is no number
 */
export const Cookie = function Cookie(this: Fields, options?: Record<string, unknown>): void {
  this.path = '/'
  this._expires = null
  this.originalMaxAge = null
  this.httpOnly = true
  if (options) {
    if (typeof options !== 'object') throw new TypeError('argument options must be a object')
    for (const key in options) {
      if (key === NOTES) setNotes(this, options[key] as SessionNotes)
      else if (key !== 'data') (this as unknown as Record<string, unknown>)[key] = options[key]
    }
    if (this.originalMaxAge === undefined || this.originalMaxAge === null) {
      this.originalMaxAge = this.maxAge as number | null
    }
  }
} as unknown as CookieConstructor

Object.defineProperties(Cookie.prototype, {
  expires: {
    configurable: true,
    enumerable: true,
    get(this: Fields) {
      return this._expires
    },
    set(this: Fields, expires: Date | false | null | undefined) {
      this._expires = expires
      this.originalMaxAge = this.maxAge as number | null
    },
  },
  maxAge: {
    configurable: true,
    enumerable: true,
    get(this: Fields) {
      return this._expires instanceof Date ? this._expires.getTime() - Date.now() : this._expires
    },
    set(this: Fields, ms: unknown) {
      if (typeof ms === 'number') {
        const expires = new Date(Date.now() + ms)
        // Found here, and not when the cookie is to be sent: that is too late to answer with an error.
        if (!isTime(expires)) throw new TypeError(`maxAge must be a number of ms that leads to a date; it is ${ms}`)
        this._expires = expires
        this.originalMaxAge = ms
        return
      }
      if (ms && !(ms instanceof Date)) throw new TypeError('maxAge must be a number or Date')
      if (ms) deprecate('maxAge as Date; pass number of milliseconds instead')
      this.expires = ms as Date | false | null | undefined
    },
  },
  data: {
    configurable: true,
    enumerable: true,
    get(this: Fields) {
      return (lastData = {
        originalMaxAge: this.originalMaxAge,
        partitioned: this.partitioned,
        priority: this.priority,
        expires: this._expires,
        secure: this.secure,
        httpOnly: this.httpOnly,
        domain: this.domain,
        path: this.path,
        sameSite: this.sameSite,
      })
    },
  },
  serialize: {
    configurable: true,
    enumerable: true,
    writable: true,
    value(this: Cookie, name: string, value: string): string {
      return cookie.serialize(name, value, this.data as cookie.CookieSerializeOptions)
    },
  },
  toJSON: {
    configurable: true,
    enumerable: true,
    writable: true,
    value(this: Cookie, key?: string): (CookieData & { [NOTES]?: SessionNotes }) | undefined {
      if (this === passedOver && key === 'cookie') return undefined
      return handed.get(this) ? withNotes(this, this.data) : this.data
    },
  },
})

const { toJSON } = Cookie.prototype
let passedOver: unknown
/** What our `data` accessor returned last, to recognise what comes from one that the application has put in its place. */
let lastData: CookieData | undefined

/** The JSON texts of an application's cookies mostly differ in the expiry only, so the rest is kept for the next one. */
let template: { settings: CookieData; before: string; after: string } | undefined
const SOME_TIME = new Date(0)

/** The same text as `JSON.stringify(cookie)`, for most cookies in a tenth of the time. */
export function stringifyCookie(cookie: unknown): string {
  if (!(cookie instanceof Cookie)) return JSON.stringify(plainCookie(cookie))
  if (cookie.toJSON !== toJSON) return JSON.stringify(plainCookie(cookie))
  const { data } = cookie
  if (data !== lastData || !isTime(data.expires)) return JSON.stringify(withNotes(cookie, data))
  if (
    !template ||
    template.settings.originalMaxAge !== data.originalMaxAge ||
    !isSameSettings(template.settings, cookie)
  ) {
    const text = JSON.stringify({ ...data, expires: SOME_TIME })
    const at = text.indexOf(SOME_TIME.toISOString())
    template = { settings: data, before: text.slice(0, at), after: text.slice(at + SOME_TIME.toISOString().length) }
  }
  const text = template.before + isoText(data.expires) + template.after
  const noted = notesOf(cookie)
  return noted ? `${text.slice(0, -1)},"${NOTES}":${JSON.stringify(noted)}}` : text
}

/** What is stored of a cookie of any class. In one that is not ours, `sessile` is no notes but a visitor's data: left out. */
export function plainCookie(cookie: unknown): unknown {
  if (typeof cookie !== 'object' || cookie === null) return cookie
  const { toJSON } = cookie as { toJSON?: () => unknown }
  if (typeof toJSON === 'function') {
    const shown = toJSON.call(cookie)
    return typeof shown === 'object' && shown !== null ? withNotes(cookie, shown) : shown
  }
  const { [NOTES]: _foreign, ...plain } = cookie as Record<string, unknown>
  return withNotes(cookie, plain)
}

/**
 * Serialises a session as if it had no cookie, in a fifth of the time that a replacer function takes. `undefined` when the
 * cookie is not one of ours, or the application has replaced its `toJSON`.
 */
export function stringifyWithout(cookie: unknown, session: object): string | undefined {
  if (!(cookie instanceof Cookie) || cookie.toJSON !== toJSON) return undefined
  passedOver = cookie
  try {
    return JSON.stringify(session)
  } finally {
    passedOver = undefined
  }
}

/** Makes a cookie of its stored settings, ending at `expires`. Other keys than those are not taken: `__proto__` is one. */
export function restoreCookie(stored: object, expires: CookieData['expires'], notes: SessionNotes | undefined): Cookie {
  const cookie = new Cookie() as unknown as Fields
  const data = stored as CookieData
  if ('path' in data) cookie.path = data.path
  if ('httpOnly' in data) cookie.httpOnly = data.httpOnly
  if (data.domain !== undefined) cookie.domain = data.domain
  if (data.secure !== undefined) cookie.secure = data.secure
  if (data.sameSite !== undefined) cookie.sameSite = data.sameSite as Fields['sameSite']
  if (data.partitioned !== undefined) cookie.partitioned = data.partitioned
  if (data.priority !== undefined) cookie.priority = data.priority
  if (expires !== undefined) cookie._expires = expires
  cookie.originalMaxAge = data.originalMaxAge as number | null
  if (notes) setNotes(cookie, notes)
  return cookie as unknown as Cookie
}

/** The settings of a cookie, without its running expiry. */
export type CookieSettings = Omit<CookieData, 'expires'>

export function settingsOf(cookie: Cookie | CookieSettings): CookieSettings {
  const { originalMaxAge, path, domain, httpOnly, secure, sameSite, partitioned, priority } = cookie
  return { originalMaxAge, path, domain, httpOnly, secure, sameSite, partitioned, priority }
}

/** Lifetimes that differ by less than this, in ms, count as the same: an `expires` relative to now never gives one twice. */
const SAME_LIFETIME = 1000

export function isSameSettings(a: Cookie | CookieSettings, b: Cookie | CookieSettings): boolean {
  return (
    isSameLifetime(a.originalMaxAge, b.originalMaxAge) &&
    a.path === b.path &&
    a.domain === b.domain &&
    a.httpOnly === b.httpOnly &&
    a.secure === b.secure &&
    a.sameSite === b.sameSite &&
    a.partitioned === b.partitioned &&
    a.priority === b.priority
  )
}

function isSameLifetime(a: number | null | undefined, b: number | null | undefined): boolean {
  return typeof a === 'number' && typeof b === 'number' ? Math.abs(a - b) < SAME_LIFETIME : (a ?? null) === (b ?? null)
}
