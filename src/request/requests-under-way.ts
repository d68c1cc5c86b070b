import type { ServerResponse } from 'node:http'
import type { Presented } from './signer'

/** A request that has a session. */
interface Visit {
  readonly claim: { readonly held: Presented | undefined; readonly key: string | undefined }
  leave(): void
}

/** The requests under way in this process, by the key of their session: so that one whose session is ended learns of it. */
export class RequestsUnderWay {
  readonly #visits = new Map<string, Set<Visit>>()

  enter(key: string, visit: Visit): void {
    const visits = this.#visits.get(key)
    if (visits) visits.add(visit)
    else this.#visits.set(key, new Set([visit]))
  }

  /** A response is closed once, whoever has ended it. */
  exitAtClose(res: ServerResponse, visit: Visit): void {
    if (typeof res.once === 'function') res.once('close', () => this.exit(visit))
  }

  exit(visit: Visit): void {
    const key = visit.claim.held?.key
    const visits = key === undefined ? undefined : this.#visits.get(key)
    if (!visits?.delete(visit) || visits.size > 0) return
    this.#visits.delete(key as string)
  }

  get size(): number {
    return this.#visits.size
  }

  /** The session has ended: requests that have gone on with a new one stay in that. */
  leave(key: string): void {
    for (const visit of this.#visits.get(key) ?? []) if (visit.claim.key === key) visit.leave()
    this.#visits.delete(key)
  }

  leaveThose(haveEnded: (key: string) => boolean): void {
    for (const key of this.#visits.keys()) if (haveEnded(key)) this.leave(key)
  }
}

/** Where no request needs to learn of it. */
export const NOBODY: RequestsUnderWay = Object.assign(Object.create(RequestsUnderWay.prototype) as RequestsUnderWay, {
  enter: () => undefined,
  exitAtClose: () => undefined,
  exit: () => undefined,
  leave: () => undefined,
  leaveThose: () => undefined,
})
