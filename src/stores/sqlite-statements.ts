import type { SqliteDatabase, SqliteStatement } from './sqlite-access'

/**
 * Versions continue when a new record replaces an expired one, so that none stands for two contents. Statements with
 * RETURNING have to be run by `all`: `get` may leave a statement before it commits, and hide that it fails. A link without a
 * session is kept until its own `expires`, as the session may be about to be written; one with a session lives as long.
 */
export function prepare(database: SqliteDatabase, tableName: string) {
  const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`
  const table = quoted(tableName)
  const links = quoted(`${tableName}_user`)
  database.exec(`
    CREATE TABLE IF NOT EXISTS ${table} (
      id TEXT PRIMARY KEY, text TEXT NOT NULL, expires INTEGER NOT NULL, version INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS ${quoted(`${tableName}_expires`)} ON ${table} (expires);
    CREATE TABLE IF NOT EXISTS ${links} (
      user TEXT NOT NULL, id TEXT NOT NULL, expires INTEGER NOT NULL, PRIMARY KEY (user, id)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS ${quoted(`${tableName}_user_expires`)} ON ${links} (expires)`)
  const statement = (sql: string): SqliteStatement => database.prepare(sql)
  const insert = `INSERT INTO ${table} (id, text, expires, version) VALUES (?, ?, ?, abs(random() >> 11))`
  const overwrite = `ON CONFLICT (id) DO UPDATE SET text = excluded.text, expires = excluded.expires, version = version + 1`
  const update = `UPDATE ${table} SET text = ?, expires = ?, version = version + 1 WHERE id = ? AND expires > ?`
  const end = `(SELECT s.expires FROM ${table} s WHERE s.id = ${links}.id)`
  const endedLink = `(user, id) IN (SELECT user, id FROM ${links} WHERE expires <= ? ORDER BY expires LIMIT ?)`
  return {
    read: statement(`SELECT id, text, expires, version FROM ${table} WHERE id = ? AND expires > ?`),
    writeAlways: statement(`${insert} ${overwrite} RETURNING version`),
    writeAbsent: statement(`${insert} ${overwrite} WHERE expires <= ? RETURNING version`),
    writePresent: statement(`${update} RETURNING version`),
    writeVersion: statement(`${update} AND version = ? RETURNING version`),
    renew: statement(`UPDATE ${table} SET expires = ? WHERE id = ? AND expires > ?`),
    renewMany: statement(
      `UPDATE ${table} SET expires = r.value ->> 'expires' FROM json_each(?) r
       WHERE ${table}.id = r.value ->> 'id' AND ${table}.expires = r.value ->> 'from' AND ${table}.expires > ?
       RETURNING ${table}.id AS id`,
    ),
    remove: statement(`DELETE FROM ${table} WHERE id = ? RETURNING expires`),
    removeVersion: statement(`DELETE FROM ${table} WHERE id = ? AND version = ? RETURNING expires`),
    scan: statement(`SELECT id, text, expires, version FROM ${table} WHERE id > ? AND expires > ? ORDER BY id LIMIT ?`),
    prune: statement(
      `DELETE FROM ${table} WHERE id IN (SELECT id FROM ${table} WHERE expires <= ? ORDER BY expires LIMIT ?)`,
    ),
    removeAll: statement(`DELETE FROM ${table}`),
    count: statement(`SELECT count(*) AS count FROM ${table} WHERE expires > ?`),
    link: statement(`INSERT INTO ${links} (user, id, expires) VALUES (?, ?, ?)
      ON CONFLICT (user, id) DO UPDATE SET expires = max(expires, excluded.expires)`),
    unlink: statement(`DELETE FROM ${links} WHERE user = ? AND id = ?`),
    linked: statement(`SELECT id FROM ${links} WHERE user = ? AND (expires > ? OR ${end} IS NOT NULL)`),
    pruneLinks: statement(`DELETE FROM ${links} WHERE ${endedLink} AND ${end} IS NULL`),
    renewLinks: statement(`UPDATE ${links} SET expires = ${end} WHERE ${endedLink} AND ${end} IS NOT NULL`),
    removeLinks: statement(`DELETE FROM ${links}`),
  }
}
