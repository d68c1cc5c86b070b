import { SessionError } from '../base/errors'
import { atOnce } from '../base/maybe-promise'
import { plainCookie, stringifyCookie, stringifyWithout } from './cookie'
import { cookieOf, plainDataOf, unnoted } from './noted'

/** Turns a session, as a plain object with its cookie, into the text of a record and back. */
export interface Serializer {
  stringify(session: object): string
  parse(text: string): unknown
}

type SessionLike = object & { cookie?: unknown }

/** In characters. */
const LONGEST_PATH = 200

/**
 * The text of a session's data, without its cookie.
 * @throws SessionError that names the key when the data has no such text
 */
export function serializeData(session: SessionLike, serializer: Serializer): string {
  return unnoted(() => textOf(session, serializer))
}

function textOf(session: SessionLike, serializer: Serializer): string {
  try {
    if (serializer !== JSON) {
      const { cookie, ...data } = session
      return stringified(serializer, data)
    }
    const plain = plainDataOf(session)
    if (plain) return JSON.stringify(plain)
    const fast = stringifyWithout(session.cookie, session)
    if (fast !== undefined) return fast
    return (
      JSON.stringify(session, function (this: unknown, key: string, value: unknown) {
        return this === session && key === 'cookie' ? undefined : value
      }) ?? '{}'
    )
  } catch (error) {
    throw unserializable(session, error)
  }
}

/**
 * The text to store: the cookie first, then the data, which `serializeData` has made already.
 * @throws SessionError when the cookie has no text
 */
export function serializeRecord(session: SessionLike, dataText: string, serializer: Serializer): string {
  if (serializer !== JSON || !dataText.startsWith('{')) {
    return unnoted(() => stringified(serializer, plainRecord(session)))
  }
  try {
    const cookie = stringifyCookie(cookieOf(session as { readonly cookie: unknown }))
    return dataText === '{}' ? `{"cookie":${cookie}}` : `{"cookie":${cookie},${dataText.slice(1)}`
  } catch (error) {
    throw unserializable(session, error)
  }
}

function stringified(serializer: Serializer, data: object): string {
  const text: unknown = atOnce(serializer.stringify(data), 'the serializer must return a string')
  if (typeof text === 'string') return text
  throw new TypeError('the serializer must return a string')
}

/** A session as serializers other than JSON get it: a plain object, with a plain cookie. */
export function plainRecord(session: SessionLike): object {
  const { cookie, ...data } = session
  return { cookie: plainCookie(cookie), ...data }
}

/** Says which key of a session cannot be stored, and why. */
function unserializable(session: object, cause: unknown): SessionError {
  const path = shortPath(findUnserializable(session, 'req.session', new Set()) ?? 'req.session')
  const reason = String(cause instanceof Error ? cause.message.split('\n')[0] : cause).slice(0, LONGEST_PATH)
  return new SessionError('ERR_SESSION_SERIALIZE', `${path} cannot be stored: ${reason}`, { cause })
}

/** Nested thousands deep, data has a path of many KB, which nobody can read. */
function shortPath(path: string): string {
  return path.length <= LONGEST_PATH ? path : `${path.slice(0, LONGEST_PATH / 2)} … ${path.slice(-LONGEST_PATH / 2)}`
}

/** The path of the first value that JSON cannot hold; `above` are the objects that it is in, to find circles. */
function findUnserializable(value: unknown, path: string, above: Set<object>): string | undefined {
  if (typeof value === 'bigint' && !('toJSON' in BigInt.prototype)) return path
  if (typeof value !== 'object' || value === null) return undefined
  if (above.has(value)) return path
  above.add(value)
  try {
    const { toJSON } = value as { toJSON?: unknown }
    const shown: unknown = typeof toJSON === 'function' ? toJSON.call(value, '') : value
    if (typeof shown === 'object' && shown !== null) {
      for (const key of Object.keys(shown)) {
        const below = Array.isArray(shown) ? `${path}[${key}]` : `${path}.${key}`
        let found: string | undefined
        try {
          found = findUnserializable((shown as Record<string, unknown>)[key], below, above)
        } catch {
          found = below
        }
        if (found) return found
      }
    }
  } catch {
    return path
  }
  above.delete(value)
  return undefined
}
