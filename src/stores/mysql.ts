import { createHash } from 'node:crypto'
import { optionsOf } from '../base/checks'
import {
  DEFAULT_TTL,
  RecordStore,
  type RecordPage,
  type SessionRecord,
  type WriteCondition,
  type Version,
} from '../store/record-store'
import { Batches, Renewals, type Renewal } from './batches'
import { repeatOnce } from './issue-again'
import { surviveLostConnections } from './lost-connections'
import { findings } from './mysql-check'
import { codeOf, isCut, MysqlConnection } from './mysql-connection'
import { MysqlLinks, now } from './mysql-links'
import { connect, OPTIONS, type MysqlStoreOptions } from './mysql-options'
import { chunks, MANY, padded, statements, type Statements } from './mysql-statements'
import { MysqlText } from './mysql-text'
import { Pruning } from './pruning'

export type { MysqlStoreOptions }

interface Row {
  id: string
  text: string
  expires: number
  version: string
}

const CHECK_INTERVAL = 900_000
/** The last second that an unsigned INT holds, in the year 2106. */
const LAST_SECOND = 2 ** 32 - 1

/**
 * Sessions in MySQL 8 or MariaDB 10.6 and later, in the table of express-mysql-session. It has ends in whole seconds since the
 * epoch, so a session lives up to a second longer, and time zones do not matter. The version of a record is a hash of its text,
 * which the server computes to compare. The reads of one turn of the event loop go together, and so do renewals, ten times a
 * second at most.
 */
