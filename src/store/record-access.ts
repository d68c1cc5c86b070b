import createDebug = require('debug')
import type session = require('../index')
import { mergeChanges, serializeData, serializeRecord } from '../session/changes'
import { mergeSettings, notesOf, setNotes, storedNotes, type SessionNotes } from '../session/cookie'
import { destroyed, SessionError, shortened } from '../base/errors'
import { InThisProcess } from './in-this-process'
import { openId, sealId } from '../features/timeouts/lifetimes'
import { afterwards, isPromise, type MaybePromise } from '../base/maybe-promise'
import type { RecordStore, SessionRecord, Version, WriteCondition } from './record-store'
import { changeId, type Session } from '../session/session'
import { checkedData } from './store'
import type { AccessSettings, Found, Saved, StoreAccess, Stored } from './store-access'
import { waitFor } from './store-call'

const debug = createDebug('express-session')

type SessionData = session.SessionData

/** How often a write is tried that other requests keep overtaking. */
const MAX_TRIES = 100

/** The longest pause between two tries, in ms. */
const MAX_BACKOFF = 50

/**
 * How long, in ms, a forwarding note is kept at least: for requests that take long, and to notice the use of an old ID. It
 * is not kept as long as the session lives: a session that is given new IDs all the time would leave hundreds.
 */
const MIN_NOTE_LIFETIME = 3_600_000

/** How the JSON text of a forwarding note begins. */
const NOTE_START = '{"cookie":{"sessile":{"movedTo":'

/** A session with less than this left, in ms, may end before its request does: Node's limit for a request to arrive. */
const LONG_REQUEST = 300_000

/** How far, in ms, an end that was renewed while reading may be from the one wanted: a request's own duration, mostly. */
function tolerance(lifetime: number): number {
  return Math.min(60_000, lifetime / 10)
}

/**
 * What is left under an old ID: the new ID of the session, sealed with the old one, and since when it has it, in ms since
 * the epoch.
 */
export interface ForwardingNote {
  readonly movedTo: string
  readonly movedAt: number
}

/** The forwarding note of another request that renamed first, and the last stored state that was merged before that. */
export interface Overtaken extends ForwardingNote {
  readonly known: Stored
}

function forwardingNoteOf(notes: SessionNotes | undefined): ForwardingNote | undefined {
  return notes?.movedTo === undefined ? undefined : { movedTo: notes.movedTo, movedAt: notes.movedAt ?? 0 }
}

/** Access by the record contract: writes a session only over the stored state that is known, and merges any other first. */
export class RecordAccess implements StoreAccess {
  readonly #store: RecordStore
  readonly #settings: AccessSettings
  readonly #process: InThisProcess

  constructor(store: RecordStore, settings: AccessSettings) {
    this.#store = store
    this.#settings = settings
    this.#process = InThisProcess.of(store)
  }

