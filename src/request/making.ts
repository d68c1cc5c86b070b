import { Cookie } from '../session/cookie'
import type { CookieOptions } from '../session/cookie-options'
import { notingSession, Session, SESSION_OWNER, type LiveSession, type SessionOwner } from '../session/session'
import { isReplaced } from '../store/store'
import type { Known } from '../store/access'
import type { Claim } from './claim'
import type { Comparison } from './comparison'
import { isSecure } from './connection'
import type { Settings, VisitedRequest } from './settings'

/** For whom a session is made. */
export interface Owner extends SessionOwner {
  readonly settings: Settings
  readonly req: VisitedRequest
  readonly cookieOptions: CookieOptions
  readonly claim: Claim
  readonly comparison: Comparison
}

/** A session with nothing in it. */
export function newSession(owner: Owner, key: string): LiveSession {
  const { claim, req, settings } = owner
  for (const feature of settings.features) {
    const change = feature.created?.(Date.now())
    if (change) claim.note(change)
  }
  const cookie = newCookie(owner)
  if (settings.access().isExact) return notingSession(req, {}, cookie, owner, key)
  const created = new Session(req, undefined, owner, key)
  created.cookie = cookie
  return created
}

/** A cookie by the options, for the connection of the request. */
export function newCookie({ cookieOptions, req, settings }: Owner): Cookie {
  const cookie = new Cookie(cookieOptions)
  if (cookieOptions.secure === 'auto' || cookieOptions.sameSite === 'auto') {
    const secure = isSecure(req, settings.proxy)
    if (cookieOptions.secure === 'auto') cookie.secure = secure
    if (cookieOptions.sameSite === 'auto') cookie.sameSite = secure ? 'none' : 'lax'
  }
  return cookie
}

/** Makes a session of what the store has, and remembers that for the comparison at the end. */
export function restoredSession(owner: Owner, key: string, known: Known): LiveSession {
  const { comparison, req, settings } = owner
  const { access, store } = settings
  if (isReplaced(store, 'createSession')) {
    req[SESSION_OWNER] = owner
    const created = store.createSession(req as never, access().dataOf(key, known))
    comparison.loaded(created)
    return created
  }
  const restored = sessionOf(owner, key, known)
  comparison.loaded(restored, known.text)
  return restored
}

export function sessionOf(owner: Owner, key: string, known: Known): LiveSession {
  const { req, settings } = owner
  const { values, cookie } = settings.access().partsOf(key, known)
  if (settings.access().isExact) return notingSession(req, values, cookie, owner, key)
  return new Session(req, { cookie, ...values }, owner, key)
}
