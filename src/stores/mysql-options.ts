import { a, aFlag, aFunction, anything, aSerializer, has, isPositive, unsupported, type Check } from '../base/checks'
import type { Serializer } from '../store/record-store'
import { invalid, type Connection } from './mysql-connection'
import type { Schema } from './mysql-statements'

export interface MysqlStoreOptions {
  /** A pool or connection of `mysql2`, with callbacks or promises. It stays yours to end. */
  pool?: object | undefined
  /** In place of `pool`: where to connect. The store ends what it opens. For other settings, make a pool yourself. */
  host?: string | undefined
  port?: number | undefined
  user?: string | undefined
  password?: string | undefined
  database?: string | undefined
  /** Settings of the pool that the store opens, as mysql2 has them. */
  waitForConnections?: boolean | undefined
  connectionLimit?: number | undefined
  maxIdle?: number | undefined
  idleTimeout?: number | undefined
  queueLimit?: number | undefined
  /** Whether `close` ends the connections. Default: those that the store opened. */
  endConnectionOnClose?: boolean | undefined
  /** Makes a missing table when it is first used. Default: `true`. */
  createDatabaseTable?: boolean | undefined
  /**
   * The names of the table (also `database.table`) and of its columns. Default: `sessions` with `session_id`, `expires`,
   * `data`. The option `user` needs a second table, with `_user` after the name of this one.
   */
  schema?: Schema | undefined
  /** Lifetime, in ms, of a session whose cookie has no expiry. Default: one day. */
  expiration?: number | undefined
  /** Whether expired sessions are deleted. Default: `true`. */
  clearExpired?: boolean | undefined
  /** About how often expired sessions are deleted, in ms. Default: 15 minutes. */
  checkExpirationInterval?: number | undefined
  /** Called with what fails in the background. Default: `console.error`. */
  errorLog?: ((...message: unknown[]) => void) | undefined
  /** How sessions become text. Default: JSON. */
  serializer?: Serializer | undefined
}

/** `charset` is accepted and ignored: express-mysql-session makes its column with it, ours has utf8mb4 in any case. */
export const OPTIONS: Record<keyof MysqlStoreOptions | 'charset' | 'disableTouch', Check> = {
  pool: a('a pool or a connection of mysql2', (value) => has(value, 'execute')),
  host: anything,
  port: anything,
  user: anything,
  password: anything,
  database: anything,
  waitForConnections: anything,
  connectionLimit: anything,
  maxIdle: anything,
  idleTimeout: anything,
  queueLimit: anything,
  endConnectionOnClose: aFlag,
  createDatabaseTable: aFlag,
  schema: anything,
  expiration: a('a positive number of ms', isPositive),
  clearExpired: aFlag,
  checkExpirationInterval: a('a positive number of ms; clearExpired: false is for never', isPositive),
  errorLog: aFunction,
  serializer: aSerializer,
  charset: anything,
  disableTouch: unsupported('; give the middleware the option touchAfter: Infinity'),
}

const CONNECTION_SETTINGS = ['host', 'port', 'user', 'password', 'database'] as const
const POOL_SETTINGS = ['waitForConnections', 'connectionLimit', 'maxIdle', 'idleTimeout', 'queueLimit'] as const

/** The connection to use: what was given, or a pool of the store's own. */
export function connect(options: MysqlStoreOptions): Connection {
  return options.pool ? withPromises(options.pool) : openPool(options)
}

function withPromises(pool: object): Connection {
  const given = pool as Connection & { promise?: () => Connection }
  return typeof given.promise === 'function' ? given.promise() : given
}

function openPool(options: MysqlStoreOptions): Connection {
  if (!CONNECTION_SETTINGS.some((name) => options[name] !== undefined)) {
    throw invalid('needs the option pool, or where to connect: host, port, user, password, database')
  }
  const settings: Record<string, unknown> = {}
  for (const name of [...CONNECTION_SETTINGS, ...POOL_SETTINGS]) {
    if (options[name] !== undefined) settings[name] = options[name]
  }
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports -- loaded only by those who use it
    return (require('mysql2/promise') as { createPool(settings: object): Connection }).createPool(settings)
  } catch (cause) {
    throw invalid('needs the package mysql2 to connect: npm install mysql2', cause)
  }
}
