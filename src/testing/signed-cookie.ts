import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import type session = require('../index')
import { settingsOf } from '../middleware'
import type { VisitedRequest } from '../request/settings'
import { Visit } from '../request/visit'

/**
 * Stores a session with this data, as a login would, and returns the `Cookie` header that presents it.
 * @param sessions what `session()` returned to the app under test: name, secret, store, hashing and all else are its own
 * @throws TypeError when the sessions are not sessile's, or have no cookie, as with the option `transport`
 */
export async function signedCookie(sessions: session.Sessions, data: Partial<session.SessionData>): Promise<string> {
  const settings = settingsOf.get(sessions)
  if (!settings) throw new TypeError('signedCookie takes what session() returned, and the data of a session')
  if (settings.transport) throw new TypeError('these sessions have no cookie, but a transport')
  const req = someRequest()
  const signer = settings.signerOf(req)
  if (!signer) throw new TypeError('these sessions have no secret that could sign a cookie')
  const visit = new Visit(settings, req, [], settings.cookieFor(req), false)
  await visit.generate()
  const stored = Object.assign(visit.requireSession(), data)
  await visit.save(stored)
  return `${settings.name}=${signer.sign(stored.id)}`
}

/** A request for the functions among the options, such as `describe`: what Express's requests have, of no browser. */
function someRequest(): VisitedRequest {
  const get = (): undefined => undefined
  const express = { get, header: get, ip: '127.0.0.1', originalUrl: '/', path: '/', query: {}, secure: true }
  const req = Object.assign(new IncomingMessage(new Socket()), { method: 'POST', url: '/' }, express)
  return req as unknown as VisitedRequest
}
