import type { OptionError } from '../base/errors'
import { issueAgain, repeatOnce } from './issue-again'
import { factsOf, findings, type Facts } from './postgres-check'
import { invalid, type PostgresQueryable } from './postgres-options'
import { creations, layoutOf, statements, type Layout, type Names, type Statements } from './postgres-sql'

export interface Row {
  readonly sid: string
  readonly text: string
  readonly expires: number
  readonly version: string
}

const UNDEFINED_TABLE = '42P01'
const NO_RIGHT = '42501'
const READ_ONLY = '25006'
/** A serialization failure, where transactions are isolated more than by default, and a deadlock. */
const ROLLED_BACK = ['40001', '40P01']
const TRANSACTION_ABORTED = '25P02'
/**
 * What PostgreSQL answers, despite `IF NOT EXISTS`, to one of two clients that make a table at the same time: a name is
 * taken in a unique index of its catalogue, by a relation, or by the type of a relation's rows.
 */
const MADE_MEANWHILE = ['23505', '42P07', '42710']

/** The tables of a store: chooses the statements by how they are, and makes the missing ones, if it may. */
export class PostgresTables {
  readonly #pool: PostgresQueryable
  readonly #names: Names
  readonly #creations: ReturnType<typeof creations>
  readonly #mayCreate: boolean
  #layout: Layout | undefined
  /** Known from the first one on. */
  #statements: Statements | undefined
  #looking: Promise<Statements> | undefined
  /** Tables being made, by the SQL that makes them. */
  readonly #making = new Map<string, Promise<void>>()

  constructor(pool: PostgresQueryable, names: Names, mayCreate: boolean) {
    this.#pool = pool
    this.#names = names
    this.#creations = creations(names)
    this.#mayCreate = mayCreate
  }

  /** Makes missing tables only after an error: the database user may have no rights but to the rows of existing ones. */
  async query(name: keyof Statements, values: unknown[], tables = [this.#creations.sessions]): Promise<Row[]> {
    for (const creation of tables) {
      try {
        return await this.#issue((this.#statements ?? (await this.#look()))[name], values)
      } catch (error) {
        if (codeOf(error) !== UNDEFINED_TABLE) throw error
        this.#statements = undefined
        if (!this.#mayCreate) throw missing(tables, error)
        await this.#made(creation)
      }
    }
    return this.#issue((await this.#look())[name], values)
  }

  /** A statement on the table of users; another process may have made it since this one looked. */
  async queryUsers(name: keyof Statements, values: unknown[]): Promise<Row[]> {
    if (this.#layout?.usersExpire === null) this.#statements = undefined
    return this.query(name, values, [this.#creations.users, this.#creations.sessions])
  }

  /** The same where there is one that this database user may change: who has no use for it needs no right to it. */
  async queryAnyUsers(name: keyof Statements, values: unknown[]): Promise<Row[]> {
    await this.#look()
    if (this.#layout?.usersExpire === null) return []
    try {
      return await this.query(name, values)
    } catch (error) {
      if (codeOf(error) !== NO_RIGHT) throw error
      return []
    }
  }

  /** What an operator should know. A missing table is made, if that may be, as the first request would. */
  async check(): Promise<string[]> {
    const asked = Date.now()
    const [facts] = (await this.#issue(factsOf(this.#names))) as unknown as [Facts]
    const answered = Date.now()
    if (facts.sessions || !this.#mayCreate) return findings(facts, this.#names, this.#pool, asked, answered)
    try {
      await this.query('count', [0])
    } catch (error) {
      if (![NO_RIGHT, READ_ONLY].includes(codeOf(error))) throw error
      const why = `this role may not make it (${(error as Error).message})`
      return [`the table ${this.#names.table} is missing, and ${why}; run: ${this.#creations.sessions}`]
    }
    return this.check()
  }

  /** All callers share one look, and after a failure the next one looks again. */
  #look(): Promise<Statements> {
    return (this.#looking ??= this.#lookAnew().finally(() => (this.#looking = undefined)))
  }

  /** The time zone of the first connection counts for all of them. */
  async #lookAnew(): Promise<Statements> {
    if (isNotConnected(this.#pool)) throw invalid('the Client given as pool is not connected: await client.connect()')
    const [found] = (await repeatOnce(() => this.#issue(layoutOf(this.#names)), isCut)) as unknown as [Layout]
    this.#layout = { ...found, zone: this.#layout?.zone ?? found.zone }
    return (this.#statements = statements(this.#names, this.#layout))
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

function codeOf(error: unknown): string {
  return (error as { code?: string }).code ?? ''
}

/**
 * The classes of errors that a value may cause: data exceptions, such as a text that is no JSON, constraints, what is too
 * large, and what a trigger raises; and a transaction that was rolled back again and again.
 */
export function mayBeOnesFault(error: unknown): boolean {
  return /^(22|23|40|54|P0)/.test(codeOf(error))
}

/** Whether the connection was cut, by the network or by the server, so that another one may still do. */
export function isCut(error: unknown): boolean {
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

function missing(creations: string[], cause: unknown): OptionError {
  return invalid(`a table is missing; set the option createTableIfMissing, or run:\n${creations.join('\n')}`, cause)
}
