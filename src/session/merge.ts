import { isSameSettings, settingsOf, type Cookie } from './cookie'
import { notedOf, unnoted } from './noted'
import type { Serializer } from './text'

type Data = Record<string, unknown> & { cookie: Cookie }

/**
 * Where a request stands among those that have changed its session meanwhile:
 * - `after`: it looked at nothing that they changed, so what they stored is merged into its session: that is what it would have
 *   made of theirs, had it come after them
 * - `before`: it did, but has changed nothing itself; its session stays as it has seen it
 * - `neither`: it did, and might have done otherwise
 */
export type Order = 'after' | 'before' | 'neither'

/**
 * Merges into a session what others stored since `base`, where it comes after them. Each key has one value: an object is never
 * torn apart.
 * @param base the stored state that the session was made of, and `theirs` the newest one: parsed, and not used elsewhere
 */
export function mergeInto(session: object, base: object, theirs: object, serializer: Serializer): Order {
  return unnoted(() => {
    const [was, mine, now] = [base as Data, session as Data, theirs as Data]
    const changed = changedKeys(was, now, serializer)
    const own = ownKeys(mine, was, serializer)
    if (hasLookedAt(session, changed)) {
      return own.size === 0 && isSameSettings(was.cookie, mine.cookie) ? 'before' : 'neither'
    }
    takeOver(mine, now, changed, own)
    mergeSettings(was.cookie, mine.cookie, now.cookie)
    return 'after'
  })
}

/**
 * Has a session follow an update that its request has made of the newest state: others had changed `base` to `before` by then,
 * and the update made `after` of that. What the session was given by its request stays. Where it had looked at something that
 * the others changed, it keeps what it has of theirs.
 */
export function followUpdate(
  session: object,
  states: { readonly base: object; readonly before: object; readonly after: object },
  serializer: Serializer,
): Order {
  return unnoted(() => {
    const [mine, was, before, after] = [session, states.base, states.before, states.after] as [Data, Data, Data, Data]
    const own = ownKeys(mine, was, serializer)
    const order = mergeInto(session, was, before, serializer)
    takeOver(mine, after, changedKeys(before, after, serializer), own)
    mergeSettings(was.cookie, mine.cookie, after.cookie)
    return order
  })
}

function hasLookedAt(session: object, keys: string[]): boolean {
  const noted = notedOf(session)
  return keys.some((key) => !noted || noted.hasLookedAt(key))
}

/** The keys that a request has written: also those to which it gave the value that was there. */
function ownKeys(session: Data, base: Data, serializer: Serializer): Set<string> {
  return new Set([...(notedOf(session)?.writes ?? []), ...changedKeys(base, session, serializer)])
}

function takeOver(session: Data, theirs: Data, keys: string[], own: Set<string>): void {
  for (const key of keys) {
    if (own.has(key)) continue
    // A method of the session is no data, whatever somebody stored under its name.
    if (key in session && !Object.hasOwn(session, key)) continue
    if (Object.hasOwn(theirs, key)) session[key] = theirs[key]
    else Reflect.deleteProperty(session, key)
  }
}

/** The keys of data whose values differ; the cookie is none. */
function changedKeys(was: Data, now: Data, serializer: Serializer): string[] {
  const keys = new Set([...Object.keys(was), ...Object.keys(now)])
  keys.delete('cookie')
  return [...keys].filter((key) => !isEqual(own(was, key), own(now, key), serializer))
}

function own(data: Data, key: string): unknown {
  return Object.hasOwn(data, key) ? data[key] : undefined
}

function isEqual(a: unknown, b: unknown, serializer: Serializer): boolean {
  if (a === b) return true
  if (a === undefined || b === undefined) return false
  return serializer.stringify([a]) === serializer.stringify([b])
}

/** Takes over the settings that others changed since `was`, unless they were changed in this cookie as well. */
function mergeSettings(was: Cookie, cookie: Cookie, theirs: Cookie): void {
  if (isSameSettings(theirs, was) || !isSameSettings(was, cookie)) return
  const { originalMaxAge, ...settings } = settingsOf(theirs)
  Object.assign(cookie, settings)
  cookie.maxAge = originalMaxAge as number
}
