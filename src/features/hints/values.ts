import { Session } from '../../session/session'

/** A value of a session that comes back as something else. */
export interface Change {
  readonly path: string
  readonly what: string
  readonly becomes: string
}

/** So many values are looked at, and so deep: a session that is large enough to hide more is told of as large. */
const MOST_VALUES = 200
const DEEPEST = 4

/** The first value of a session that JSON turns into something else. */
export function whatChanges(session: object): Change | undefined {
  let left = MOST_VALUES

  function within(value: object, path: string, depth: number): Change | undefined {
    for (const [key, inner] of Object.entries(value)) {
      // An application may have replaced a method of the session.
      if (depth === 0 && (key === 'cookie' || key in Session.prototype)) continue
      if (--left < 0) return undefined
      const at = Array.isArray(value) ? `${path}[${key}]` : `${path}.${key}`
      const change = changeOf(inner, at)
      if (change) return change
      if (depth === DEEPEST || typeof inner !== 'object' || inner === null) continue
      const further = within(inner as object, at, depth + 1)
      if (further) return further
    }
    return undefined
  }

  return within(session, 'req.session', 0)
}

function changeOf(value: unknown, path: string): Change | undefined {
  if (typeof value === 'function' || typeof value === 'symbol')
    return { path, what: `a ${typeof value}`, becomes: 'nothing' }
  if (typeof value === 'number' && !Number.isFinite(value)) return { path, what: String(value), becomes: 'null' }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  if (typeof (value as { toJSON?: unknown }).toJSON === 'function') {
    return { path, what: nameOf(value), becomes: value instanceof Date ? 'a string' : 'what its toJSON answers' }
  }
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype === null || Object.getPrototypeOf(prototype) === null) return undefined
  const isEmpty = value instanceof Map || value instanceof Set || value instanceof WeakMap || value instanceof RegExp
  return { path, what: nameOf(value), becomes: isEmpty ? 'an empty object' : 'a plain object' }
}

function nameOf(value: object): string {
  const { name } = (value as { constructor?: { name?: string } }).constructor ?? {}
  return name ? `a ${name}` : 'an object of a class'
}
