import { a, aFlag, aFunction, aName, aSerializer, has, isPositive, unsupported, type Check } from '../base/checks'
import { OptionError } from '../base/errors'
import type { Serializer } from '../store/record-store'

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

export const OPTIONS: Record<keyof PostgresStoreOptions | 'pgPromise' | 'disableTouch', Check> = {
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

const PRUNE_INTERVAL = 900

/** The pause between two prunings in ms, as `Pruning` takes it. */
export function pruneInterval(options: PostgresStoreOptions): number | (() => number) {
  const { pruneSessionInterval: seconds = PRUNE_INTERVAL, pruneSessionRandomizedInterval: pauseFrom } = options
  if (seconds === false) return 0
  const interval = seconds * 1000
  if (pauseFrom === undefined) return interval
  return pauseFrom === false ? () => interval : () => pauseFrom(interval)
}

export function settingsOf({ conObject, conString = process.env['DATABASE_URL'] }: PostgresStoreOptions): object {
  if (conObject) return conObject
  if (conString) return { connectionString: conString }
  throw invalid('needs the option pool, conString or conObject, or the environment variable DATABASE_URL')
}

export function openPool(settings: object): PostgresQueryable & { end(): Promise<void> } {
  let pg: { Pool: new (settings: object) => PostgresQueryable & { end(): Promise<void> } }
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- loaded only by those who use it
    pg = require('pg') as typeof pg
  } catch (cause) {
    throw invalid('needs the package pg for conString and conObject: npm install pg', cause)
  }
  return new pg.Pool(settings)
}

export function invalid(what: string, cause?: unknown): OptionError {
  return new OptionError(`PostgresStore: ${what}`, { cause })
}
