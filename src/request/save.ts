import createDebug = require('debug')
import { destroyed, SessionError, shortened } from '../base/errors'
import { afterwards, oneByOne, type MaybePromise } from '../base/maybe-promise'
import { within } from '../base/store-call'
import { Turns } from '../base/turns'
import type { AfterSaving, Saving } from '../features/feature'
import { mergeInto, type Order } from '../session/merge'
import { cookieOf } from '../session/noted'
import { notesOf, setNotes } from '../session/notes'
import type { LiveSession } from '../session/session'
import { serializeData } from '../session/text'
import type { Known } from '../store/access'
import type { Claim } from './claim'
import type { Comparison } from './comparison'
import type { Settings, VisitedRequest } from './settings'

const debug = createDebug('express-session')

/** How often a write is tried that other requests keep overtaking. */
export const MAX_TRIES = 100

/** The longest pause between two tries, in ms. */
const MAX_PAUSE = 50

/** In each store, those who met a conflict go one after the other. */
const conflicts = new WeakMap<object, Turns<string>>()

function conflictsOf(store: object): Turns<string> {
  let turns = conflicts.get(store)
  if (!turns) conflicts.set(store, (turns = new Turns<string>(new Map())))
  return turns
}

/** The request that stores its session. */
export interface Writer {
  readonly settings: Settings
  readonly req: VisitedRequest
  readonly claim: Claim
  readonly comparison: Comparison
  /** Whether the session has kept what it looked at, although others had changed that before this request stored something. */
  isOutOfOrder: boolean
}

/** Until when, in ms since the epoch, a request may wait for the store in one operation. */
export function deadline({ timeout }: Settings): number {
  return timeout ? Date.now() + timeout : Infinity
}

/** One that waits for a store which never answers keeps the others no longer than it waits itself. */
export function inTurnOfConflicts<T>(
  { settings }: Writer,
  session: LiveSession,
  work: () => Promise<T>,
): MaybePromise<T> {
  return conflictsOf(settings.store).take(session.id, () => within(work(), 'save', settings.timeout))
}

/** A session as it was stored, and the text of its data then, which may have something merged into it. */
export interface Stored {
  readonly known: Known
  readonly text: string
  /** What went wrong after the session was stored: it is there all the same. */
  readonly failure?: { readonly error: unknown }
}

/** Stores a request's session over what the request knows of it; `text` is that of its data. */
export function save(writer: Writer, session: LiveSession, text: string): MaybePromise<Stored> {
  const known = writer.claim.knownOf(session)
  if (known?.life?.renewed && !writer.claim.mayWrite(session.id, known.life.renewed)) throw destroyed(session.id)
  if (writer.isOutOfOrder && writer.settings.conflict === 'error') throw overtaken(session.id)
  return afterwards(tryToWrite(writer, session, text, known), (stored) => {
    if (stored) return stored
    if (!known) return saveOverOwn(writer, session)
    return saveInTurn(writer, session, known)
  })
}

async function saveInTurn(writer: Writer, session: LiveSession, known: Known): Promise<Stored> {
  try {
    return await inTurnOfConflicts(writer, session, () => saveOverOthers(writer, session, known))
  } catch (error) {
    await oneByOne(writer.settings.features, (feature) => feature.gaveUp?.(session, known.notes))
    throw error
  }
}

/**
 * One try: what is to be noted is noted, the features prepare, the store is asked, the features are told.
 * `null` when the store has something else than is known.
 */
export function tryToWrite(
  writer: Writer,
  session: LiveSession,
  text: string,
  known: Known | null | undefined,
  write = (): MaybePromise<Known | null> => writer.settings.access().write(session, text, known),
): MaybePromise<Stored | null> {
  const notes = writer.claim.notesFor(session, known)
  const { features } = writer.settings
  const written = (): MaybePromise<Stored | null> => {
    if (Object.keys(notes).length > 0 || notesOf(cookieOf(session))) setNotes(cookieOf(session), notes)
    return afterwards(write(), (now) => (now ? { known: now, text } : null))
  }
  if (!features.some((feature) => feature.saving)) return written()
  const stored = known?.notes
  const saving = {
    session,
    key: session.id,
    req: writer.claim.held?.byApplication ? undefined : writer.req,
    stored,
    notes,
    isNew: known === null,
    isChanged: !writer.comparison.isStoredAs(session, text),
  }
  return writeBetween(writer, saving, written)
}

