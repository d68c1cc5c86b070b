import { codeOf, isTableMissing, type MysqlConnection } from './mysql-connection'
import { chunks, MANY, padded, type Statements } from './mysql-statements'
import { userKey } from './user-key'

interface Link {
  /** As stored. */
  user: Buffer
  id: string
  expires: number
}

/** The bytes of a user that the table holds. */
const LONGEST_USER = 767

/**
 * Whose the sessions are: pairs of a user and an ID, with an end. A link without a session is kept until its own end, as the
 * session may be about to be written; one with a session lives as long. Ends are in seconds since the epoch.
 */
export class MysqlLinks {
  constructor(
    private readonly connection: MysqlConnection,
    private readonly sql: Statements,
  ) {}

  async add(user: string, id: string, expires: number): Promise<void> {
    await this.#query(this.sql.link, [keyOf(user), id, expires])
  }

  async delete(user: string, ids: string[]): Promise<void> {
    await this.#query(this.sql.unlink, [keyOf(user), ...padded(ids)])
  }

  async of(user: string): Promise<string[]> {
    const links = await this.#query<Link[]>(this.sql.linked, [keyOf(user)])
    const time = now()
    const ended = links.filter(({ expires }) => expires <= time)
    const outlasted = await Promise.all(chunks(ended).map((some) => this.#settle(some)))
    return [...links.filter(({ expires }) => expires > time).map(({ id }) => id), ...outlasted.flat()]
  }

  async removeAll(): Promise<void> {
    await this.#inAnyCase(this.sql.removeLinks, [])
  }

  /** Settles links that have ended, and says how many. */
  async prune(limit: number): Promise<number> {
    for (let pruned = 0; ;) {
      const ended = (await this.#inAnyCase<Link[]>(this.sql.endedLinks, [now()])) ?? []
      const some = ended.slice(0, limit - pruned)
      await this.#settle(some)
      pruned += some.length
      if (ended.length < MANY || pruned === limit) return pruned
    }
  }

  /** Deletes links, or, where the session lives on, has them end with it, and answers the sessions of those. */
  async #settle(links: Link[]): Promise<string[]> {
    const ends = await this.endsOf(links.map(({ id }) => id))
    const live = links.filter(({ id }) => ends.has(id))
    const gone = links.filter(({ id }) => !ends.has(id))
    const among = (some: Link[]): unknown[] => [...padded(some).flatMap(({ user, id }) => [user, id]), now()]
    if (gone.length > 0) await this.#inAnyCase(this.sql.unlinkMany, among(gone))
    if (live.length > 0) {
      const newEnds = padded(live).flatMap(({ id }) => [id, ends.get(id)])
      await this.#inAnyCase(this.sql.renewLinks, [...newEnds, ...among(live)])
    }
    return live.map(({ id }) => id)
  }

  /** The ends of those of `MANY` sessions at most that live. */
  async endsOf(ids: string[]): Promise<Map<string, number>> {
    if (ids.length === 0) return new Map()
    const values = [...padded(ids), now()]
    const rows = await this.connection.query<Omit<Link, 'user'>[]>(this.sql.endsOfMany, values, this.sql.tables)
    return new Map(rows.map(({ id, expires }) => [id, expires]))
  }

  #query<T>(sql: string, values: unknown[]): Promise<T> {
    return this.connection.query<T>(sql, values, this.sql.allTables)
  }

  /** For what is done without being asked for: the table is made with the first link, and its rights may be others'. */
  async #inAnyCase<T>(sql: string, values: unknown[]): Promise<T | undefined> {
    try {
      return (await this.connection.execute(sql, values)) as T
    } catch (error) {
      if (isTableMissing(error) || codeOf(error) === 'ER_TABLEACCESS_DENIED_ERROR') return undefined
      throw error
    }
  }
}

function keyOf(user: string): string {
  return userKey(user, LONGEST_USER)
}

export function now(): number {
  return Math.floor(Date.now() / 1000)
}
