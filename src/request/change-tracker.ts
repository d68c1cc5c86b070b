import { isSameData, serializeData, wholeText, type DataText } from '../session/changes'
import { isSameSettings, settingsOf, type CookieSettings } from '../session/cookie'
import type { Serializer } from '../store/record-store'
import type { Session } from '../session/session'
import type { Saved, Stored } from '../store/store-access'

/** A session at some point in time: its data and its cookie's settings. */
class Snapshot {
  readonly #id: string
  readonly #data: DataText
  readonly #settings: CookieSettings

  constructor(session: Session, data: DataText, settings = settingsOf(session.cookie)) {
    this.#id = session.id
    this.#data = data
    this.#settings = settings
  }

  /** Whether it is of this session, and not of another one that took its place. */
  isOf(session: Session): boolean {
    return this.#id === session.id
  }

  /** Whether it is of this session, and the data is the same; `text` is that of its data now. */
  hasData(session: Session, text: string): boolean {
    return this.isOf(session) && isSameData(this.#data, text)
  }

  /** Whether it is of this session, and its cookie's settings are the same. */
  hasSettings(session: Session): boolean {
    return this.isOf(session) && isSameSettings(this.#settings, session.cookie)
  }
}

/** What a request knows of its session in the store, and whether the session has changed since it came from there. */
export class ChangeTracker {
  /** What is known of the session in the store: `null` when the store never had it, `undefined` when nothing is. */
  stored: Stored | null | undefined
  /** The ID that `stored` belongs to. */
  id: string | undefined

  readonly #serializer: Serializer
  /** The session as it came: loaded, or just generated. */
  #original: Snapshot | undefined
  /** Whether the session was made in this request, so that its client does not know it yet. */
  #isNew = false
  /** The session as the store has it. */
  #saved: Snapshot | undefined
  /** The session as the application failed to save it. */
  #failed: Snapshot | undefined

  constructor(serializer: Serializer) {
    this.#serializer = serializer
  }

  /** What is known of this session: nothing of one that the application has made itself, for another ID. */
  storedOf(session: Session): Stored | null | undefined {
    return session.id === this.id ? this.stored : undefined
  }

  /** Remembers what the store has under an ID. */
  found(id: string, stored: Stored | null): void {
    this.id = id
    this.stored = stored
  }

  /** A new session is on the request. */
  generated(session: Session): void {
    this.#isNew = true
    this.#original = this.#snapshot(session)
  }

  /** The session on the request is made of what the store has. Reloading one that is new does not make it less so. */
  loaded(session: Session, data?: DataText): void {
    this.#saved = data ? new Snapshot(session, data) : this.#snapshot(session)
    const isSame = this.#original?.isOf(session) ?? true
    if (isSame && !this.#isNew) this.#original = this.#saved
  }

  /** The store was given the session, with these settings of its cookie. */
  saved(session: Session, { stored, dataText }: Saved, settings?: CookieSettings): void {
    this.found(session.id, stored)
    this.#saved = new Snapshot(session, wholeText(dataText), settings)
  }

  /** The application's own save has failed, and it was told. */
  failed(session: Session, text: string): void {
    this.#failed = new Snapshot(session, wholeText(text))
  }

  forgetFailure(): void {
    this.#failed = undefined
  }

  /** Whether a save of just this has failed. */
  hasFailedAs(session: Session, text: string): boolean {
    return this.#failed?.hasData(session, text) === true && this.#failed.hasSettings(session)
  }

  /** The session has a new ID, under which the store has this; what was changed here is still to be saved. */
  movedTo(session: Session, stored: Stored, isChanged: boolean): void {
    this.found(session.id, stored)
    this.#saved = isChanged ? undefined : this.#snapshot(session)
  }

  #snapshot(session: Session): Snapshot {
    return new Snapshot(session, wholeText(serializeData(session, this.#serializer)))
  }

  /** Whether another request of this process has destroyed the session meanwhile. */
  get isDestroyed(): boolean {
    return this.stored ? this.stored.process.wasDestroyed(this.id as string, this.stored.since) : false
  }

  /** Whether another request of this process has given the session a new ID meanwhile. */
  get isReplaced(): boolean {
    return this.stored ? this.stored.process.wasReplaced(this.id as string, this.stored.since) : false
  }

  /** Whether the session's data is what was loaded or generated; `text` is that of the data now. */
  cameAs(session: Session, text: string): boolean {
    return this.#original?.hasData(session, text) === true
  }

  /** Whether it is the session that was loaded or generated, and its cookie's settings have changed. */
  hasOtherSettings(session: Session): boolean {
    return this.#original?.isOf(session) === true && !this.#original.hasSettings(session)
  }

  /** Whether the session's data is what the store has; `text` is that of the data now. */
  isStoredAs(session: Session, text: string): boolean {
    return this.#saved?.hasData(session, text) === true
  }

  /** Whether the store has the settings of the session's cookie. */
  hasStoredSettings(session: Session): boolean {
    return this.#saved?.hasSettings(session) === true
  }

  /** Whether the store was given the session, or it came from there. */
  get isEverSaved(): boolean {
    return this.#saved !== undefined
  }

  /** Whether the session came from the store and was not given to it since. */
  get isOnlyLoaded(): boolean {
    return this.#saved === this.#original
  }
}
