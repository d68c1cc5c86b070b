import {
  a,
  aFlag,
  aFunction,
  aName,
  aSerializer,
  has,
  isPositive,
  optionsOf,
  unsupported,
  type Check,
} from '../base/checks'
import { OptionError } from '../base/errors'
import {
  DEFAULT_TTL,
  RecordStore,
  type RecordPage,
  type Serializer,
  type SessionRecord,
  type WriteCondition,
  type Version,
} from '../store/record-store'
import { Batches, Renewals, type Renewal } from './batches'
import { issueAgain, repeatOnce } from './issue-again'
import { surviveLostConnections } from './lost-connections'
import { creations, layoutOf, namesOf, statements, type Layout, type Names, type Statements } from './postgres-sql'
import { Pruning } from './pruning'
import { userKey } from './user-key'

/** What the store asks of a `pg` Pool or Client. */
export interface PostgresQueryable {
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[]; rowCount: number | null }>
}

export interface PostgresStoreOptions {
  /** A Pool or a connected Client of `pg`. It stays yours to end. */
  pool?: PostgresQueryable | undefined
  /**
   * In place of `pool`: where to connect, as a URL or as the settings of a Pool. The store ends what it opens. Default:
   * the URL in the environment variable `DATABASE_URL`.
   */
  conString?: string | undefined
  conObject?: object | undefined
  /** The name of the table. Default: `'session'`. The option `user` needs a second one, with `_user` after this name. */
  tableName?: string | undefined
  /** The schema of the table. Default: by the connection's search path. */
  schemaName?: string | undefined
  /** Makes a missing table when it is first used. Default: `false`. */
  createTableIfMissing?: boolean | undefined
  /** Lifetime in seconds of a session whose cookie has no expiry, or a function of the session. Default: 86,400. */
  ttl?: number | ((session: object) => number) | undefined
  /** About how often, in seconds, expired sessions are deleted, by one process at a time; `false` for never. Default: 900. */
  pruneSessionInterval?: number | false | undefined
  /**
   * A function from `pruneSessionInterval` in ms to the next pause in ms; `false` for always the same pause. Default: a
   * random one, between half and one and a half times as long.
   */
  pruneSessionRandomizedInterval?: false | ((interval: number) => number) | undefined
  /** Called with what fails in the background. Default: `console.error`. */
  errorLog?: ((...message: unknown[]) => void) | undefined
  /** How sessions become text; it has to be JSON text, as the column is. Default: JSON. */
  serializer?: Serializer | undefined
}

const OPTIONS: Record<keyof PostgresStoreOptions | 'pgPromise' | 'disableTouch', Check> = {
  pool: a('a Pool or a Client of pg', (value) => has(value, 'query')),
  conString: aName,
  conObject: a('the settings of a Pool of pg', (value) => typeof value === 'object'),
  tableName: aName,
  schemaName: aName,
  createTableIfMissing: aFlag,
  ttl: a('a positive number of seconds, or a function', (value) => typeof value === 'function' || isPositive(value)),
  pruneSessionInterval: a(
    'a positive number of seconds, or false for never',
    (value) => value === false || isPositive(value),
  ),
  pruneSessionRandomizedInterval: a(
    'a function from ms to ms, or false',
    (value) => value === false || typeof value === 'function',
  ),
  errorLog: aFunction,
  serializer: aSerializer,
  pgPromise: unsupported('; give its Pool as pool: db.$pool'),
  disableTouch: unsupported('; give the middleware the option touchAfter: Infinity'),
}

interface Row {
  sid: string
  text: string
  expires: number
  version: string
}

interface VersionedWrite {
  id: string
  text: string
  expires: number
  version: Version
}

const PRUNE_INTERVAL = 900
/** The most reads, and writes, that go together; and the longest text, in characters, that does not go alone. */
const MOST_READS = 100
const MOST_WRITES = 32
const LONGEST_TOGETHER = 16_384
/** The bytes of a user's ID that a row of an index surely holds. */
const LONGEST_USER = 1024
const UNDEFINED_TABLE = '42P01'
const NO_RIGHT = '42501'
/** A serialization failure, where transactions are isolated more than by default, and a deadlock. */
const ROLLED_BACK = ['40001', '40P01']
const TRANSACTION_ABORTED = '25P02'
/**
 * What PostgreSQL answers, despite `IF NOT EXISTS`, to one of two clients that make a table at the same time: a name is
 * taken in a unique index of its catalogue, by a relation, or by the type of a relation's rows.
 */
