import { isUnreadable } from '../base/errors'
import { afterwards, rescue, type MaybePromise } from '../base/maybe-promise'
import type { SessionData } from '../session/augmented'
import { restoreCookie } from '../session/cookie'
import { cookieOf, unnoted } from '../session/noted'
import { notesOf, storedNotes, type SessionNotes } from '../session/notes'
import type { Session } from '../session/session'
import { parseData, takeApart } from '../session/record-text'
import { serializeRecord } from '../session/text'
import { RecordStore, type SessionRecord, type WriteCondition } from './record-store'
import { checkedData } from './store'
import type { AccessSettings, Known, Parts, StoreAccess } from './access'

/** How far, in ms, an end that was moved while reading may be from the one wanted: a request's own duration, mostly. */
export function tolerance(lifetime: number): number {
  return Math.min(60_000, lifetime / 10)
}

/** In ms: some stores keep ends in whole seconds, rounded up. */
const END_PRECISION = 1000

/** Access by the record contract: writes a session only over the stored state that is known. */
export class RecordAccess implements StoreAccess {
  readonly isExact = true
  readonly #store: RecordStore
  readonly #settings: AccessSettings

  constructor(store: RecordStore, settings: AccessSettings) {
    this.#store = store
    this.#settings = settings
  }

  load(key: string, renewTo?: number): MaybePromise<Known | null> {
    return afterwards(this.#store.read(key, renewTo), (record) => record && this.#known(key, record))
  }

  /** A record that never left this process is parsed when it is looked at; any other one now, while an error can reach `next`. */
  #known(key: string, record: SessionRecord): Known {
    const { inProcess, serializer } = this.#store
    const apart = serializer === JSON ? takeApart(record.text) : undefined
    if (apart) {
      const known = { record, text: apart.data, settings: apart.settings, notes: apart.notes }
      return inProcess ? known : { ...known, parts: this.#parse(key, known) }
    }
    const data = checkedData(key, this.#store.parse(key, record))
    return { record, data, notes: storedNotes(data.cookie) }
  }

  dataOf(key: string, known: Known): SessionData {
    return known.data ?? this.#store.parse(key, known.record as SessionRecord)
  }

  partsOf(key: string, known: Known): Parts {
    return known.parts ?? this.#parse(key, known)
  }

  /** The data is parsed apart from the cookie, of which most is known from others. */
  #parse(key: string, known: Known): Parts {
    const record = known.record as SessionRecord
    const { notes, settings, text } = known
    if (text !== undefined && settings && this.#store.parse === RecordStore.prototype.parse) {
      const values = parseData(text)
      if (values) return { values, cookie: restoreCookie(settings, endBy(settings.expires, record), notes) }
    }
    const { cookie, ...values } = checkedData(key, this.dataOf(key, known))
    return { values, cookie: restoreCookie(cookie, endBy(cookie.expires, record), notes) }
  }

  freshDataOf(known: Known): SessionData {
    return this.#store.serializer.parse((known.record as SessionRecord).text) as SessionData
  }

  write(session: Session, dataText: string, known: Known | null | undefined): MaybePromise<Known | null> {
    return this.#write(session, dataText, conditionOf(known))
  }

  writeOver(session: Session, dataText: string): MaybePromise<Known | null> {
    return this.#write(session, dataText, 'present')
  }

  #write(session: Session, dataText: string, condition: WriteCondition): MaybePromise<Known | null> {
    const text = serializeRecord(session, dataText, this.#store.serializer)
    const expires = this.#expiresOf(session)
    return afterwards(this.#store.write(session.id, text, expires, condition), (version) =>
      version === null
        ? null
        : {
            // As good as renewed: the end of the response need not do it again.
            record: { text, expires, version, renewed: true },
            text: dataText,
            notes: notesOf(cookieOf(session)),
          },
    )
  }

  touch(session: Session, known: Known | null | undefined): MaybePromise<boolean> {
    return this.#touch(session.id, this.#expiresOf(session), known?.record)
  }

  #expiresOf(session: Session): number {
    return unnoted(() => this.#store.expiresOf(session))
  }

  touchUnseen(key: string, known: Known, maxAge: number | null): MaybePromise<boolean> {
    return this.#touch(key, Date.now() + (maxAge ?? this.#settings.ttl), known.record)
  }

  /** Moves the end of a record, unless reading has done so, or less than `touchAfter` ms have passed since the last time. */
  #touch(key: string, expires: number, record: SessionRecord | undefined): MaybePromise<boolean> {
    const later = record ? expires - record.expires : Infinity
    if (record?.renewed && Math.abs(later) < tolerance(expires - Date.now())) return true
    const isShorter = later <= -END_PRECISION
    if (!record?.renewed && !isShorter && Math.max(0, later) < this.#settings.touchAfter) return false
    return afterwards(this.#store.renew(key, expires, record?.expires), () => true)
  }

  destroy(key: string): MaybePromise<void> {
    return afterwards(this.#store.remove(key), () => undefined)
  }

  /** Removes it as it is known, and if others have changed it, as they have: so it is known what was noted at its end. */
  destroyKnown(key: string, known: Known | null | undefined): MaybePromise<SessionNotes | undefined> {
    return afterwards(known?.record ? known : this.#readable(key), (found) => {
      if (!found?.record) return afterwards(this.destroy(key), () => known?.notes)
      return afterwards(this.#store.remove(key, found.record.version), (isRemoved) =>
        isRemoved
          ? found.notes
          : afterwards(this.#store.read(key), (now) => (now ? this.destroyKnown(key, null) : found.notes)),
      )
    })
  }

  /** `null` for a record that cannot be read: it is removed like any other. */
  #readable(key: string): MaybePromise<Known | null> {
    return rescue(
      () => this.load(key),
      (error) => {
        if (!isUnreadable(error)) throw error
        return null
      },
    )
  }
}

/** A cookie that has an end has that of its record. */
function endBy<T>(expires: T, record: SessionRecord): Date | T {
  return expires ? new Date(record.expires) : expires
}

function conditionOf(known: Known | null | undefined): WriteCondition {
  return known === null ? 'absent' : known?.record ? { version: known.record.version } : 'always'
}
