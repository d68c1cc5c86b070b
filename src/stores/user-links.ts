/**
 * Whose the sessions of a memory store are: pairs of a user and a session ID. Those of a session that is not stored yet wait for it
 * until they end, the others leave with their session.
 */
export class UserLinks {
  readonly #sessions = new Map<string, Set<string>>()
  /** In arrays, which are small: hardly a session is two users' at once. */
  readonly #users = new Map<string, string[]>()
  /** When the links of sessions that are not stored end. */
  readonly #awaited = new Map<string, number>()

  /** Whether a session is anybody's. */
  has(id: string): boolean {
    return this.#users.has(id)
  }

  sessionsOf(user: string): string[] {
    return [...(this.#sessions.get(user) ?? [])]
  }

  add(user: string, id: string): void {
    const sessions = this.#sessions.get(user)
    if (sessions?.has(id)) return
    if (sessions) sessions.add(id)
    else this.#sessions.set(user, new Set([id]))
    const users = this.#users.get(id)
    if (users) users.push(user)
    else this.#users.set(id, [user])
  }

  /** False when there was no such link. */
  delete(user: string, id: string): boolean {
    const users = this.#users.get(id)
    if (!users?.includes(user)) return false
    this.#deleteSession(user, id)
    if (users.length > 1) users.splice(users.indexOf(user), 1)
    else {
      this.#users.delete(id)
      this.#awaited.delete(id)
    }
    return true
  }

  /** Deletes all links of a session. */
  forget(id: string): void {
    for (const user of this.#users.get(id) ?? []) this.#deleteSession(user, id)
    this.#users.delete(id)
    this.#awaited.delete(id)
  }

  /** Has the links of a session that is not stored end by themselves; the latest end that was given counts. */
  await(id: string, expires: number): void {
    this.#awaited.set(id, Math.max(expires, this.#awaited.get(id) ?? expires))
  }

  stopAwaiting(id: string): void {
    this.#awaited.delete(id)
  }

  get firstEnd(): number {
    let first = Infinity
    for (const end of this.#awaited.values()) if (end < first) first = end
    return first
  }

  /** Deletes what has waited long enough, for so many sessions at most, and says for how many. */
  prune(by: number, limit: number): number {
    let pruned = 0
    for (const [id, end] of this.#awaited) {
      if (pruned >= limit) break
      if (end > by) continue
      this.forget(id)
      pruned++
    }
    return pruned
  }

  #deleteSession(user: string, id: string): void {
    const sessions = this.#sessions.get(user)
    sessions?.delete(id)
    if (sessions?.size === 0) this.#sessions.delete(user)
  }
}
