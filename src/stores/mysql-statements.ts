import { invalid } from './mysql-connection'

export interface Schema {
  tableName?: string | undefined
  columnNames?: { session_id?: string; expires?: string; data?: string } | undefined
}

export type Statements = ReturnType<typeof statements>

/** How many IDs or links go into a statement. */
export const MANY = 64

/**
 * The SQL of the store. Statements on many records or links take `MANY` of them, the last one repeated if there are fewer, so
 * that there is one prepared statement and not one per number. Users are stored as bytes, as the collations of text take `ada` and
 * `ada ` for the same.
 */
export function statements({ tableName = 'sessions', columnNames = {} }: Schema) {
  for (const name of Object.keys(columnNames)) {
    if (!['session_id', 'expires', 'data'].includes(name)) {
      throw invalid(`option schema.columnNames has session_id, expires and data, and no ${name}`)
    }
  }
  const table = inDatabase(tableName)
  const links = inDatabase(`${tableName}_user`)
  const id = quoted(columnNames.session_id ?? 'session_id')
  const expires = quoted(columnNames.expires ?? 'expires')
  const data = quoted(columnNames.data ?? 'data')
  const text = `CONVERT(${data} USING utf8mb4)`
  const version = `SHA2(${text}, 256)`
  // As bytes, as texts of two collations cannot be compared.
  const hasVersion = `${version} = CAST(? AS BINARY)`
  const columns = `CONVERT(${id} USING utf8mb4) AS id, ${text} AS text, ${expires} AS expires, ${version} AS version`
  const insert = `INSERT INTO ${table} (${id}, ${expires}, ${data})`
  const update = `UPDATE ${table} SET ${data} = ?, ${expires} = ? WHERE ${id} = ?`
  const amongMany = `IN (${times('?', ', ')})`
  const fromMany = (column: string): string => `CASE ${column} ${times('WHEN ? THEN ?', ' ')} END`
  const manyLinks = `(${times('(user_id = ? AND session_id = ?)', ' OR ')}) AND expires <= ?`
  const idType = 'varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL'
  const createTable = `CREATE TABLE IF NOT EXISTS ${table} (
  ${id} ${idType},
  ${expires} int(11) unsigned NOT NULL,
  ${data} mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
  PRIMARY KEY (${id})
) ENGINE=InnoDB;`
  const createUserTable = `CREATE TABLE IF NOT EXISTS ${links} (
  user_id varbinary(767) NOT NULL,
  session_id ${idType},
  expires int unsigned NOT NULL,
  PRIMARY KEY (user_id, session_id),
  KEY (expires)
) ENGINE=InnoDB;`
  return {
    table,
    id,
    data,
    tables: [createTable],
    allTables: [createUserTable, createTable],
    columns: `SHOW FULL COLUMNS FROM ${table}`,
    read: `SELECT ${columns} FROM ${table} WHERE ${id} = ? AND ${expires} > ?`,
    readMany: `SELECT ${columns} FROM ${table} WHERE ${id} ${amongMany} AND ${expires} > ?`,
    endsOfMany: `SELECT CONVERT(${id} USING utf8mb4) AS id, ${expires} AS expires FROM ${table}
      WHERE ${id} ${amongMany} AND ${expires} > ?`,
    insert: `${insert} VALUES (?, ?, ?)`,
    insertNothing: `${insert} SELECT ${id}, ${expires}, ${data} FROM ${table} WHERE FALSE`,
    writeAlways: `${insert} VALUES (?, ?, ?)
      ON DUPLICATE KEY UPDATE ${expires} = VALUES(${expires}), ${data} = VALUES(${data})`,
    writeExpired: `${update} AND ${expires} <= ?`,
    writePresent: `${update} AND ${expires} > ?`,
    writeVersion: `${update} AND ${expires} > ? AND ${hasVersion}`,
    renew: `UPDATE ${table} SET ${expires} = ? WHERE ${id} = ? AND ${expires} > ?`,
    renewFrom: `UPDATE ${table} SET ${expires} = ? WHERE ${id} = ? AND ${expires} > ? AND ${expires} = ?`,
    renewMany: `UPDATE ${table} SET ${expires} = ${fromMany(id)}
      WHERE ${id} ${amongMany} AND ${expires} > ? AND ${expires} = ${fromMany(id)}`,
    remove: `DELETE FROM ${table} WHERE ${id} = ? AND ${expires} > ?`,
    removeMany: `DELETE FROM ${table} WHERE ${id} ${amongMany} AND ${expires} > ?`,
    removeVersion: `DELETE FROM ${table} WHERE ${id} = ? AND ${expires} > ? AND ${hasVersion}`,
    /** Not by comparing with an empty text for the first page: there is a mode in which that is NULL. */
    scan: (limit: number, isFirst: boolean) =>
      `SELECT ${columns} FROM ${table}
      WHERE ${isFirst ? '' : `${id} > ? AND `}${expires} > ? ORDER BY ${id} LIMIT ${limit}`,
    ended: (isFirst: boolean) =>
      `SELECT CONVERT(${id} USING utf8mb4) AS id FROM ${table}
      WHERE ${isFirst ? '' : `${id} > ? AND `}${expires} <= ? ORDER BY ${id} LIMIT ${MANY}`,
    prune: `DELETE FROM ${table} WHERE ${id} ${amongMany} AND ${expires} <= ?`,
    removeAll: `DELETE FROM ${table}`,
    removeLinks: `DELETE FROM ${links}`,
    count: `SELECT count(*) AS count FROM ${table} WHERE ${expires} > ?`,
    link: `INSERT INTO ${links} (user_id, session_id, expires) VALUES (?, ?, ?)
      ON DUPLICATE KEY UPDATE expires = GREATEST(expires, VALUES(expires))`,
    unlink: `DELETE FROM ${links} WHERE user_id = ? AND session_id ${amongMany}`,
    linked: `SELECT user_id AS user, session_id AS id, expires FROM ${links} WHERE user_id = ?`,
    endedLinks: `SELECT user_id AS user, session_id AS id, expires FROM ${links}
      WHERE expires <= ? ORDER BY expires LIMIT ${MANY}`,
    unlinkMany: `DELETE FROM ${links} WHERE ${manyLinks}`,
    renewLinks: `UPDATE ${links} SET expires = ${fromMany('session_id')} WHERE ${manyLinks}`,
  }
}

/** A list as long as statements on many take it. */
export function padded<T>(list: readonly T[]): T[] {
  return [...list, ...Array<T>(MANY - list.length).fill(list.at(-1) as T)]
}

/** Lists as short as statements on many take them. */
export function chunks<T>(list: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(list.length / MANY) }, (_, n) => list.slice(n * MANY, (n + 1) * MANY))
}

function times(what: string, separator: string): string {
  return Array<string>(MANY).fill(what).join(separator)
}

export function quoted(name: string): string {
  if (typeof name === 'string' && name !== '') return '`' + name.replaceAll('`', '``') + '`'
  throw invalid('option schema must have names that are strings and not empty')
}

/** A table may be named with its database. */
function inDatabase(name: string): string {
  return String(name).split('.').map(quoted).join('.')
}
