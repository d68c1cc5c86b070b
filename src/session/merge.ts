import { isSameSettings, settingsOf, type Cookie } from './cookie'
import { notedOf, unnoted } from './noted'
import { notesOf, setNotes, storedNotes } from './notes'
import type { Serializer } from './text'

type Data = Record<string, unknown> & { cookie: Cookie }

/**
 * Merges into a session what others stored since `base`, which gives what this request would have made of theirs had it come
 * after them. False, and nothing is merged, when it looked at something that they changed: then it might have done otherwise.
 * Each key has one value: an object is never torn apart.
 * @param base the stored state that the session was made of, and `theirs` the newest one: parsed, and not used elsewhere
 */
export function mergeInto(session: object, base: object, theirs: object, serializer: Serializer): boolean {
  return unnoted(() => {
    const noted = notedOf(session)
    const changed = changedKeys(base as Data, theirs as Data, serializer)
    if (changed.some((key) => !noted || noted.hasLookedAt(key))) return false
    const written = new Set([...(noted?.writes ?? []), ...changedKeys(base as Data, session as Data, serializer)])
    takeOver(
      session as Data,
      theirs as Data,
      changed.filter((key) => !written.has(key)),
    )
    mergeSettings((base as Data).cookie, (session as Data).cookie, (theirs as Data).cookie)
    return true
  })
}

/** Has a session have these keys as another state has them: what the application has done elsewhere, for this session. */
export function apply(session: object, before: object, after: object, base: object, serializer: Serializer): void {
  unnoted(() => {
    const noted = notedOf(session)
    const own = new Set([...(noted?.writes ?? []), ...changedKeys(base as Data, session as Data, serializer)])
    const changed = changedKeys(before as Data, after as Data, serializer)
    takeOver(
      session as Data,
      after as Data,
      changed.filter((key) => !own.has(key)),
    )
    mergeSettings((before as Data).cookie, (session as Data).cookie, (after as Data).cookie)
  })
}

function takeOver(session: Data, theirs: Data, keys: string[]): void {
  for (const key of keys) {
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

/** The notes that are stored are newer than this request's, but for the ones that it has changed itself. */
export function takeNotes(cookie: Cookie, theirs: object): void {
  setNotes(cookie, { ...notesOf(cookie), ...storedNotes(theirs) })
}
