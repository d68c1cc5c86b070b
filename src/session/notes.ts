import { SessionError } from '../base/errors'
import { hiddenSlot } from '../base/hidden-slot'

/**
 * What sessile itself notes of a session. It is stored in the cookie's JSON, under a key that express-session ignores, as
 * all names on the session belong to the application. Times are ms since the epoch.
 */
export interface SessionNotes {
  /** When the session was made, and when it was last seen. */
  created?: number
  seen?: number
  /** When the client was last given a new token; the hashes of that one and of the former; when the new one first came. */
  renewed?: number
  token?: string
  former?: string
  shown?: number
  /** The user it belongs to; since when; and what the option `describe` recorded. */
  user?: string
  login?: number
  about?: unknown
  /** Messages for the next request. */
  flash?: { [type: string]: unknown[] }
}

/** The key of the notes in a cookie's JSON. */
export const NOTES = 'sessile'

const slot = hiddenSlot<SessionNotes>()

/** The notes of a session, kept beside its cookie. */
export function notesOf(cookie: object): SessionNotes | undefined {
  return slot.get(cookie)
}

export function setNotes(cookie: object, notes: SessionNotes): void {
  slot.set(cookie, notes)
}

const TYPES: { readonly [name: string]: string } = {
  created: 'number',
  seen: 'number',
  renewed: 'number',
  token: 'string',
  former: 'string',
  shown: 'number',
  user: 'string',
  login: 'number',
  flash: 'object',
}

/**
 * The notes in the stored JSON of a cookie.
 * @throws SessionError (`ERR_SESSION_INVALID_RECORD`) when somebody else has written something there
 */
export function storedNotes(cookie: object): SessionNotes | undefined {
  const notes = (cookie as { [NOTES]?: unknown })[NOTES]
  if (notes === undefined) return undefined
  if (typeof notes !== 'object' || notes === null) throw invalid(NOTES)
  for (const name in notes) {
    const type = TYPES[name]
    const value = (notes as Record<string, unknown>)[name]
    if (type !== undefined && (typeof value !== type || value === null)) throw invalid(`${NOTES}.${name}`)
  }
  return notes
}

const IN_JSON = `"${NOTES}":`

/** The JSON of a cookie, taken apart. The notes are the last that is written there, so the rest need not be parsed. */
export function splitCookie(cookie: string): { settings: string; notes: SessionNotes | undefined } {
  const at = cookie.indexOf(IN_JSON)
  if (at === -1) return { settings: cookie, notes: undefined }
  let notes: unknown
  try {
    notes = JSON.parse(cookie.slice(at + IN_JSON.length, -1))
  } catch {
    // They are not the last, or not the cookie's.
    const { [NOTES]: _own, ...settings } = JSON.parse(cookie) as { [NOTES]?: unknown }
    return { settings: JSON.stringify(settings), notes: storedNotes(JSON.parse(cookie) as object) }
  }
  const before = cookie.slice(0, at)
  return {
    settings: (before.endsWith(',') ? before.slice(0, -1) : before) + '}',
    notes: storedNotes({ [NOTES]: notes }),
  }
}

function invalid(name: string): SessionError {
  return new SessionError(
    'ERR_SESSION_INVALID_RECORD',
    `the record of a session has a cookie whose ${name} cannot be read. Delete the record, or set the option ` +
      `onInvalidRecord to 'replace'`,
  )
}
