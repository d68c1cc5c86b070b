import createDebug = require('debug')
import { isUnreadable, shortened } from '../base/errors'
import { afterwards, oneByOne, rescue, type MaybePromise } from '../base/maybe-promise'
import type { NoteChange } from '../features/feature'
import type { Settings } from './settings'
import { tolerance } from '../store/record-access'
import type { Known } from '../store/access'
import type { Presented } from './signer'
import { isFirstShown, worthOf, type Worth } from './tokens'

const debug = createDebug('express-session')

/** A stored session that a request may use. */
export interface Admitted {
  readonly known: Known
  /** What the client's token is worth; one that is stale, or was replaced a moment ago, is not admitted. */
  readonly worth: Worth
  /** What is to be noted of the visit. */
  readonly changes: readonly NoteChange[]
}

/** A session with less than this left, in ms, may end before its request does: Node's limit for a request to arrive. */
const LONG_REQUEST = 300_000

/**
 * Loads the session that a client presents, and finds out whether it is still the client's. `null`: there is none.
 * `'replaced'`: there is one, whose token has just been replaced; the request must not disturb the new one.
 */
export function admit(
  settings: Settings,
  held: Presented,
  renewTo: number | undefined,
): MaybePromise<Admitted | 'replaced' | null> {
  if (debug.enabled) debug('loading %s', shortened(held.key))
  return afterwards(load(settings, held.key, renewTo), (known) => (known ? examine(settings, held, known) : null))
}

/** Finds a session for the application, which presents no token; one that has timed out is destroyed, and counts as none. */
export function find(settings: Settings, key: string): MaybePromise<Known | null> {
  return afterwards(settings.access().load(key), (known) => {
    if (!known) return null
    for (const feature of settings.features) {
      const ended = feature.admitted?.(known.notes, Date.now())
      if (typeof ended === 'string') return afterwards(expire(settings, key, known, ended), () => null)
    }
    return known
  })
}

function examine(settings: Settings, held: Presented, known: Known): MaybePromise<Admitted | 'replaced' | null> {
  const { events, features, renewalGrace } = settings
  const now = Date.now()
  const worth = held.byApplication ? 'present' : worthOf(held.token, known.notes, renewalGrace, now)
  if (worth === 'replaced') return worth
  if (worth === 'stale') return refuse(settings, held.key, known)
  const changes: NoteChange[] = []
  if (!held.byApplication && isFirstShown(worth, known.notes)) changes.push((notes) => (notes.shown ??= now))
  for (const feature of features) {
    const found = feature.admitted?.(known.notes, now)
    if (typeof found === 'string') return afterwards(expire(settings, held.key, known, found), () => null)
    if (found) changes.push(found)
  }
  if (events.wants('loaded')) events.emit('loaded', { id: held.key })
  return afterwards(touchedIfEnding(settings, held.key, known), (touched) => ({ known: touched, worth, changes }))
}

function refuse(settings: Settings, key: string, known: Known): MaybePromise<null> {
  const { events, onStaleId } = settings
  const done = onStaleId === 'destroy' ? destroy(settings, key, known) : undefined
  return afterwards(done, () => {
    events.emit('staleId', { id: key })
    return null
  })
}

function expire(settings: Settings, key: string, known: Known, reason: 'idle' | 'absolute'): MaybePromise<void> {
  return afterwards(destroy(settings, key, known), () => settings.events.emit('expired', { id: key, reason }))
}

/** Destroys a session in the store, and tells the features. */
export function destroy(settings: Settings, key: string, known?: Known | null): MaybePromise<void> {
  const features = settings.features.filter((feature) => feature.destroyed)
  const access = settings.access()
  if (features.length === 0) return access.destroy(key)
  return afterwards(access.destroyKnown(key, known), (notes) =>
    oneByOne(features, (feature) => feature.destroyed?.(key, notes)),
  )
}

/** A session that is about to end is renewed before the request continues: it might end while the request is running. */
function touchedIfEnding(settings: Settings, key: string, known: Known): MaybePromise<Known> {
  const { record } = known
  if (!record) return known
  const now = Date.now()
  const left = record.expires - now
  if (left > LONG_REQUEST && !record.renewed) return known
  const access = settings.access()
  const { originalMaxAge } = known.settings ?? access.dataOf(key, known).cookie
  const lifetime = typeof originalMaxAge === 'number' ? originalMaxAge : settings.ttl
  // One that was renewed by reading got the usual lifetime; its own may be another, as with "remember me".
  if (record.renewed ? Math.abs(left - lifetime) < tolerance(lifetime) : left > lifetime / 10) return known
  const touched: Known = { ...known, record: { ...record, expires: now + lifetime, renewed: true } }
  const touch = (): MaybePromise<Known> => afterwards(access.touchUnseen(key, known, lifetime), () => touched)
  // A failure is ignored here: the end of the response tries again, and reports it.
  return rescue(touch, () => known)
}

/** Loads a record; one that is no session counts as none, where the option `onInvalidRecord` says so. */
function load(settings: Settings, key: string, renewTo: number | undefined): MaybePromise<Known | null> {
  const { access, events, onInvalidRecord } = settings
  if (onInvalidRecord === 'error') return access().load(key, renewTo)
  return rescue(
    () => access().load(key, renewTo),
    (error) => {
      if (!isUnreadable(error)) throw error
      events.emit('invalid', { id: key, error })
      return null
    },
  )
}
