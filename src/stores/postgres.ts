import { optionsOf } from '../base/checks'
import {
  DEFAULT_TTL,
  endOf,
  RecordStore,
  type RecordPage,
  type SessionRecord,
  type Version,
  type WriteCondition,
} from '../store/record-store'
import { Batches, Renewals } from './batches'
import { repeatOnce } from './issue-again'
import { surviveLostConnections } from './lost-connections'
import {
  invalid,
  openPool,
  OPTIONS,
  pruneInterval,
  settingsOf,
  type PostgresQueryable,
  type PostgresStoreOptions,
} from './postgres-options'
import { namesOf, type Statements } from './postgres-sql'
import { isCut, mayBeOnesFault, PostgresTables, type Row } from './postgres-tables'
import { Pruning } from './pruning'
import { userKey } from './user-key'

export type { PostgresQueryable, PostgresStoreOptions }

/** What is asked of a session; each kind has the fields that it needs. */
interface Asked {
  readonly id: string
  readonly text?: string
  readonly expires?: number
  /** The version that it has to have, or the end; none for any. */
  readonly version?: Version | undefined
  readonly from?: number | undefined
  readonly user?: string
}

type Answers = Promise<(Row | undefined)[]>

/** The most sessions that go together, and the longest text, in characters, that does not go alone. */
const MOST = 100
const LONGEST_TOGETHER = 16_384
/** The bytes of a user's ID that a row of an index surely holds. */
const LONGEST_USER = 1024

/**
 * Sessions in PostgreSQL, in the table of connect-pg-simple, whose column `sess` may be `json` or `jsonb` (`jsonb` refuses
 * U+0000 and halves of surrogate pairs). The version of a record is a hash of its text, made by the server, so that writes of
 * other software change it, too. What is asked for in one turn of the event loop goes together, one statement for each kind;
 * renewals of what was read leave ten times a second at most. The statement of a kind is the same however many it is for (a
 * write that is alone has another), and none has a name, so that PgBouncer may pool by transaction.
 */
export class PostgresStore extends RecordStore {
  readonly #pool: PostgresQueryable
  readonly #ownPool: { end(): Promise<void> } | undefined
  readonly #tables: PostgresTables
  readonly #ttlOf: (session: object) => number
  readonly #pruning: Pruning
  #closing: Promise<void> | undefined

