import { SessionError } from '../base/errors'
import { plainCookie, stringifyCookie, stringifyWithout } from './cookie'
import type { Serializer } from '../store/record-store'

/**
 * The text of a session's data, without its cookie: a `{`, and `text` from index `from` on. Kept as an index into the
 * stored text, so that nothing is copied before it is compared.
 */
export interface DataText {
  readonly text: string
  readonly from: number
}

const COOKIE_FIRST = '{"cookie":{'
const QUOTE = 34
const BACKSLASH = 92
const OPEN = 123
const CLOSE = 125

/** The data in a stored JSON text whose first key is the cookie, as all session libraries write it; else `undefined`. */
export function dataOf(text: string): DataText | undefined {
  if (!text.startsWith(COOKIE_FIRST)) return undefined
  let depth = 0
  for (let i = COOKIE_FIRST.length - 1; i < text.length; i++) {
    const char = text.charCodeAt(i)
    if (char === QUOTE) {
      for (i++; i < text.length && text.charCodeAt(i) !== QUOTE; i++) {
        if (text.charCodeAt(i) === BACKSLASH) i++
      }
    } else if (char === OPEN) {
      depth++
    } else if (char === CLOSE && --depth === 0) {
      return { text, from: text.charCodeAt(i + 1) === CLOSE ? i + 1 : i + 2 }
    }
  }
  return undefined
}

/** The data in a text that has no cookie in it. */
export function wholeText(text: string): DataText {
  return { text, from: 1 }
}

export function isSameData(known: DataText, text: string): boolean {
  return known.text.length - known.from === text.length - 1 && known.text.slice(known.from) === text.slice(1)
}

/** The lifetime of the cookie in a stored JSON text, in ms; `null` for none, `undefined` when only parsing can tell. */
export function maxAgeIn(text: string): number | null | undefined {
  const start = '{"cookie":{"originalMaxAge":'
  if (!text.startsWith(start)) return undefined
  const value = text.slice(start.length, text.indexOf(',', start.length))
  return value === 'null' ? null : /^\d+$/.test(value) ? Number(value) : undefined
}

type SessionLike = object & { cookie?: unknown }

/**
 * The text of a session's data, without its cookie.
 * @throws SessionError that names the key when the data has no such text
 */
export function serializeData(session: SessionLike, serializer: Serializer): string {
  try {
    if (serializer !== JSON) {
      const { cookie, ...data } = session
      return serializer.stringify(data)
    }
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
  if (serializer !== JSON || !dataText.startsWith('{')) return serializer.stringify(plainRecord(session))
  try {
    const cookie = stringifyCookie(session.cookie)
    return dataText === '{}' ? `{"cookie":${cookie}}` : `{"cookie":${cookie},${dataText.slice(1)}`
  } catch (error) {
    throw unserializable(session, error)
  }
}

/** A session as serializers other than JSON get it: a plain object, with a plain cookie. */
export function plainRecord(session: SessionLike): object {
  const { cookie, ...data } = session
  return { cookie: plainCookie(cookie), ...data }
}

/** Says which key of a session cannot be stored, and why. */
function unserializable(session: object, cause: unknown): SessionError {
  const path = findUnserializable(session, 'req.session', new Set()) ?? 'req.session'
  const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause)
  return new SessionError('ERR_SESSION_SERIALIZE', `${path} cannot be stored: ${reason}`, { cause })
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

type PlainObject = Record<string, unknown>

function isPlainObject(value: unknown): value is PlainObject {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/**
 * Merges into `mine` what others changed since `base`, in place and key by key, also within plain objects. What only they
 * changed becomes theirs, what both changed stays mine, and a deletion is a change. Arrays and other values are treated as
 * a whole. The top objects may be of any class; their `cookie` is left alone, as the caller merges it.
 */
export function mergeChanges(base: object, mine: object, theirs: object, serializer: Serializer): void {
  mergeInto(base as PlainObject, mine as PlainObject, theirs as PlainObject, serializer, true)
}

function mergeInto(
  base: PlainObject,
  mine: PlainObject,
  theirs: PlainObject,
  serializer: Serializer,
  top: boolean,
): void {
  for (const key of new Set([...Object.keys(base), ...Object.keys(theirs)])) {
    if ((top && (key === 'cookie' || (key in mine && !Object.hasOwn(mine, key)))) || key === '__proto__') continue
    const was = own(base, key)
    const is = own(mine, key)
    const now = own(theirs, key)
    if (isPlainObject(is) && isPlainObject(now) && (was === undefined || isPlainObject(was))) {
      mergeInto(was ?? {}, is, now, serializer, false)
    } else if (!isEqual(was, is, serializer)) continue
    else if (now === undefined) delete mine[key]
    else if (!isEqual(is, now, serializer)) mine[key] = now
  }
}

function own(object: PlainObject, key: string): unknown {
  return Object.hasOwn(object, key) ? object[key] : undefined
}

function isEqual(a: unknown, b: unknown, serializer: Serializer): boolean {
  if (a === b) return true
  if (a === undefined || b === undefined) return false
  return serializer.stringify([a]) === serializer.stringify([b])
}
