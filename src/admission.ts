import createDebug = require('debug')
import { storedNotes, type SessionNotes } from './cookie'
import type { SessionError } from './errors'
import { noteVisit, openId, timeoutOf } from './lifetimes'
import { afterwards, isPromise, type MaybePromise } from './maybe-promise'
import type { Settings } from './middleware'
import { RecordAccess, type Found, type Moved, type StoreAccess, type Stored } from './store-access'

const debug = createDebug('express-session')

/** A stored session that a request gets. */
export interface Admitted {
  /** The ID under which it is stored by now. */
  readonly id: string
  readonly stored: Stored
  /** The client knows it by another ID. */
  readonly moved: boolean
  /** What is noted of it, where there are timeouts. */
  readonly notes?: SessionNotes
  /** The notes have changed by this visit, and are to be stored. */
  readonly notesDue: boolean
}

/** How a request asks for a session. */
export interface Asking {
  /** When the session is to end, in ms since the epoch, for stores that renew while they read. */
  readonly renewTo: number | undefined
  /** The application asks and not a client: an ID that the session had before will do, however long ago. */
  readonly byApplication: boolean
}

/** Loads the session of an ID and looks into it: has it gone on under another ID, has it timed out? `null` for none. */
export function admit(settings: Settings, id: string, asking: Asking): MaybePromise<Admitted | null> {
  debug('loading %s', id)
  return afterwards(load(settings, id, asking.renewTo), (stored) => {
    if (stored) return lookInto(settings, id, stored, asking, false)
    debug('no session %s in the store, a new one', id)
    return null
  })
}

/** Loads a session that goes on under another ID: for requests that were under way when that happened. */
export function follow(
  settings: Settings,
  id: string,
  { movedTo, movedAt }: Moved,
  asking: Asking,
): MaybePromise<Admitted | null> {
  const { access, events, onStaleId, renewalGrace } = settings
  const newId = openId(movedTo, id)
  if (asking.byApplication || Date.now() - movedAt <= renewalGrace) {
    return afterwards(access().load(newId), (stored) => stored && lookInto(settings, newId, stored, asking, true))
  }
  events.emit('staleId', { id })
  return onStaleId === 'ignore' ? null : afterwards(access().destroy(newId), () => null)
}

/** Finds a session for the application, wherever it has gone on since; one that has timed out is ended, and not found. */
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

function lookInto(
  settings: Settings,
  id: string,
  stored: Stored,
  asking: Asking,
  moved: boolean,
): MaybePromise<Admitted | null> {
  const { events, lifetimes } = settings
  const access = settings.access()
  if (access instanceof RecordAccess) {
    const word = access.noteOfMove(stored)
    if (word) return afterwards(access.endWord(id, word, stored), () => follow(settings, id, word, asking))
  }
  if (events.wants('loaded')) events.emit('loaded', { id })
  if (!lifetimes) return prolonged(access, { id, stored, moved, notesDue: false })

  const data = access.dataOf(id, stored)
  const notes = storedNotes(data.cookie) ?? {}
  const now = Date.now()
  const reason = timeoutOf(notes, lifetimes, now)
  if (reason) return afterwards(expire(settings, { id, stored }, reason), () => null)
  const notesDue = noteVisit(notes, lifetimes, now)
  return prolonged(access, { id, stored: { ...stored, data }, moved, notes, notesDue })
}

/** A session that is about to end is renewed before the request goes on, which may take longer than that. */
function prolonged(access: StoreAccess, admitted: Admitted): MaybePromise<Admitted> {
  if (!(access instanceof RecordAccess)) return admitted
  return afterwards(access.prolong(admitted.id, admitted.stored), (stored) =>
    stored === admitted.stored ? admitted : { ...admitted, stored },
  )
}

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
