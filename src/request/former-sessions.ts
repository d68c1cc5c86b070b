import { mergeChanges, serializeData } from '../session/changes'
import type { Serializer } from '../store/record-store'
import type { LiveSession, Session } from '../session/session'

/**
 * The session objects of one request that are not its session any more, though the application may still hold them: those
 * that were destroyed, and those in whose place another one stands, as the session has a new ID.
 */
export class FormerSessions {
  readonly #serializer: Serializer
  readonly #destroyed = new WeakSet<Session>()
  /** What stands in a session's place, and the text of its data when it was replaced. */
  readonly #replaced = new WeakMap<Session, { by: LiveSession; was: string }>()

  constructor(serializer: Serializer) {
    this.#serializer = serializer
  }

  /** A session that this request has destroyed, or found destroyed, is not stored any more. */
  addDestroyed(session: Session): void {
    this.#destroyed.add(session)
  }

  isDestroyed(session: Session): boolean {
    return this.#destroyed.has(session)
  }

  /** Stored under its former ID, the session would be there twice, or come back after a logout. */
  addReplaced(session: LiveSession, by: LiveSession): void {
    this.#replaced.set(session, { by, was: serializeData(session, this.#serializer) })
  }

  /** The object that stands for the session now, with what was changed in the former ones since they were replaced. */
  latest(session: Session): LiveSession {
    const replaced = this.#replaced.get(session)
    if (!replaced) return session
    const serializer = this.#serializer
    const now = serializeData(session, serializer)
    if (now !== replaced.was) {
      mergeChanges(serializer.parse(replaced.was) as object, replaced.by, serializer.parse(now) as object, serializer)
      replaced.was = now
    }
    return this.latest(replaced.by)
  }
}
