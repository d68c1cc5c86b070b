import { isSameSettings, settingsOf, type CookieSettings } from '../session/cookie'
import { cookieOf } from '../session/noted'
import type { Session } from '../session/session'
import { serializeData, type Serializer } from '../session/text'

/** A session at some point in time: its data and its cookie's settings. */
class Snapshot {
  readonly #session: Session
  readonly #key: string
  readonly #settings: CookieSettings

  constructor(
    session: Session,
    readonly data: string,
  ) {
    this.#session = session
    this.#key = session.id
    this.#settings = settingsOf(cookieOf(session))
  }

  /** Whether it is of this session, and not of another one that took its place. */
  isOf(session: Session): boolean {
    return this.#session === session || this.#key === session.id
  }

  /** `text` is that of the session's data now. */
  hasData(session: Session, text: string): boolean {
    return this.isOf(session) && this.data === text
  }

  hasSettings(session: Session): boolean {
    return this.isOf(session) && isSameSettings(this.#settings, cookieOf(session))
  }
}

/** What a request's session is compared with: how it came, how it is stored, and how it could not be stored. */
export class Comparison {
  readonly #serializer: Serializer
  /** As it was loaded, or generated in this request. */
  #original: Snapshot | undefined
  #isNew = false
  #stored: Snapshot | undefined
  #failed: Snapshot | undefined

  constructor(serializer: Serializer) {
    this.#serializer = serializer
  }

  /** `data` is the text of the session's data, here and below. */
  generated(session: Session, data = serializeData(session, this.#serializer)): void {
    this.#isNew = true
    this.#original = new Snapshot(session, data)
  }

  /** The session is made of what the store has. One that is new does not become less so by being loaded again. */
  loaded(session: Session, data = serializeData(session, this.#serializer)): void {
    this.#stored = new Snapshot(session, data)
    if (!this.#isNew && (this.#original?.isOf(session) ?? true)) this.#original = this.#stored
  }

  stored(session: Session, text: string): void {
    this.#stored = new Snapshot(session, text)
  }

  /** The application's own save has failed, and it was told. */
  failed(session: Session, text: string): void {
    this.#failed = new Snapshot(session, text)
  }

  forgetFailure(): void {
    this.#failed = undefined
  }

  /** Whether a save of just this has failed. */
  hasFailedAs(session: Session, text: string): boolean {
    return this.#failed?.hasData(session, text) === true && this.#failed.hasSettings(session)
  }

  cameAs(session: Session, text: string): boolean {
    return this.#original?.hasData(session, text) === true
  }

  /** Whether it is the session that came, with other settings of its cookie. */
  hasOtherSettings(session: Session): boolean {
    return this.#original?.isOf(session) === true && !this.#original.hasSettings(session)
  }

  isStoredAs(session: Session, text: string): boolean {
    return this.#stored?.hasData(session, text) === true
  }

  hasStoredSettings(session: Session): boolean {
    return this.#stored?.hasSettings(session) === true
  }

  /** Whether the store was given the session, or it came from there. */
  get isEverStored(): boolean {
    return this.#stored !== undefined
  }

  get isOnlyLoaded(): boolean {
    return this.#stored === this.#original
  }
}
