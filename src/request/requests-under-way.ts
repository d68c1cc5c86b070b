import type { Visit } from './visit'

/** The requests under way in this process, by the key of their session: so that one whose session is ended learns of it. */
export class RequestsUnderWay {
  readonly #visits = new Map<string, Set<Visit>>()

  enter(key: string, visit: Visit): void {
    const visits = this.#visits.get(key)
    if (visits) visits.add(visit)
    else this.#visits.set(key, new Set([visit]))
  }

  /** The request has ended. */
  exit(key: string, visit: Visit): void {
    const visits = this.#visits.get(key)
    if (!visits?.delete(visit) || visits.size > 0) return
    this.#visits.delete(key)
  }

  /** The session has ended. */
  leave(key: string): void {
    for (const visit of this.#visits.get(key) ?? []) visit.leave()
    this.#visits.delete(key)
  }
}

/** Where no request needs to learn of it. */
export const NOBODY: RequestsUnderWay = Object.assign(Object.create(RequestsUnderWay.prototype) as RequestsUnderWay, {
  enter: () => undefined,
  exit: () => undefined,
  leave: () => undefined,
})