function writeBetween(
  writer: Writer,
  saving: Saving,
  write: () => MaybePromise<Stored | null>,
): MaybePromise<Stored | null> {
  const after: AfterSaving[] = []
  const prepared = oneByOne(writer.settings.features, (feature) =>
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
  // What was overtaken is tried again: what was prepared for it is not taken back.
  if (!stored) return null
  try {
    for (const one of after) await one.saved()
    return stored
  } catch (error) {
    return { ...stored, failure: { error } }
  }
}

/**
 * A record is there under the key of a new session. Our random keys never collide, so it is this session, which the
 * application has stored by itself, or an earlier write of which no answer came. Others may have it by now.
 * @throws SessionError when the key came from the option `genid`, as it may be another session's
 */
async function saveOverOwn(writer: Writer, session: LiveSession): Promise<Stored> {
  if (writer.settings.genid) throw idTaken(session.id)
  const known = await writer.settings.access().load(session.id)
  if (!known) throw destroyed(session.id)
  return saveInTurn(writer, session, known)
}

/** Loads what others have stored, and writes this request's session over it or merged with it, until nobody was faster. */
async function saveOverOthers(writer: Writer, session: LiveSession, known: Known): Promise<Stored> {
  const { access, conflict, events, serializer } = writer.settings
  const until = deadline(writer.settings)
  let base = known
  for (let tries = 1; tries <= MAX_TRIES && Date.now() < until; tries++) {
    const theirs = await access().load(session.id)
    if (!theirs) throw gone(session.id, base)
    requireOwn(writer, session, base, theirs)
    const order = conflict === 'overwrite' ? 'neither' : orderAmong(writer, session, base, theirs)
    if (order === 'neither' && conflict === 'error') throw overtaken(session.id)
    // Who came before them compares with what it has seen until it has stored something.
    if (order !== 'before') base = theirs
    writer.claim.found(session.id, theirs)
    const text = serializeData(session, serializer)
    const isLast = tries === MAX_TRIES && conflict === 'overwrite'
    const stored = await tryToWrite(writer, session, text, theirs, () => {
      if (isLast) return access().writeOver(session, text)
      const written = order === 'before' ? theirsFor(writer, session, theirs) : session
      return access().write(written, serializeData(written, serializer), theirs)
    })
    if (stored) {
      if (order === 'before') writer.isOutOfOrder = true
      const merged = order !== 'neither'
      debug('%s what another request has stored', merged ? 'merged with' : 'written over')
      if (conflict !== 'overwrite') events.emit('conflict', { id: session.id, tries, merged })
      return stored
    }
    await pauseAfter(tries)
  }
  throw tooOften(session.id)
}

/** @throws SessionError when the session is not this request's any more: its client's token was replaced, or its user is another */
export function requireOwn(writer: Writer, session: LiveSession, base: Known, theirs: Known): void {
  if (!writer.claim.mayWrite(session.id, theirs.notes)) throw destroyed(session.id)
  for (const feature of writer.settings.features) feature.overtaken?.(session, base.notes, theirs.notes)
}

function orderAmong(writer: Writer, session: LiveSession, base: Known, theirs: Known): Order {
  const { access, serializer } = writer.settings
  const order = mergeInto(session, access().freshDataOf(base), access().freshDataOf(theirs), serializer)
  return writer.isOutOfOrder ? 'neither' : order
}

/** What others have stored, with the cookie and the notes of a session that has nothing to add. */
function theirsFor(writer: Writer, session: LiveSession, theirs: Known): LiveSession {
  const data = { ...writer.settings.access().freshDataOf(theirs), cookie: cookieOf(session) }
  return Object.defineProperty(data, 'id', { value: session.id }) as LiveSession
}

/** Pauses for a random time, so that those who collided do not do so again. */
export function pauseAfter(tries: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.random() * Math.min(tries, MAX_PAUSE)))
}

/** The error of a save that finds the session gone: expired, by what was known of it, or destroyed. */
export function gone(key: string, { record }: Known): SessionError {
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

export function tooOften(key: string): SessionError {
  return new SessionError(
    'ERR_SESSION_CONFLICT',
    `session ${shortened(key)} could not be saved: other requests changed it before each of ${MAX_TRIES} tries`,
  )
}
