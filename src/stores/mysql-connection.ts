import { OptionError } from '../base/errors'
import { issueAgain } from './issue-again'

/** What the store asks of mysql2, in the flavour with promises. */
export interface Connection {
  execute(query: Query, values: unknown[]): Promise<[unknown, unknown]>
  query(query: Query): Promise<[unknown, unknown]>
  end(): Promise<void>
  /** What a pool has. */
  getConnection?: unknown
  pool?: { config?: { connectionLimit?: number } }
}

/** Rows come as objects, whatever the pool is configured to return. */
interface Query {
  sql: string
  rowsAsArray: false
  nestTables: false
  typeCast: true
}

/** What the server is set to, as far as it decides what becomes of a session. */
export interface Settings {
  /** Of `sql_mode`. */
  isStrict: boolean
  /** The largest statement or answer, in bytes. */
  packet: number
  /** How many prepared statements the server keeps for all of its clients. */
  statements: number
}

const SETTINGS = `SELECT @@character_set_client AS charset, @@autocommit AS autocommit, @@sql_mode AS mode,
  @@max_allowed_packet AS packet, @@max_prepared_stmt_count AS statements`
const ROLLED_BACK = ['ER_LOCK_DEADLOCK']

/** Issues statements, once it is known that the connections are set up as it takes, and makes missing tables. */
export class MysqlConnection {
  readonly #connection: Connection
  /** Tables being made, by the SQL that makes them. */
  readonly #making = new Map<string, Promise<unknown>>()
  #settings: Promise<Settings> | undefined

  constructor(
    connection: Connection,
    private readonly makesTables: boolean,
  ) {
    this.#connection = connection
  }

  /**
   * Issues a statement. Makes the missing ones of the tables that it needs only after an error, as the database user may have
   * no rights but to the rows of existing ones.
   */
  async query<T>(sql: string, values: unknown[], tables: readonly string[]): Promise<T> {
    await this.settings()
    for (const creation of tables) {
      try {
        return (await this.execute(sql, values)) as T
      } catch (error) {
        if (!isTableMissing(error)) throw error
        if (!this.makesTables) throw missing(tables, error)
        await this.#made(creation)
      }
    }
    return (await this.execute(sql, values)) as T
  }

  /** @throws OptionError when sessions would be lost or garbled by these settings */
  settings(): Promise<Settings> {
    return (this.#settings ??= this.#readSettings().catch((error: unknown) => {
      this.#settings = undefined
      throw error
    }))
  }

  async #readSettings(): Promise<Settings> {
    const [row] = (await this.execute(SETTINGS, [])) as [Record<string, unknown>]
    const charset = String(row['charset'])
    // On a connection with the charset latin1, mysql2 sends only the low byte of each character, which may be a quote: what a
    // visitor types could then change the JSON of the session.
    if (!charset.startsWith('utf8')) {
      throw invalid(`the connections of pool must have the charset utf8mb4, the default of mysql2, not ${charset}`)
    }
    if (!Number(row['autocommit'])) {
      throw invalid('the connections of pool must commit by themselves, or nothing is stored: SET autocommit = 1')
    }
    return {
      isStrict: /STRICT|TRADITIONAL/.test(String(row['mode'])),
      packet: Number(row['packet']),
      statements: Number(row['statements']),
    }
  }

  get isPool(): boolean {
    return Boolean(this.#connection.getConnection)
  }

  /** The most connections of a pool, where it tells. */
  get size(): number | undefined {
    return this.#connection.pool?.config?.connectionLimit
  }

  end(): Promise<void> {
    return this.#connection.end()
  }

  /**
   * On a single connection no statement is issued again: a deadlock rolls back the whole transaction that the application may
   * have open, so it has to get the error.
   */
  execute(sql: string, values: unknown[]): Promise<unknown> {
    const issue = (): Promise<unknown> => this.#issue(sql, values)
    return this.isPool ? issueAgain(issue, ROLLED_BACK) : issue()
  }

  /** All statements are prepared, as long as the server has room for that, so that nothing depends on how it reads quotes. */
  async #issue(sql: string, values: unknown[]): Promise<unknown> {
    const query = { sql, rowsAsArray: false, nestTables: false, typeCast: true } as const
    try {
      return (await this.#connection.execute(query, values))[0]
    } catch (error) {
      if (codeOf(error) !== 'ER_MAX_PREPARED_STMT_COUNT_REACHED') throw error
      return (await this.#connection.query({ ...query, sql: withValues(sql, values) }))[0]
    }
  }

  /** All callers share one attempt, and after a failure the next one tries again. */
  #made(creation: string): Promise<unknown> {
    let making = this.#making.get(creation)
    if (!making) {
      making = this.execute(creation, []).finally(() => this.#making.delete(creation))
      this.#making.set(creation, making)
    }
    return making
  }
}

/** A statement with its values in it, texts in hexadecimal digits, which need no quoting. */
function withValues(sql: string, values: unknown[]): string {
  let n = 0
  return sql.replace(/`(?:[^`]|``)*`|\?/g, (found) => (found === '?' ? literal(values[n++]) : found))
}

function literal(value: unknown): string {
  if (typeof value === 'number') return String(value)
  return Buffer.isBuffer(value)
    ? `x'${value.toString('hex')}'`
    : `_utf8mb4 x'${Buffer.from(String(value)).toString('hex')}'`
}

export function codeOf(error: unknown): string {
  return String((error as { code?: unknown } | null)?.code)
}

/** Whether the connection was lost, so that nobody knows whether a statement was carried out. */
export function isCut(error: unknown): boolean {
  const codes = ['PROTOCOL_CONNECTION_LOST', 'ECONNRESET', 'EPIPE', 'ER_CONNECTION_KILLED', 'ER_SERVER_SHUTDOWN']
  return codes.includes(codeOf(error))
}

export function isTableMissing(error: unknown): boolean {
  return codeOf(error) === 'ER_NO_SUCH_TABLE'
}

function missing(creations: readonly string[], cause: unknown): OptionError {
  return invalid(`a table is missing; set the option createDatabaseTable, or run:\n${creations.join('\n')}`, cause)
}

export function invalid(what: string, cause?: unknown): OptionError {
  return new OptionError(`MysqlStore: ${what}`, { cause })
}
