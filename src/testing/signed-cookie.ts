import uid = require('uid-safe')
import type session = require('../index')
import { Cookie } from '../session/cookie'
import { Signer } from '../request/signer'
import type { SessionOptions } from '../options/options'
import type { Secret } from '../options/secrets'
import { SealedStore } from '../features/sealing/sealed-store'
import { callStore } from '../base/store-call'

export interface SignedCookieOptions {
  /** The store that the app under test uses. */
  store: session.Store
  /** The app's secret, or list of secrets: the first signs. */
  secret: Secret | Secret[]
  /** What the session holds. */
  data: object
  /** The name of the cookie. Default: `'connect.sid'`. */
  name?: string
  /** Lifetime in ms. Default: one hour. */
  maxAge?: number
  /** The app's options `hashIds` and `encryption`, if it has them, as they say how a session is stored. Default: none. */
  hashIds?: SessionOptions['hashIds']
  encryption?: SessionOptions['encryption']
}

/** Stores a session with this data and returns the `Cookie` header that presents it: a login in one call. */
export async function signedCookie(options: SignedCookieOptions): Promise<string> {
  const { store, secret, data, name = 'connect.sid', maxAge = 3_600_000, hashIds, encryption } = options
  const sealed = hashIds || encryption !== undefined
  const kept = sealed ? new SealedStore(store as session.RecordStore, { hashIds, encryption }) : store
  const id = uid.sync(24)
  await callStore(kept, 'set', [id, { cookie: new Cookie({ maxAge }), ...data }])
  return `${name}=${new Signer(Array.isArray(secret) ? secret : [secret]).sign(id)}`
}