export class MysqlStore extends RecordStore {
  readonly #connection: MysqlConnection
  readonly #endOnClose: boolean
  readonly #sql: Statements
  readonly #text: MysqlText
  readonly #links: MysqlLinks
  readonly #pruning: Pruning
  readonly #reads = new Batches<string, Row | undefined>({
    of: { store: 'MysqlStore', kind: 'read' },
    send: (ids) => repeatOnce(() => this.#readMany(ids), isCut),
    limit: MANY,
    join: (id) => id,
    mayBeOnesFault,
  })
  readonly #renewals = new Renewals('MysqlStore', (renewals) => this.#renewMany(renewals), mayBeOnesFault, MANY)
  /** The ID up to which this run has pruned: there is no index by end, and a step must not search the table from its start. */
  #prunedTo = ''
  #closing: Promise<void> | undefined

  /** @throws OptionError when an option cannot be used, or `mysql2` is to be loaded and is not installed */
  constructor(options: MysqlStoreOptions) {
    super()
    const given = optionsOf(this, MysqlStore, options, OPTIONS)
    const { pool, schema = {}, expiration = DEFAULT_TTL, createDatabaseTable = true, serializer } = given
    const { clearExpired = true, checkExpirationInterval = CHECK_INTERVAL, errorLog = console.error } = given
    this.#sql = statements(schema)
    const connection = connect(given)
    surviveLostConnections(pool ?? connection, (error) => errorLog('sessile/mysql: a connection was lost:', error))
    this.#connection = new MysqlConnection(connection, createDatabaseTable)
    this.#links = new MysqlLinks(this.#connection, this.#sql)
    this.#text = new MysqlText(this.#connection, this.#sql)
    this.#endOnClose = given.endConnectionOnClose ?? !pool
    this.ttl = expiration
    if (serializer) this.serializer = serializer
    const report = (error: unknown): void => errorLog('sessile/mysql: expired sessions could not be deleted:', error)
    this.#pruning = new Pruning((limit) => this.prune(limit), clearExpired ? checkExpirationInterval : 0, report)
  }

  async read(id: string): Promise<SessionRecord | null> {
    const key = stored(id)
    const row = await this.#reads.ask(key, key)
    return row ? toRecord(row) : null
  }

  /** By the exact ID, whatever the collation of the column takes for the same. */
  async #readMany(ids: string[]): Promise<(Row | undefined)[]> {
    const { read, readMany } = this.#sql
    const rows = await (ids.length === 1
      ? this.#query<Row[]>(read, [ids[0], now()])
      : this.#query<Row[]>(readMany, [...padded(ids), now()]))
    const found = new Map(rows.map((row) => [row.id, row]))
    return ids.map((id) => found.get(id))
  }

  async write(sessionId: string, text: string, expires: number, condition: WriteCondition): Promise<string | null> {
    await this.#text.demandFit(sessionId, text)
    const id = stored(sessionId)
    const end = seconds(expires)
    const { writeAlways, writePresent, writeVersion } = this.#sql
    const written = await (condition === 'always'
      ? this.#query(writeAlways, [id, end, text])
      : condition === 'absent'
        ? this.#insert(id, end, text)
        : condition === 'present'
          ? this.#found(writePresent, [text, end, id, now()])
          : this.#found(writeVersion, [text, end, id, now(), condition.version]))
    if (!written) return null
    this.#renewals.written(id, end * 1000)
    return createHash('sha256').update(text).digest('hex')
  }

  /** Inserts, or takes the place of an expired record. */
  async #insert(id: string, end: number, text: string): Promise<number> {
    try {
      return await this.#found(this.#sql.insert, [id, end, text])
    } catch (error) {
      if (codeOf(error) !== 'ER_DUP_ENTRY') throw error
      return this.#found(this.#sql.writeExpired, [text, end, id, now()])
    }
  }

  /** Given `from`, it may wait a tenth of a second for others to go with. */
  async renew(sessionId: string, expires: number, from?: number): Promise<boolean> {
    const id = stored(sessionId)
    const end = seconds(expires) * 1000
    if (from !== undefined) return this.#renewals.renew({ id, from: seconds(from) * 1000, expires: end })
    const renewed = await this.#found(this.#sql.renew, [end / 1000, id, now()])
    if (renewed) this.#renewals.written(id, end)
    return renewed > 0
  }

  /** The server tells how many it has renewed. Unless those are all, which ones is seen by their ends. */
  async #renewMany(renewals: Renewal[]): Promise<boolean[]> {
    const all = padded(renewals)
    const ids = all.map(({ id }) => id)
    const [first] = renewals as [Renewal]
    const renewed = await (renewals.length === 1
      ? this.#found(this.#sql.renewFrom, [first.expires / 1000, first.id, now(), first.from / 1000])
      : this.#found(this.#sql.renewMany, [
          ...all.flatMap(({ id, expires }) => [id, expires / 1000]),
          ...ids,
          now(),
          ...all.flatMap(({ id, from }) => [id, from / 1000]),
        ]))
    if (renewed === renewals.length || renewed === 0) return renewals.map(() => renewed > 0)
    const ends = await this.#links.endsOf(renewals.map(({ id }) => id))
    return renewals.map(({ id, expires }) => ends.get(id) === expires / 1000)
  }

  /** Leaves an expired record to pruning. */
  async remove(sessionId: string, version?: Version): Promise<boolean> {
    const id = stored(sessionId)
    const { remove, removeVersion } = this.#sql
    const values = version === undefined ? [id, now()] : [id, now(), version]
    const removed = await this.#found(version === undefined ? remove : removeVersion, values)
    if (removed) this.#renewals.removed(id)
    return removed > 0
  }

  async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    const values = cursor === null ? [now()] : [stored(cursor), now()]
    const rows = await this.#query<Row[]>(this.#sql.scan(limit, cursor === null), values)
    return { records: rows.map(toRecord), cursor: rows.length < limit ? null : given((rows.at(-1) as Row).id) }
  }

  /**
   * Looks for expired records first, which locks none, and deletes by ID, which locks no others, so several processes may
   * prune at the same time. Links count as records.
   */
  override async prune(limit: number): Promise<number> {
    let pruned = 0
    while (pruned < limit) {
      const isFirst = this.#prunedTo === ''
      const rows = await this.#query<Row[]>(this.#sql.ended(isFirst), isFirst ? [now()] : [this.#prunedTo, now()])
      const ids = rows.slice(0, limit - pruned).map(({ id }) => id)
      if (ids.length > 0) pruned += await this.#found(this.#sql.prune, [...padded(ids), now()])
      const isLast = rows.length < MANY && ids.length === rows.length
      this.#prunedTo = isLast ? '' : (ids.at(-1) as string)
      if (isLast) return pruned + (await this.#links.prune(limit - pruned))
    }
    return pruned
  }

  /** The links first, so that a session that is linked and written meanwhile is not left without its link. */
  override async removeAll(): Promise<void> {
    await this.#links.removeAll()
    await this.#query(this.#sql.removeAll, [])
  }

  override async count(): Promise<number> {
    const [row] = await this.#query<[{ count: number }]>(this.#sql.count, [now()])
    return Number(row.count)
  }

  override link(user: string, id: string, expires: number): Promise<void> {
    return this.#links.add(user, stored(id), seconds(expires))
  }

  override unlink(user: string, id: string): Promise<void> {
    return this.#links.delete(user, [stored(id)])
  }

  override async linked(user: string): Promise<string[]> {
    return (await this.#links.of(user)).map(given)
  }

  /** The server tells how many it has deleted: when others delete the same ones meanwhile, theirs count as well. */
  override async removeLinked(user: string, ids: readonly string[]): Promise<readonly boolean[]> {
    const removed = await Promise.all(chunks(ids.map(stored)).map((some) => this.#removeLinked(user, some)))
    return removed.flat()
  }

  async #removeLinked(user: string, ids: string[]): Promise<boolean[]> {
    const live = await this.#links.endsOf(ids)
    const found = ids.filter((id) => live.has(id))
    const removed = found.length > 0 ? await this.#found(this.#sql.removeMany, [...padded(found), now()]) : 0
    if (removed > 0) {
      for (const id of found) this.#renewals.removed(id)
      await this.#links.delete(user, found)
    }
    return ids.map((id) => removed > 0 && live.has(id))
  }

  override check(): Promise<string[]> {
    return findings(this.#connection, this.#sql)
  }

  /** Sends the renewals that wait, and ends what the store has opened. */
  override close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    await Promise.all([this.#pruning.stop(), this.#reads.flush(), this.#renewals.flush()])
    if (this.#endOnClose) await this.#connection.end()
  }

  #query<T>(sql: string, values: unknown[]): Promise<T> {
    this.#pruning.start()
    return this.#connection.query<T>(sql, values, this.#sql.tables)
  }

  /** How many rows were found; a client without the flag FOUND_ROWS counts only those whose values have changed. */
  async #found(sql: string, values: unknown[]): Promise<number> {
    const { affectedRows, info } = await this.#query<{ affectedRows: number; info?: string }>(sql, values)
    return Number(/matched: (\d+)/.exec(info ?? '')?.[1] ?? affectedRows)
  }
}

function toRecord({ id, text, expires, version }: Row): SessionRecord & { id: string } {
  return { id: given(id), text, expires: expires * 1000, version }
}

/** What stands for an ID in the tables, where spaces at the end make no difference: one more character makes it. */
function stored(id: string): string {
  return / \x7f*$/.test(id) ? `${id}\x7f` : id
}

function given(id: string): string {
  return / \x7f+$/.test(id) ? id.slice(0, -1) : id
}

/** Rounded up, so that nothing ends early. */
function seconds(expires: number): number {
  return Math.min(Math.max(0, Math.ceil(expires / 1000)), LAST_SECOND)
}

/** An ID with characters that the column cannot have, or a row that somebody keeps locked. */
function mayBeOnesFault(error: unknown): boolean {
  return /^ER_(CANT_AGGREGATE|CANNOT_CONVERT|TRUNCATED_WRONG_VALUE|LOCK_WAIT_TIMEOUT)/.test(codeOf(error))
}
