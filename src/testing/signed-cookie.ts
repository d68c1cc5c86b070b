import uid = require('uid-safe')
import type session from '../index'
import { Cookie } from '../cookie'
import { Signer } from '../cookie-header'
import type { Secret } from '../options'
import { callStore } from '../store-call'

export interface SignedCookieOptions {
  /** The store that the app under test uses. */
  store: session.Store
  /** The secret that the app signs with. */
  secret: Secret
  /** What the session holds. */
  data: object
  /** The name of the cookie. Default: `'connect.sid'`. */
  name?: string
  /** Lifetime in ms. Default: one hour. */
  maxAge?: number
}

/**
 * Stores a session with this data and returns the `Cookie` header that brings it: a login in one call. For apps without
 * `hashIds` and `encryption`, which look for their sessions elsewhere.
 */
export async function signedCookie(options: SignedCookieOptions): Promise<string> {
  const { store, secret, data, name = 'connect.sid', maxAge = 3_600_000 } = options
  const id = uid.sync(24)
  await callStore(store, 'set', [id, { cookie: new Cookie({ maxAge }), ...data }])
  return `${name}=${new Signer([secret]).sign(id)}`
}