  load(id: string, renewTo?: number): MaybePromise<Stored | null> {
    const since = this.#process.count
    const read = this.#store.read(id, renewTo)
    return isPromise(read)
      ? afterwards(waitFor(read, 'read', this.#settings.timeout), (record) => this.#known(id, record, since))
      : this.#known(id, read, since)
  }

  /** A record that this process wrote is parsed when it is looked at; any other one now, while an error can reach `next`. */
  #known(id: string, record: SessionRecord | null, since: number): Stored | null {
    if (!record) return null
    if (this.#store.inProcess && this.#store.serializer === JSON && record.text.startsWith('{"cookie":{')) {
      return { record, since, process: this.#process }
    }
    return { record, data: checkedData(id, this.#store.parse(id, record)), since, process: this.#process }
  }

  find(id: string): MaybePromise<Found | null> {
    return afterwards(this.load(id), (stored) => {
      const note = stored && this.forwardingNote(stored)
      return note ? this.find(openId(note.movedTo, id)) : stored && { id, stored }
    })
  }

  dataOf(id: string, stored: Stored): SessionData {
    return stored.data ?? this.#store.parse(id, stored.record as SessionRecord)
  }

  save(
    session: Session,
    dataText: string,
    from: Stored | null | undefined,
    merged?: (found: Found) => void,
  ): MaybePromise<Saved> {
    return afterwards(this.#write(session, dataText, from), (saved) => {
      if (saved) return saved
      if (!from) return this.#saveOverOwn(session, dataText)
      // In this process, those who met a conflict go one after the other.
      return this.#process.turns.take(session.id, () => this.#saveMerged(session, from, merged))
    })
  }

  /**
   * A record is there under the ID of a new session. Our random IDs never collide, so it is this session, which the
   * application has stored by itself.
   * @throws SessionError when the ID came from the option `genid`, as it may be another session's
   */
  #saveOverOwn(session: Session, dataText: string): MaybePromise<Saved> {
    if (this.#settings.genid) throw idTaken(session.id)
    return this.#write(session, dataText, undefined) as MaybePromise<Saved>
  }

  #write(
    session: Session,
    dataText: string,
    from: Stored | null | undefined,
    condition = conditionOf(from),
  ): MaybePromise<Saved | null> {
    const text = serializeRecord(session, dataText, this.#store.serializer)
    const expires = this.#store.expiresOf(session)
    const since = this.#process.count
    const written = this.#store.write(session.id, text, expires, condition)
    return afterwards(waitFor(written, 'write', this.#settings.timeout), (version) =>
      version === null
        ? null
        : { stored: { record: { text, expires, version }, since, process: this.#process }, dataText },
    )
  }

  /** Loads what others have written, merges it into the session and writes again, until nobody was faster. */
  async #saveMerged(session: Session, from: Stored, merged?: (found: Found) => void): Promise<Saved> {
    const overwrites = this.#settings.conflict === 'overwrite'
    let base = from
    for (let tries = 1; tries <= MAX_TRIES; tries++) {
      const found = await this.find(session.id)
      if (!found) throw gone(session.id, base)
      const theirs = found.stored
      if (found.id !== session.id) changeId(session, found.id)
      if (overwrites) {
        this.#mergeFlash(session, base, theirs)
      } else {
        this.merge(session, base, theirs)
        debug('merged the changes of another request')
        this.#settings.events.emit('conflict', { id: session.id, tries })
      }
      base = theirs
      merged?.(found)
      const text = serializeData(session, this.#store.serializer)
      // Even `overwrite` replaces only what it has seen, as the rest may be a forwarding note; except at its last try.
      const condition = overwrites && tries === MAX_TRIES ? 'present' : conditionOf(theirs)
      const saved = await this.#write(session, text, theirs, condition)
      if (saved) return saved
      await pauseAfter(tries)
    }
    throw conflict(session.id)
  }

  /** Even where data is overwritten, no flash message is lost or delivered twice. */
  #mergeFlash(session: Session, base: Stored, theirs: Stored): void {
    const flashIn = (stored: Stored): SessionNotes => {
      const { flash } = storedNotes(this.#parsedAnew(stored).cookie) ?? {}
      return flash ? { flash } : {}
    }
    this.#mergeNotes(session, flashIn(base), flashIn(theirs))
  }

  #mergeNotes(session: Session, was: SessionNotes, now: SessionNotes): void {
    const notes = notesOf(session.cookie) ?? {}
    mergeChanges(was, notes, now, this.#store.serializer)
    if (Object.keys(notes).length > 0) setNotes(session.cookie, notes)
  }

  /** Merges into a session what others changed between two stored states. */
  merge(session: Session, base: Stored, theirs: Stored): void {
    const was = this.#parsedAnew(base)
    const now = this.#parsedAnew(theirs)
    mergeChanges(was, session, now, this.#store.serializer)
    mergeSettings(was.cookie, session.cookie, now.cookie)
    this.#mergeNotes(session, storedNotes(was.cookie) ?? {}, storedNotes(now.cookie) ?? {})
  }

  /** Parsed anew, as the objects that were parsed before may be part of a session by now. */
  #parsedAnew(stored: Stored): SessionData {
    return this.#store.serializer.parse((stored.record as SessionRecord).text) as SessionData
  }

  /**
   * Moves a session to a new ID: it is stored there, with what others have changed in the meantime, and a forwarding note
   * replaces it under the old one. Of several requests that do this at the same time one wins; the others get its note.
   * `null` when the session is gone.
   */
  async rename(oldId: string, renamed: Session, from: Stored): Promise<Saved | Overtaken | null> {
    const { serializer } = this.#store
    let known = from
    let saved = await this.save(renamed, serializeData(renamed, serializer), null)
    for (let tries = 1; !(await this.#leaveForwardingNote(oldId, renamed.id, known)); tries++) {
      const theirs = await this.load(oldId)
      const note = theirs && this.forwardingNote(theirs)
      if (!theirs || note || tries === MAX_TRIES) {
        await this.destroy(renamed.id, saved.stored)
        if (theirs && !note) throw conflict(oldId)
        return note ? { ...note, known } : null
      }
      this.merge(renamed, known, theirs)
      saved = await this.save(renamed, serializeData(renamed, serializer), saved.stored)
      known = theirs
    }
    this.#process.replaced(oldId)
    return saved
  }

  /** False when another request was faster. */
  #leaveForwardingNote(id: string, newId: string, from: Stored): MaybePromise<boolean> {
    const { expires: end, version } = from.record as SessionRecord
    const movedAt = Date.now()
    const expires = Math.min(end, movedAt + this.#noteLifetime)
    const text = this.#store.serializer.stringify({ cookie: { sessile: { movedTo: sealId(newId, id), movedAt } } })
    const written = this.#store.write(id, text, expires, { version })
    return afterwards(waitFor(written, 'write', this.#settings.timeout), (newVersion) => newVersion !== null)
  }

  get #noteLifetime(): number {
    return Math.max(MIN_NOTE_LIFETIME, this.#settings.renewalTimeout, this.#settings.renewalGrace)
  }

  /** Gives a forwarding note its own end again, when reading has just renewed it. */
  restoreNoteExpiry(id: string, { movedAt }: ForwardingNote, { record }: Stored): MaybePromise<void> {
    if (!record?.renewed) return
    const renewed = this.#store.renew(id, movedAt + this.#noteLifetime)
    return afterwards(waitFor(renewed, 'renew', this.#settings.timeout), () => undefined)
  }

  /** The forwarding note that a record is, if it is one. */
  forwardingNote(stored: Stored): ForwardingNote | undefined {
    if (!stored.data && !stored.record?.text.startsWith(NOTE_START)) return undefined
    const data = stored.data ?? this.#parsedAnew(stored)
    return forwardingNoteOf(storedNotes(data.cookie))
  }

  /** The same for a record that may not be a session, and whose JSON a store may have formatted differently. */
  #forwardingNoteIn(record: SessionRecord): ForwardingNote | undefined {
    const { serializer } = this.#store
    if (serializer === JSON && !record.text.includes('"movedTo"')) return undefined
    try {
      return forwardingNoteOf(storedNotes((serializer.parse(record.text) as SessionData).cookie))
    } catch {
      return undefined
    }
  }

  /**
   * Loads the newest state, lets `change` make a session of it, and writes that if nobody was faster, else begins again.
   * @throws SessionError when the session is gone or others were faster every time
   */
  update<S extends Session>(
    id: string,
    change: (id: string, newest: SessionData) => MaybePromise<S>,
  ): MaybePromise<{ saved: Saved; session: S }> {
    return this.#process.turns.take(id, async () => {
      for (let tries = 1; tries <= MAX_TRIES; tries++) {
        const found = await this.find(id)
        if (!found) throw destroyed(id)
        const session = await change(found.id, this.dataOf(found.id, found.stored))
        const saved = await this.#write(session, serializeData(session, this.#store.serializer), found.stored)
        if (saved) return { saved, session }
        await pauseAfter(tries)
      }
      throw conflict(id)
    })
  }

  /**
   * Renews a session that has a tenth of its lifetime left, or less. One that was renewed while it was read got the usual
   * lifetime: if its own is another one, as with "remember me", it gets that. A failure is ignored here: the end of the
   * response renews again, and reports it.
   */
  renewIfEnding(id: string, stored: Stored): MaybePromise<Stored> {
    const record = stored.record as SessionRecord
    const now = Date.now()
    const left = record.expires - now
    if (left > LONG_REQUEST && !record.renewed) return stored
    const { originalMaxAge } = this.dataOf(id, stored).cookie
    const lifetime = typeof originalMaxAge === 'number' ? originalMaxAge : this.#settings.ttl
    const isRight = record.renewed ? Math.abs(left - lifetime) < tolerance(lifetime) : left > lifetime / 10
    if (isRight) return stored
    const expires = now + lifetime
    const renewed = { ...stored, record: { ...record, expires, renewed: true } }
    try {
      const renewing = this.renew(id, expires, record)
      if (!isPromise(renewing)) return renewed
      return renewing.then(
        () => renewed,
        () => stored,
      )
    } catch {
      return stored
    }
  }

  touch(session: Session, stored: Stored | undefined): MaybePromise<void> {
    return this.renew(session.id, this.#store.expiresOf(session), stored?.record)
  }

  /** Moves the end of a record, unless reading has done so, or less than `touchAfter` ms have passed since the last time. */
  renew(id: string, expires: number, record: SessionRecord | undefined): MaybePromise<void> {
    const { touchAfter, timeout } = this.#settings
    const later = record ? expires - record.expires : Infinity
    const isRenewed = record?.renewed && Math.abs(later) < tolerance(expires - Date.now())
    if (isRenewed || (!record?.renewed && later >= 0 && later < touchAfter)) return
    const renewed = this.#store.renew(id, expires)
    if (isPromise(renewed)) return afterwards(waitFor(renewed, 'renew', timeout), () => undefined)
  }

  destroy(id: string, from?: Stored | null): MaybePromise<void> {
    this.#process.destroyed(id)
    if (from === null) return afterwards(this.#remove(id), () => undefined)
    return afterwards(from?.record ?? this.#read(id), (record) =>
      record ? this.#destroyRecord(id, record) : undefined,
    )
  }

  /** Removes only the version it knows: what replaced it may be a forwarding note, whose session has to be destroyed. */
  #destroyRecord(id: string, record: SessionRecord, tries = 1): MaybePromise<void> {
    return afterwards(this.#remove(id, record.version), (removed) => {
      if (!removed) {
        if (tries === MAX_TRIES) return afterwards(this.#remove(id), () => undefined)
        return afterwards(this.#read(id), (now) => (now ? this.#destroyRecord(id, now, tries + 1) : undefined))
      }
      const note = this.#forwardingNoteIn(record)
      return note ? this.destroy(openId(note.movedTo, id)) : undefined
    })
  }

  #read(id: string): MaybePromise<SessionRecord | null> {
    return waitFor(this.#store.read(id), 'read', this.#settings.timeout)
  }

  #remove(id: string, version?: Version): MaybePromise<boolean> {
    return waitFor(this.#store.remove(id, version), 'remove', this.#settings.timeout)
  }
}

/** Pauses for a random time, so that those who collided do not do so again. */
function pauseAfter(tries: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.random() * Math.min(tries, MAX_BACKOFF)))
}

function conditionOf(from: Stored | null | undefined): WriteCondition {
  return from === null ? 'absent' : from?.record ? { version: from.record.version } : 'always'
}

/** The error of a save that finds the session gone: expired, by what was known of it, or destroyed. */
function gone(id: string, { record }: Stored): SessionError {
  if (!record || record.expires > Date.now()) return destroyed(id)
  return new SessionError(
    'ERR_SESSION_EXPIRED',
    `session ${shortened(id)} ended while a request was running, whose changes are not saved; give sessions a longer ` +
      'lifetime (cookie.maxAge) than requests take',
  )
}

function idTaken(id: string): SessionError {
  return new SessionError(
    'ERR_SESSION_ID_TAKEN',
    `a new session got the ID ${shortened(id)}, which another session has; see that the option genid gives a new ID every time`,
  )
}

function conflict(id: string): SessionError {
  return new SessionError(
    'ERR_SESSION_CONFLICT',
    `session ${shortened(id)} could not be saved: other requests changed it before each of ${MAX_TRIES} tries`,
  )
}
