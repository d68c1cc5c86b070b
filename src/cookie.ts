import cookie = require('cookie')
import depd = require('depd')
import { hiddenSlot } from './hidden'
import { isoText, isTime } from './moments'
import type { CookieOptions } from './options'

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
 * What sessile notes of a session for its own use. It is stored with the cookie, under a key that express-session passes
 * over, as all names on the session belong to the user's data.
 */
export interface SessionNotes {
  /** When the session was made, was last given a new ID, and was last seen, in ms since the epoch. */
  created?: number
  renewed?: number
  seen?: number
  /** Whose session it is, since when, what names it towards them, and what the application wants to know of it. */
  user?: string
  login?: number
  handle?: string
  about?: unknown
  /** Messages for the next request. */
  flash?: { [type: string]: unknown[] }
  /** This session goes on under another ID: which one, sealed with this ID, and since when. */
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

/** The notes in a stored cookie. */
export function storedNotes(cookie: object): SessionNotes | undefined {
  return (cookie as { [NOTES]?: SessionNotes })[NOTES]
}

/** The cookie of one session: its settings, and when it ends. */
export interface Cookie extends CookieOptions {
  /** The lifetime, in ms, that every request renews; `null` for a cookie that ends with the browser. */
  originalMaxAge: number | null
  /** Ms until the cookie ends. Setting it sets `expires` and the lifetime that later requests renew. */
  maxAge?: number | undefined
  /** When the cookie ends; `null` or `false` for the end of the browser session. Setting it sets `originalMaxAge`. */
  expires?: Date | null | undefined
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
      const noted = notes.get(this)
      return noted ? { ...this.data, [NOTES]: noted } : this.data
    },
  },
})

const { toJSON } = Cookie.prototype
let passedOver: unknown
/** What the `data` accessor gave last: what comes from one that the application has put in its place, does not. */
let lastData: CookieData | undefined

/** The stored texts of cookies mostly differ in the expiry, so the rest is kept from one to the next. */
let template: { settings: CookieData; before: string; after: string } | undefined
const SOME_TIME = new Date(0)

/** As `JSON.stringify(cookie)`, in a tenth of the time for most cookies. */
export function stringifyCookie(cookie: unknown): string {
  if (!(cookie instanceof Cookie)) return JSON.stringify(plainCookie(cookie))
  if (cookie.toJSON !== toJSON || notes.get(cookie)) return JSON.stringify(cookie)
  const { data } = cookie
  if (data !== lastData || !isTime(data.expires)) return JSON.stringify(data)
  if (
    !template ||
    template.settings.originalMaxAge !== data.originalMaxAge ||
    !isSameSettings(template.settings, cookie)
  ) {
    const text = JSON.stringify({ ...data, expires: SOME_TIME })
    const at = text.indexOf(SOME_TIME.toISOString())
    template = { settings: data, before: text.slice(0, at), after: text.slice(at + SOME_TIME.toISOString().length) }
  }
  return template.before + isoText(data.expires) + template.after
}

/** What is stored of a cookie that may be of any make. Notes in one that is not ours are not ours, but a user's data. */
export function plainCookie(cookie: unknown): unknown {
  const { toJSON } = (cookie ?? {}) as { toJSON?: () => unknown }
  if (typeof toJSON === 'function') return toJSON.call(cookie)
  if (typeof cookie !== 'object' || cookie === null) return cookie
  const { [NOTES]: _foreign, ...plain } = cookie as Record<string, unknown>
  const noted = notes.get(cookie)
  return noted ? { ...plain, [NOTES]: noted } : plain
}

/**
 * Serialises a session as if it had no cookie, for a fifth of what a replacer function costs. `undefined` when the
 * cookie is not one of ours, or has a `toJSON` of the application's that must be heard.
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

/** A cookie as it was stored, ending at `expires`. */
export function restoreCookie(stored: object, expires: Date | null | undefined): Cookie {
  const cookie = new Cookie() as unknown as Fields
  for (const key in stored) {
    if (key === NOTES) setNotes(cookie, (stored as { [NOTES]: SessionNotes })[NOTES])
    else if (key !== 'data' && key !== 'expires' && key !== 'originalMaxAge') {
      ;(cookie as unknown as Record<string, unknown>)[key] = (stored as Record<string, unknown>)[key]
    }
  }
  cookie._expires = expires
  cookie.originalMaxAge = (stored as Cookie).originalMaxAge
  return cookie as unknown as Cookie
}

/** What of a cookie is a setting, and not its running expiry. */
export type CookieSettings = Omit<CookieData, 'expires'>

export function settingsOf(cookie: Cookie | CookieSettings): CookieSettings {
  const { originalMaxAge, path, domain, httpOnly, secure, sameSite, partitioned, priority } = cookie
  return { originalMaxAge, path, domain, httpOnly, secure, sameSite, partitioned, priority }
}

/** Brings into a cookie what others changed of its settings since `was`, where it was not changed itself. */
export function mergeSettings(was: Cookie, cookie: Cookie, theirs: Cookie): void {
  if (isSameSettings(theirs, was) || !isSameSettings(was, cookie)) return
  const { originalMaxAge, ...settings } = settingsOf(theirs)
  Object.assign(cookie, settings)
  cookie.maxAge = originalMaxAge as number
}

/** Lifetimes that differ by less, in ms, are the same: setting `expires` to a time from now never gives one twice. */
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