const MADE_MEANWHILE = ['23505', '42P07', '42710']

/**
 * Sessions in PostgreSQL, in the table of connect-pg-simple, whose column `sess` may be `json` or `jsonb` (`jsonb` refuses
 * U+0000 and halves of surrogate pairs). The version of a record is a hash of its text, made by the server, so that writes of
 * other software change it, too. Reads that come in one turn of the event loop are one statement, as are writes over versions,
 * and renewals of what was read leave together ten times a second at most. Each kind is one statement, whatever the size of
 * its batch, and has no name, so that PgBouncer may pool by transaction.
 */
export class PostgresStore extends RecordStore {
  readonly #pool: PostgresQueryable
  readonly #ownPool: { end(): Promise<void> } | undefined
  readonly #names: Names
  readonly #creations: ReturnType<typeof creations>
  readonly #createTable: boolean
  readonly #ttlOf: (session: object) => number
  readonly #pruning: Pruning
  readonly #reads = new Batches<string, Row | undefined>({
    send: (ids) => this.#readAll(ids),
    limit: MOST_READS,
    join: (id) => id,
    mayBeOnesFault,
  })
  readonly #writes = new Batches<VersionedWrite, string | null>({
    send: (writes) => this.#writeAll(writes),
    limit: MOST_WRITES,
    mayBeOnesFault,
  })
  readonly #renewals = new Renewals((renewals) => this.#renewAll(renewals), mayBeOnesFault)
  /** Known from the first statement on. */
  #sql: Statements | undefined
  #layout: Layout | undefined
  #looking: Promise<Statements> | undefined
  /** Tables being made, by the SQL that makes them. */
  readonly #making = new Map<string, Promise<void>>()
  #closing: Promise<void> | undefined

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
    this.#createTable = createTableIfMissing
    this.#names = namesOf(schemaName, tableName)
    this.#creations = creations(this.#names)
    const report = (error: unknown): void => errorLog('sessile/postgres: expired sessions could not be deleted:', error)
    this.#pruning = new Pruning((limit) => this.prune(limit), pruneInterval(given), report)
  }

  override expiresOf(data: { cookie: { expires?: unknown } }): number {
    // Other software hands over sessions without a cookie.
    if ((data as { cookie?: { expires?: unknown } }).cookie?.expires) return super.expiresOf(data)
    const ttl: unknown = this.#ttlOf(data)
    if (typeof ttl === 'number' && !Number.isNaN(ttl)) return Date.now() + ttl * 1000
    throw invalid(`option ttl must return a number of seconds; it returned ${String(ttl)}`)
  }

  async read(id: string): Promise<SessionRecord | null> {
    const row = await this.#reads.ask(id, id)
    return row ? toRecord(row) : null
  }

  async #readAll(ids: string[]): Promise<(Row | undefined)[]> {
    const rows = await repeatOnce(() => this.#query('read', [ids, Date.now()]), isCut)
    const byId = new Map(rows.map((row) => [row.sid, row]))
    return ids.map((id) => byId.get(id))
  }

  async write(id: string, text: string, expires: number, condition: WriteCondition): Promise<string | null> {
    const version = await this.#write(id, text, expires, condition)
    if (version !== null) this.#renewals.written(id, expires)
    return version
  }

  async #write(id: string, text: string, expires: number, condition: WriteCondition): Promise<string | null> {
    if (typeof condition === 'object' && text.length <= LONGEST_TOGETHER) {
      return this.#writes.ask(id, { id, text, expires, version: condition.version })
    }
    const values = [id, text, expires]
    const [row] = await (condition === 'always'
      ? this.#query('writeAlways', values)
      : condition === 'absent'
        ? this.#query('writeAbsent', [...values, Date.now()])
        : condition === 'present'
          ? this.#query('writePresent', [...values, Date.now()])
          : this.#query('writeVersion', [...values, Date.now(), condition.version]))
    return row?.version ?? null
  }

  async #writeAll(writes: VersionedWrite[]): Promise<(string | null)[]> {
    const column = <K extends keyof VersionedWrite>(name: K): VersionedWrite[K][] => writes.map((write) => write[name])
    const values = [column('id'), column('text'), column('expires'), column('version'), Date.now()]
    const versions = new Map((await this.#query('writeVersions', values)).map(({ sid, version }) => [sid, version]))
    return writes.map(({ id }) => versions.get(id) ?? null)
  }

  /** Given `from`, it may wait a tenth of a second for others to go with. */
  async renew(id: string, expires: number, from?: number): Promise<boolean> {
    if (from !== undefined) return this.#renewals.renew({ id, from, expires })
    const renewed = (await this.#query('renew', [id, expires, Date.now()])).length > 0
    if (renewed) this.#renewals.written(id, expires)
    return renewed
  }

  async #renewAll(renewals: Renewal[]): Promise<boolean[]> {
    const column = <K extends keyof Renewal>(name: K): Renewal[K][] => renewals.map((renewal) => renewal[name])
    const values = [column('id'), column('from'), column('expires'), Date.now()]
    const renewed = new Set((await this.#query('renewAll', values)).map(({ sid }) => sid))
    return renewals.map(({ id }) => renewed.has(id))
  }

  async remove(id: string, version?: Version): Promise<boolean> {
    const rows = version === undefined ? this.#query('remove', [id]) : this.#query('removeVersion', [id, version])
    const [row] = await rows
    if (row) this.#renewals.removed(id)
    return row !== undefined && row.expires > Date.now()
  }

  async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    const rows = await repeatOnce(() => this.#query('scan', [cursor ?? '', Date.now(), limit]), isCut)
    return { records: rows.map(toRecord), cursor: rows.length < limit ? null : (rows.at(-1) as Row).sid }
  }

  /** Links count as records: one that has ended is deleted, or, if its session lives on, set to end with it. */
  override async prune(limit: number): Promise<number> {
    const pruned = (await this.#query('prune', [Date.now(), limit])).length
    if (pruned === limit) return pruned
    return pruned + (await this.#ifUsers(() => this.#query('pruneUsers', [Date.now(), limit - pruned]))).length
  }

  /** The links first, so that a session that is linked and written meanwhile is not left without its link. */
  override async removeAll(): Promise<void> {
    await this.#ifUsers(() => this.#query('removeUsers', []))
    await this.#query('removeAll', [])
  }

  override async count(): Promise<number> {
    const [row] = await repeatOnce(() => this.#query('count', [Date.now()]), isCut)
    return Number((row as unknown as { count: string }).count)
  }

  override async link(user: string, id: string, expires: number): Promise<void> {
    await this.#queryUsers('link', [userKey(user, LONGEST_USER), id, expires])
  }

  override async unlink(user: string, id: string): Promise<void> {
    await this.#queryUsers('unlink', [userKey(user, LONGEST_USER), id])
  }

  override async linked(user: string): Promise<string[]> {
    const rows = await this.#queryUsers('linked', [userKey(user, LONGEST_USER), Date.now()])
    return rows.map(({ sid }) => sid)
  }

  /** Sends the renewals that wait, and ends what the store has opened. */
  override close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    await Promise.all([this.#pruning.stop(), this.#reads.flush(), this.#writes.flush(), this.#renewals.flush()])
    await this.#ownPool?.end()
  }

  /** Where there is a table of users that this database user may change; one who has no use for it needs no right to it. */
  async #ifUsers(work: () => Promise<Row[]>): Promise<Row[]> {
    if ((await this.#query('hasUsers', [])).length === 0) return []
    try {
      return await work()
    } catch (error) {
      if (codeOf(error) !== NO_RIGHT) throw error
      return []
    }
  }

  /** Makes missing tables only after an error: the database user may have no rights but to the rows of existing ones. */
  async #query(name: keyof Statements, values: unknown[], tables = [this.#creations.sessions]): Promise<Row[]> {
    this.#pruning.start()
    for (const creation of tables) {
      try {
        return await this.#issue((this.#sql ?? (await this.#look()))[name], values)
      } catch (error) {
        if (codeOf(error) !== UNDEFINED_TABLE) throw error
        this.#sql = undefined
        if (!this.#createTable) throw missing(tables, error)
        await this.#made(creation)
      }
    }
    return this.#issue((await this.#look())[name], values)
  }

  async #queryUsers(name: keyof Statements, values: unknown[]): Promise<Row[]> {
    // Made by another process since then, perhaps.
    if (this.#layout?.usersExpire === null) this.#sql = undefined
    return this.#query(name, values, [this.#creations.users, this.#creations.sessions])
  }

  /** All callers share one look, and after a failure the next one looks again. */
  #look(): Promise<Statements> {
    return (this.#looking ??= this.#lookAnew().finally(() => (this.#looking = undefined)))
  }

  async #lookAnew(): Promise<Statements> {
    if (isNotConnected(this.#pool)) throw invalid('the Client given as pool is not connected: await client.connect()')
    const [layout] = await repeatOnce(() => this.#issue(layoutOf(this.#names)), isCut)
    this.#layout = layout as unknown as Layout
    return (this.#sql = statements(this.#names, this.#layout))
  }

  #issue(text: string, values?: unknown[]): Promise<Row[]> {
    const issue = async (): Promise<Row[]> => (await this.#pool.query(text, values)).rows as Row[]
    return issueAgain(issue, ROLLED_BACK, TRANSACTION_ABORTED)
  }

  /** All callers share one attempt, and after a failure the next one tries again. */
  #made(creation: string): Promise<void> {
    let making = this.#making.get(creation)
    if (!making) {
      making = this.#create(creation).finally(() => this.#making.delete(creation))
      this.#making.set(creation, making)
    }
    return making
  }

  async #create(creation: string): Promise<void> {
    try {
      await this.#issue(creation)
    } catch (error) {
      if (!MADE_MEANWHILE.includes(codeOf(error))) throw error
      await this.#issue(creation)
    }
  }
}

function toRecord({ sid, text, expires, version }: Row): SessionRecord & { id: string } {
  return { id: sid, text, expires: Number(expires), version }
}

function codeOf(error: unknown): string {
  return (error as { code?: string }).code ?? ''
}

/** The classes of errors that a value may cause: data exceptions, such as a text that is no JSON, and what is too large. */
function mayBeOnesFault(error: unknown): boolean {
  return /^(22|54)/.test(codeOf(error))
}

/** Whether the connection was cut, by the network or by the server, so that another one may still do. */
function isCut(error: unknown): boolean {
  const { message = '' } = error as Partial<Error>
  return (
    /^(ECONNRESET|EPIPE|08...|57P0[12])$/.test(codeOf(error)) || /^Connection terminated unexp|not quer/.test(message)
  )
}

/** Queries of a Client that was never connected wait for ever. Its fields say so; another client has none of them. */
function isNotConnected(client: object): boolean {
  const { _connected: isConnected, _connecting: connects } = client as { _connected?: unknown; _connecting?: unknown }
  return isConnected === false && connects === false
}

/** The pause between two prunings in ms, as `Pruning` takes it. */
function pruneInterval(options: PostgresStoreOptions): number | (() => number) {
  const { pruneSessionInterval: seconds = PRUNE_INTERVAL, pruneSessionRandomizedInterval: pauseFrom } = options
  if (seconds === false) return 0
  const interval = seconds * 1000
  if (pauseFrom === undefined) return interval
  return pauseFrom === false ? () => interval : () => pauseFrom(interval)
}

function settingsOf({ conObject, conString = process.env['DATABASE_URL'] }: PostgresStoreOptions): object {
  if (conObject) return conObject
  if (conString) return { connectionString: conString }
  throw invalid('needs the option pool, conString or conObject, or the environment variable DATABASE_URL')
}

function openPool(settings: object): PostgresQueryable & { end(): Promise<void> } {
  let pg: { Pool: new (settings: object) => PostgresQueryable & { end(): Promise<void> } }
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- loaded only by those who use it
    pg = require('pg') as typeof pg
  } catch (cause) {
    throw invalid('needs the package pg for conString and conObject: npm install pg', cause)
  }
  return new pg.Pool(settings)
}

function missing(creations: string[], cause: unknown): OptionError {
  return invalid(`a table is missing; set the option createTableIfMissing, or run:\n${creations.join('\n')}`, cause)
}

function invalid(what: string, cause?: unknown): OptionError {
  return new OptionError(`PostgresStore: ${what}`, { cause })
}
