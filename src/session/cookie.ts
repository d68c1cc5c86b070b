import cookie = require('cookie')
import depd = require('depd')
import { hiddenSlot } from '../base/hidden-slot'
import { isoText, isTime } from '../base/moments'
import type { CookieOptions } from '../options/options'

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

/**
 * What sessile itself notes of a session. It is stored in the cookie's JSON, under a key that express-session ignores, as
 * all names on the session belong to the application.
 */
export interface SessionNotes {
  /** When the session was made, was last given a new ID, and was last seen, in ms since the epoch. */
  created?: number
  renewed?: number
  seen?: number
  /** The user it belongs to; since when; its handle in that user's list; and what the option `describe` recorded. */
  user?: string
  login?: number
  handle?: string
  about?: unknown
  /** Messages for the next request. */
  flash?: { [type: string]: unknown[] }
  /** In a forwarding note: the session's new ID, sealed with this one, and since when it has it, in ms since the epoch. */
  movedTo?: string
  movedAt?: number
}

const NOTES = 'sessile'
const notes = hiddenSlot<SessionNotes>()

export function notesOf(cookie: object): SessionNotes | undefined {
  return notes.get(cookie)
}

export function setNotes(cookie: object, value: SessionNotes): void {
  notes.set(cookie, value)
}

/** The notes in the stored JSON of a cookie. */
export function storedNotes(cookie: object): SessionNotes | undefined {
  return (cookie as { [NOTES]?: SessionNotes })[NOTES]
}

function withNotes<T extends object>(cookie: object, data: T): T & { [NOTES]?: SessionNotes } {
  const noted = notes.get(cookie)
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
        this._expires = new Date(Date.now() + ms)
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
      return withNotes(this, this.data)
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
  if (cookie.toJSON !== toJSON) return JSON.stringify(cookie)
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
  const noted = notes.get(cookie)
  return noted ? `${text.slice(0, -1)},"${NOTES}":${JSON.stringify(noted)}}` : text
}

/** What is stored of a cookie of any class. In one that is not ours, `sessile` is no notes but a visitor's data: left out. */
export function plainCookie(cookie: unknown): unknown {
  const { toJSON } = (cookie ?? {}) as { toJSON?: () => unknown }
  if (typeof toJSON === 'function') return toJSON.call(cookie)
  if (typeof cookie !== 'object' || cookie === null) return cookie
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

/** Makes a cookie of its stored JSON, ending at `expires`. */
export function restoreCookie(stored: object, expires: Date | null | undefined): Cookie {
  const cookie = new Cookie() as unknown as Fields
  for (const key in stored) {
    if (key === NOTES) setNotes(cookie, (stored as { [NOTES]: SessionNotes })[NOTES])
    else if (key !== 'data' && key !== 'expires' && key !== 'originalMaxAge') {
      ;(cookie as unknown as Record<string, unknown>)[key] = (stored as Record<string, unknown>)[key]
    }
  }
  if (expires !== undefined) cookie._expires = expires
  cookie.originalMaxAge = (stored as Cookie).originalMaxAge
  return cookie as unknown as Cookie
}

/** The settings of a cookie, without its running expiry. */
export type CookieSettings = Omit<CookieData, 'expires'>

export function settingsOf(cookie: Cookie | CookieSettings): CookieSettings {
  const { originalMaxAge, path, domain, httpOnly, secure, sameSite, partitioned, priority } = cookie
  return { originalMaxAge, path, domain, httpOnly, secure, sameSite, partitioned, priority }
}

/** Takes over the settings that others changed since `was`, unless they were changed in this cookie as well. */
export function mergeSettings(was: Cookie, cookie: Cookie, theirs: Cookie): void {
  if (isSameSettings(theirs, was) || !isSameSettings(was, cookie)) return
  const { originalMaxAge, ...settings } = settingsOf(theirs)
  Object.assign(cookie, settings)
  cookie.maxAge = originalMaxAge as number
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
