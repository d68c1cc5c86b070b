import createDebug = require('debug')
import { storedNotes, type SessionNotes } from '../session/cookie'
import type { SessionError } from '../base/errors'
import { noteVisit, openId, timeoutOf } from '../features/timeouts/lifetimes'
import { afterwards, isPromise, type MaybePromise } from '../base/maybe-promise'
import type { Settings } from '../middleware'
import { RecordAccess, type ForwardingNote } from '../store/record-access'
import type { Found, StoreAccess, Stored } from '../store/store-access'

const debug = createDebug('express-session')

/** A stored session that a request may use. */
export interface Admitted {
  /** The ID that it is stored under now. */
  readonly id: string
  readonly stored: Stored
  /** Whether it was given this ID after the client got its own. */
  readonly moved: boolean
  /** Its notes; left out where no timeout is set. */
  readonly notes?: SessionNotes
  /** Whether this visit has changed the notes, so that they have to be stored. */
  readonly notesDue: boolean
}

/** How a session is to be loaded. */
export interface LoadOptions {
  /** When the session is to end, in ms since the epoch, for stores that can renew while they read. */
  readonly renewTo: number | undefined
  /** Whether the application presents the ID, not a client: a former ID is then accepted however old it is. */
  readonly byApplication: boolean
}

/** Loads a session, under its new ID if it was given one. `null` if there is none, or it has timed out. */
export function admit(settings: Settings, id: string, options: LoadOptions): MaybePromise<Admitted | null> {
  debug('loading %s', id)
  return afterwards(load(settings, id, options.renewTo), (stored) => {
    if (stored) return examine(settings, id, stored, options, false)
    debug('no session %s in the store, a new one', id)
    return null
  })
}

/** Follows a forwarding note: for requests that were already under way when the session was given a new ID. */
export function follow(
  settings: Settings,
  id: string,
  { movedTo, movedAt }: ForwardingNote,
  options: LoadOptions,
): MaybePromise<Admitted | null> {
  const { access, events, onStaleId, renewalGrace } = settings
  const newId = openId(movedTo, id)
  if (options.byApplication || Date.now() - movedAt <= renewalGrace) {
    return afterwards(access().load(newId), (stored) => stored && examine(settings, newId, stored, options, true))
  }
  events.emit('staleId', { id })
  return onStaleId === 'ignore' ? null : afterwards(access().destroy(newId), () => null)
}

/** Finds a session for the application, under its present ID; one that has timed out is destroyed, and counts as none. */
export function find(settings: Settings, id: string): MaybePromise<Found | null> {
  const access = settings.access()
  return afterwards(access.find(id), (found) => {
    const { lifetimes } = settings
    if (!found || !lifetimes) return found
    const notes = storedNotes(access.dataOf(found.id, found.stored).cookie) ?? {}
    const reason = timeoutOf(notes, lifetimes, Date.now())
    return reason ? afterwards(expire(settings, found, reason), () => null) : found
  })
}

function expire({ access, events }: Settings, { id, stored }: Found, reason: 'idle' | 'absolute'): MaybePromise<void> {
  events.emit('expired', { id, reason })
  return access().destroy(id, stored)
}

/** Tells a session that may be used from a forwarding note and from one that has timed out. */
function examine(
  settings: Settings,
  id: string,
  stored: Stored,
  options: LoadOptions,
  moved: boolean,
): MaybePromise<Admitted | null> {
  const { events, lifetimes } = settings
  const access = settings.access()
  if (access instanceof RecordAccess) {
    const note = access.forwardingNote(stored)
    if (note) return afterwards(access.restoreNoteExpiry(id, note, stored), () => follow(settings, id, note, options))
  }
  if (events.wants('loaded')) events.emit('loaded', { id })
  if (!lifetimes) return renewedIfEnding(access, { id, stored, moved, notesDue: false })

  const data = access.dataOf(id, stored)
  const notes = storedNotes(data.cookie) ?? {}
  const now = Date.now()
  const reason = timeoutOf(notes, lifetimes, now)
  if (reason) return afterwards(expire(settings, { id, stored }, reason), () => null)
  const notesDue = noteVisit(notes, lifetimes, now)
  return renewedIfEnding(access, { id, stored: { ...stored, data }, moved, notes, notesDue })
}

/** A session that is about to end is renewed before the request continues: it might end while the request is running. */
function renewedIfEnding(access: StoreAccess, admitted: Admitted): MaybePromise<Admitted> {
  if (!(access instanceof RecordAccess)) return admitted
  return afterwards(access.renewIfEnding(admitted.id, admitted.stored), (stored) =>
    stored === admitted.stored ? admitted : { ...admitted, stored },
  )
}

/** Loads a record; one that is no session counts as none, where the option `onInvalidRecord` says so. */
function load(settings: Settings, id: string, renewTo: number | undefined): MaybePromise<Stored | null> {
  const { access, events, onInvalidRecord } = settings
  if (onInvalidRecord === 'error') return access().load(id, renewTo)
  const replace = (error: unknown): null => {
    const { code } = error as SessionError
    if (code !== 'ERR_SESSION_INVALID_RECORD' && code !== 'ERR_SESSION_SEALED') throw error
    events.emit('invalid', { id, error })
    return null
  }
  try {
    const loaded = access().load(id, renewTo)
    return isPromise(loaded) ? loaded.then(undefined, replace) : loaded
  } catch (error) {
    return replace(error)
  }
}
