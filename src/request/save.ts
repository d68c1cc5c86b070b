import createDebug = require('debug')
import { destroyed, SessionError, shortened } from '../base/errors'
import { afterwards, oneByOne, type MaybePromise } from '../base/maybe-promise'
import { within } from '../base/store-call'
import { Turns } from '../base/turns'
import type { AfterSaving, Saving } from '../features/feature'
import { followUpdate, mergeInto } from '../session/merge'
import { cookieOf } from '../session/noted'
import { notesOf, setNotes } from '../session/notes'
import type { LiveSession } from '../session/session'
import { serializeData } from '../session/text'
import type { Known } from '../store/store-access'
import type { Visit } from './visit'

const debug = createDebug('express-session')

/** How often a write is tried that other requests keep overtaking. */
const MAX_TRIES = 100

/** The longest pause between two tries, in ms. */
const MAX_PAUSE = 50

/** In each store, those who met a conflict go one after the other. */
const conflicts = new WeakMap<object, Turns<string>>()

function conflictsOf(store: object): Turns<string> {
  let turns = conflicts.get(store)
  if (!turns) conflicts.set(store, (turns = new Turns<string>(new Map())))
  return turns
}

/** One that waits for a store which never answers keeps the others no longer than it waits itself. */
function inTurn<T>({ settings }: Visit, session: LiveSession, work: () => Promise<T>): MaybePromise<T> {
  return conflictsOf(settings.store).take(session.id, () => within(work(), 'save', settings.timeout))
}

/** A session as it was stored, and the text of its data then, which may have something merged into it. */
export interface Stored {
  readonly known: Known
  readonly text: string
}

/** Stores a request's session over what the request knows of it; `text` is that of its data. */
export function save(visit: Visit, session: LiveSession, text: string): MaybePromise<Stored> {
  const known = visit.knownOf(session)
  if (known?.life?.renewed && !visit.mayWrite(session.id, known.life.renewed)) throw destroyed(session.id)
  if (visit.isOutOfOrder && visit.settings.conflict === 'error') throw overtaken(session.id)
  return afterwards(tryToWrite(visit, session, text, known), (stored) => {
    if (stored) return stored
    if (!known) return saveOverOwn(visit, session, text)
    return inTurn(visit, session, () => saveOverOthers(visit, session, known))
  })
}

/**
 * One try: what is to be noted is noted, the features prepare, the store is asked, the features are told how it ended.
 * `null` when the store has something else than is known.
 */
function tryToWrite(
  visit: Visit,
  session: LiveSession,
  text: string,
  known: Known | null | undefined,
  write = (): MaybePromise<Known | null> => visit.settings.access().write(session, text, known),
): MaybePromise<Stored | null> {
  const notes = visit.notesFor(session, known)
  const { features } = visit.settings
  const written = (): MaybePromise<Stored | null> => {
    if (Object.keys(notes).length > 0 || notesOf(cookieOf(session))) setNotes(cookieOf(session), notes)
    return afterwards(write(), (now) => (now ? { known: now, text } : null))
  }
  if (!features.some((feature) => feature.saving)) return written()
  const stored = known?.notes
  const saving = {
    session,
    key: session.id,
    req: visit.held?.byApplication ? undefined : visit.req,
    stored,
    notes,
    isChanged: visit.isChangedSinceStored(session, text),
  }
  return writeBetween(visit, saving, written)
}

function writeBetween(
  visit: Visit,
  saving: Saving,
  write: () => MaybePromise<Stored | null>,
): MaybePromise<Stored | null> {
  const after: AfterSaving[] = []
  const prepared = oneByOne(visit.settings.features, (feature) =>
    afterwards(feature.saving?.(saving), (one) => void (one && after.push(one))),
  )
  return afterwards(prepared, () => (after.length === 0 ? write() : writeAndTell(after, write)))
}

async function writeAndTell(after: AfterSaving[], write: () => MaybePromise<Stored | null>): Promise<Stored | null> {
  let stored: Stored | null
  try {
    stored = await write()
  } catch (error) {
    for (const one of after) await one.failed(error)
    throw error
  }
  for (const one of after) await (stored ? one.saved() : one.failed())
  return stored
}

/**
 * A record is there under the key of a new session. Our random keys never collide, so it is this session, which the
 * application has stored by itself.
 * @throws SessionError when the key came from the option `genid`, as it may be another session's
 */
function saveOverOwn(visit: Visit, session: LiveSession, text: string): MaybePromise<Stored> {
  if (visit.settings.genid) throw idTaken(session.id)
  return afterwards(tryToWrite(visit, session, text, undefined), (stored) => {
    if (stored) return stored
    throw destroyed(session.id)
  })
}

