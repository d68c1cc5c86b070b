import type { IncomingMessage } from 'node:http'
import type { Request } from 'express'
import depd = require('depd')
import { atOnce } from '../base/maybe-promise'
import type { Transport } from '../options/options'
import { presentedBy, type Presented, type Signer } from './signer'

const deprecate = depd('express-session')

/** How many cookies of the session's name are verified: browsers send few, attackers as many as fit into a header. */
const MANY_COOKIES = 8

/** Of an ID that is not signed. */
const LONGEST_ID = 256
const ID = /^[\w~-]+$/

/** The application knows a session by its key. */
export function presentedByApplication(key: string): Presented {
  return { key, token: undefined, oldSecret: false, encoded: undefined, byApplication: true }
}

/**
 * What a transport has read. Where nothing signs it, only what can be an ID becomes a key.
 * @param hasGenid whether the application makes the IDs, of whatever characters
 */
export function readTransport(
  transport: Transport,
  req: IncomingMessage,
  signer: Signer | undefined,
  hasGenid: boolean,
): Presented[] {
  const id: unknown = atOnce(transport.read(req as unknown as Request), 'transport option: read must return an ID')
  if (typeof id !== 'string' || id === '') return []
  if (transport.signed) {
    const verified = signer?.verifyPlain(id)
    return verified ? [verified] : []
  }
  if (id.length > LONGEST_ID) return []
  // eslint-disable-next-line no-control-regex -- no ID has control characters, and databases refuse NUL
  if (hasGenid ? /[\0-\x1f\x7f]/.test(id) : !ID.test(id)) return []
  return [presentedBy(id)]
}

interface ParsedCookies {
  cookies?: Record<string, unknown>
  signedCookies?: Record<string, unknown>
}

/**
 * What the request's cookies of this name present, in their order: those with a valid signature, as anyone who can set a
 * cookie on a sibling domain can put one in front. Cookies that only `cookie-parser` has seen count too, deprecated.
 */
export function readCookies(req: IncomingMessage, name: string, signer: Signer): Presented[] {
  const header = req.headers.cookie
  const presented = header === undefined ? [] : findSigned(header, name, signer)
  if (presented.length > 0) return presented

  const { signedCookies, cookies } = req as ParsedCookies
  const unsigned = signedCookies?.[name]
  if (typeof unsigned === 'string' && unsigned !== '') {
    deprecate('cookie should be available in req.headers.cookie')
    return [presentedBy(unsigned)]
  }
  const value = cookies?.[name]
  const verified = typeof value === 'string' ? signer.verify(value) : undefined
  if (!verified) return []
  deprecate('cookie should be available in req.headers.cookie')
  return [verified]
}

const SEMICOLON = 59
const EQUALS = 61

function findSigned(header: string, name: string, signer: Signer): Presented[] {
  const found: Presented[] = []
  let tried = 0
  for (let at = header.indexOf(name); at !== -1 && tried < MANY_COOKIES; at = header.indexOf(name, at + 1)) {
    let before = at - 1
    while (isBlank(header.charCodeAt(before))) before--
    if (before >= 0 && header.charCodeAt(before) !== SEMICOLON) continue
    let equals = at + name.length
    while (isBlank(header.charCodeAt(equals))) equals++
    if (header.charCodeAt(equals) !== EQUALS) continue

    const semicolon = header.indexOf(';', equals)
    const sent = header.slice(equals + 1, semicolon === -1 ? undefined : semicolon).trim()
    if (!signer.looksSigned(sent)) continue
    tried++
    const verified = signer.verifySent(sent)
    if (verified) found.push(verified)
  }
  return found
}

function isBlank(code: number): boolean {
  return code === 32 || code === 9
}
