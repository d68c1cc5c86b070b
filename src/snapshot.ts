import { isSameData, type DataText } from './changes'
import { isSameSettings, settingsOf, type CookieSettings } from './cookie'
import type { Session } from './session'

/** What a session was at some time: its data and its cookie's settings. */
export class Snapshot {
  readonly #id: string
  readonly #data: DataText
  readonly #settings: CookieSettings

  constructor(session: Session, data: DataText, settings = settingsOf(session.cookie)) {
    this.#id = session.id
    this.#data = data
    this.#settings = settings
  }

  /** Whether it is this session, and not another one that took its place, whose data has this text now. */
  hasData(session: Session, text: string): boolean {
    return this.#id === session.id && isSameData(this.#data, text)
  }

  /** Whether it is this session, and its cookie's settings are what they were. */
  hasSettings(session: Session): boolean {
    return this.#id === session.id && isSameSettings(this.#settings, session.cookie)
  }

  isOf(session: Session): boolean {
    return this.#id === session.id
  }
}