/** Loads what others have stored, and writes this request's session over it or merged with it, until nobody was faster. */
async function saveOverOthers(visit: Visit, session: LiveSession, known: Known): Promise<Stored> {
  const { conflict, events, serializer } = visit.settings
  const until = visit.deadline()
  let base = known
  for (let tries = 1; tries <= MAX_TRIES && Date.now() < until; tries++) {
    const theirs = await visit.settings.access().load(session.id)
    if (!theirs) throw gone(session.id, base)
    requireOwn(visit, session, base, theirs)
    const merged = conflict !== 'overwrite' && mergeOthers(visit, session, base, theirs)
    if (!merged && conflict === 'error') throw overtaken(session.id)
    base = theirs
    visit.found(session.id, theirs)
    const text = serializeData(session, serializer)
    const isLast = tries === MAX_TRIES && conflict === 'overwrite'
    const stored = await tryToWrite(visit, session, text, theirs, () =>
      isLast ? visit.settings.access().writeOver(session, text) : visit.settings.access().write(session, text, theirs),
    )
    if (stored) {
      debug('%s what another request has stored', merged ? 'merged with' : 'written over')
      if (conflict !== 'overwrite') events.emit('conflict', { id: session.id, tries, merged })
      return stored
    }
    await pauseAfter(tries)
  }
  throw tooOften(session.id)
}

/** @throws SessionError when the session is not this request's any more: its client's token was replaced, or its user is another */
function requireOwn(visit: Visit, session: LiveSession, base: Known, theirs: Known): void {
  if (!visit.mayWrite(session.id, theirs.notes)) throw destroyed(session.id)
  for (const feature of visit.settings.features) feature.overtaken?.(session, base.notes, theirs.notes)
}

function mergeOthers(visit: Visit, session: LiveSession, base: Known, theirs: Known): boolean {
  const { access, serializer } = visit.settings
  const merged = mergeInto(session, access().freshDataOf(base), access().freshDataOf(theirs), serializer)
  return merged && !visit.isOutOfOrder
}

/**
 * Changes a stored session by a function, which may run again, and has the request's own session take part in it.
 * `restore` makes a session of what is stored.
 */
export async function update(
  visit: Visit,
  session: LiveSession,
  restore: (known: Known) => LiveSession,
  change: (session: LiveSession) => unknown,
): Promise<Stored> {
  return inTurn(visit, session, () => updateInTurn(visit, session, restore, change))
}

async function updateInTurn(
  visit: Visit,
  session: LiveSession,
  restore: (known: Known) => LiveSession,
  change: (session: LiveSession) => unknown,
): Promise<Stored> {
  const { access, serializer } = visit.settings
  const base = visit.knownOf(session) as Known
  const until = visit.deadline()
  for (let tries = 1; tries <= MAX_TRIES && Date.now() < until; tries++) {
    const theirs = await access().load(session.id)
    if (!theirs) throw gone(session.id, base)
    requireOwn(visit, session, base, theirs)
    const newest = restore(theirs)
    await change(newest)
    newest.touch()
    const text = serializeData(newest, serializer)
    const stored = await tryToWrite(visit, newest, text, theirs)
    if (stored) {
      const states = {
        base: access().freshDataOf(base),
        before: access().freshDataOf(theirs),
        after: access().freshDataOf(stored.known),
      }
      if (!followUpdate(session, states, serializer)) visit.isOutOfOrder = true
      return stored
    }
    await pauseAfter(tries)
  }
  throw tooOften(session.id)
}

/** Pauses for a random time, so that those who collided do not do so again. */
function pauseAfter(tries: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.random() * Math.min(tries, MAX_PAUSE)))
}

/** The error of a save that finds the session gone: expired, by what was known of it, or destroyed. */
function gone(key: string, { record }: Known): SessionError {
  if (!record || record.expires > Date.now()) return destroyed(key)
  return new SessionError(
    'ERR_SESSION_EXPIRED',
    `session ${shortened(key)} ended while a request was running, whose changes are not saved; give sessions a longer ` +
      'lifetime (cookie.maxAge) than requests take',
  )
}

function idTaken(key: string): SessionError {
  return new SessionError(
    'ERR_SESSION_ID_TAKEN',
    `a new session got the ID ${shortened(key)}, which another session has; see that the option genid gives a new ID every time`,
  )
}

function overtaken(key: string): SessionError {
  return new SessionError(
    'ERR_SESSION_CONFLICT',
    `session ${shortened(key)} is not saved: another request has changed what this one had looked at; let the client try ` +
      'again, or change the session by sessions.update',
  )
}

function tooOften(key: string): SessionError {
  return new SessionError(
    'ERR_SESSION_CONFLICT',
    `session ${shortened(key)} could not be saved: other requests changed it before each of ${MAX_TRIES} tries`,
  )
}