  readonly #batches: { flush(): Promise<void> }[] = []
  readonly #reads = this.#together(
    'read',
    (reads) => this.#read(reads),
    (read) => read,
  )
  readonly #inserts = this.#together('insert', (writes) => this.#insert(writes, []))
  readonly #overwrites = this.#together('overwrite', (writes) => this.#insert(writes, of(writes, 'id')))
  readonly #updates = this.#together('update', (writes) => this.#update(writes))
  readonly #removals = this.#together('remove', (removals) => this.#ask('remove', removals, [of(removals, 'version')]))
  readonly #touches = this.#together(
    'touch',
    (touches) => this.#renew(touches),
    (_, later) => later,
  )
  readonly #renewals = new Renewals(
    'PostgresStore',
    async (renewals) => (await this.#renew(renewals)).map(Boolean),
    mayBeOnesFault,
    MOST,
  )
  readonly #links = this.#together('link', (links) =>
    this.#askUsers('link', links, [of(links, 'user'), of(links, 'expires')]),
  )
  readonly #unlinks = this.#together('unlink', (links) => this.#askUsers('unlink', links, [of(links, 'user')]))

  /** @throws OptionError when an option cannot be used, or `pg` is to be loaded and is not installed */
  constructor(options?: PostgresStoreOptions) {
    super()
    const given = optionsOf(this, PostgresStore, options, OPTIONS)
    const { tableName = 'session', schemaName, createTableIfMissing = false, serializer } = given
    const { ttl = DEFAULT_TTL / 1000, errorLog = console.error } = given
    if (given.pool) this.#pool = given.pool
    else this.#pool = this.#ownPool = openPool(settingsOf(given))
    surviveLostConnections(this.#pool, (error) => errorLog('sessile/postgres: an idle connection was lost:', error))
    if (typeof ttl === 'number') this.ttl = ttl * 1000
    this.#ttlOf = typeof ttl === 'function' ? ttl : () => ttl
    if (serializer) this.serializer = serializer
    this.#tables = new PostgresTables(this.#pool, namesOf(schemaName, tableName), createTableIfMissing)
    const report = (error: unknown): void => errorLog('sessile/postgres: expired sessions could not be deleted:', error)
    this.#pruning = new Pruning((limit) => this.prune(limit), pruneInterval(given), report)
  }

  override expiresOf(data: { cookie?: { expires?: unknown } }): number {
    const end = endOf(data)
    if (end !== undefined) return end
    const ttl: unknown = this.#ttlOf(data)
    if (typeof ttl === 'number' && !Number.isNaN(ttl)) return Date.now() + ttl * 1000
    throw invalid(`option ttl must return a number of seconds; it returned ${String(ttl)}`)
  }

  async read(id: string): Promise<SessionRecord | null> {
    const row = await this.#reads.ask(id, { id })
    return row ? toRecord(row) : null
  }

  async write(id: string, text: string, expires: number, condition: WriteCondition): Promise<string | null> {
    const isOver = typeof condition === 'object'
    const kind =
      isOver || condition === 'present' ? this.#updates : condition === 'absent' ? this.#inserts : this.#overwrites
    const row = await kind.ask(id, { id, text, expires, ...(isOver && condition) }, text.length > LONGEST_TOGETHER)
    if (!row) return null
    this.#renewals.written(id, expires)
    return row.version
  }

  /** Given `from`, it may wait a tenth of a second for others to go with. */
  async renew(id: string, expires: number, from?: number): Promise<boolean> {
    if (from !== undefined) return this.#renewals.renew({ id, from, expires })
    if (!(await this.#touches.ask(id, { id, expires }))) return false
    this.#renewals.written(id, expires)
    return true
  }

  async remove(id: string, version?: Version): Promise<boolean> {
    const row = await this.#removals.ask(id, { id, version })
    if (!row) return false
    this.#renewals.removed(id)
    return row.expires > Date.now()
  }

  async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    const rows = await repeatOnce(() => this.#query('scan', [cursor ?? '', Date.now(), limit]), isCut)
    return { records: rows.map(toRecord), cursor: rows.length < limit ? null : (rows.at(-1) as Row).sid }
  }

  /** Links count as records: one that has ended is deleted, or, if its session lives on, set to end with it. */
  override async prune(limit: number): Promise<number> {
    const pruned = (await this.#query('prune', [Date.now(), limit])).length
    if (pruned === limit) return pruned
    return pruned + (await this.#tables.queryAnyUsers('pruneUsers', [Date.now(), limit - pruned])).length
  }

  /** The links first, so that a session that is linked and written meanwhile is not left without its link. */
  override async removeAll(): Promise<void> {
    await this.#tables.queryAnyUsers('removeUsers', [])
    await this.#query('removeAll', [])
  }

  override async count(): Promise<number> {
    const [row] = await repeatOnce(() => this.#query('count', [Date.now()]), isCut)
    return Number((row as unknown as { count: string }).count)
  }

  override check(): Promise<string[]> {
    return this.#tables.check()
  }

  override async link(user: string, id: string, expires: number): Promise<void> {
    const owner = userKey(user, LONGEST_USER)
    await this.#links.ask(`${owner} ${id}`, { id, user: owner, expires })
  }

  override async unlink(user: string, id: string): Promise<void> {
    const owner = userKey(user, LONGEST_USER)
    await this.#unlinks.ask(`${owner} ${id}`, { id, user: owner })
  }

  override async linked(user: string): Promise<string[]> {
    const values = [userKey(user, LONGEST_USER), Date.now()]
    const rows = await repeatOnce(() => this.#tables.queryUsers('linked', values), isCut)
    return rows.map(({ sid }) => sid)
  }

  override async readMany(ids: readonly string[]): Promise<(SessionRecord | null)[]> {
    return (await this.#read(ids.map((id) => ({ id })))).map((row) => (row ? toRecord(row) : null))
  }

  override async removeLinked(user: string, ids: readonly string[]): Promise<boolean[]> {
    const rows = await this.#tables.queryUsers('removeLinked', [ids, userKey(user, LONGEST_USER)])
    for (const { sid } of rows) this.#renewals.removed(sid)
    const live = new Set(rows.filter(({ expires }) => expires > Date.now()).map(({ sid }) => sid))
    return ids.map((id) => live.has(id))
  }

  /** Sends the renewals that wait, and ends what the store has opened. */
  override close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    await Promise.all([this.#pruning.stop(), ...[this.#renewals, ...this.#batches].map((kind) => kind.flush())])
    await this.#ownPool?.end()
  }

  #together(
    kind: string,
    send: (asked: Asked[]) => Answers,
    join?: (waiting: Asked, later: Asked) => Asked,
  ): Batches<Asked, Row | undefined> {
    const batches = new Batches({
      of: { store: 'PostgresStore', kind },
      send,
      limit: MOST,
      mayBeOnesFault,
      ...(join && { join }),
    })
    this.#batches.push(batches)
    return batches
  }

  #read(reads: Asked[]): Answers {
    return repeatOnce(() => this.#ask('read', reads, [Date.now()]), isCut)
  }

  #insert(writes: Asked[], over: unknown[]): Answers {
    return this.#ask('insert', writes, [of(writes, 'text'), of(writes, 'expires'), Date.now(), over])
  }

  #update(writes: Asked[]): Answers {
    const [one] = writes
    if (one && writes.length === 1) {
      return this.#query('updateOne', [one.id, one.text, one.expires, one.version, Date.now()])
    }
    const columns = [of(writes, 'text'), of(writes, 'expires'), of(writes, 'version')]
    return this.#ask('update', writes, [...columns, Date.now()])
  }

  #renew(renewals: Asked[]): Answers {
    return this.#ask('renew', renewals, [of(renewals, 'expires'), of(renewals, 'from'), Date.now()])
  }

  /** Asks one statement about all of them, and answers each by its row, if there is one. */
  async #ask(name: keyof Statements, asked: Asked[], values: unknown[]): Answers {
    const rows = new Map((await this.#query(name, [of(asked, 'id'), ...values])).map((row) => [row.sid, row]))
    return asked.map(({ id }) => rows.get(id))
  }

  async #askUsers(name: keyof Statements, asked: Asked[], values: unknown[]): Answers {
    this.#pruning.start()
    await this.#tables.queryUsers(name, [of(asked, 'id'), ...values])
    return []
  }

  #query(name: keyof Statements, values: unknown[]): Promise<Row[]> {
    this.#pruning.start()
    return this.#tables.query(name, values)
  }
}

function of<Field extends keyof Asked>(asked: Asked[], field: Field): (Asked[Field] | null)[] {
  return asked.map((one) => one[field] ?? null)
}

function toRecord({ sid, text, expires, version }: Row): SessionRecord & { id: string } {
  return { id: sid, text, expires: Number(expires), version }
}
