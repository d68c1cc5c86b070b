/** What the store has found out about its tables. Types are `null` where a table is missing. */
export interface Layout {
  /** The type of the column `expire` of the table of sessions, and of that of users. */
  readonly expire: string | null
  readonly usersExpire: string | null
  /** The type of the column `sess`. */
  readonly sess: string | null
  /** The time zone that connections begin with. */
  readonly zone: string
}

export type Statements = ReturnType<typeof statements>
export type Names = ReturnType<typeof namesOf>

const WITHOUT_ZONE = 'timestamp without time zone'

/** The names of the tables, as SQL and as its strings, and of the indexes. */
export function namesOf(schemaName: string | undefined, tableName: string) {
  const inSchema = (name: string): string => (schemaName === undefined ? '' : `${quoted(schemaName)}.`) + quoted(name)
  const table = inSchema(tableName)
  const users = inSchema(`${tableName}_user`)
  return {
    table,
    users,
    tableString: asString(table),
    usersString: asString(users),
    index: quoted(`IDX_${tableName}_expire`),
    usersIndex: quoted(`IDX_${tableName}_user_expire`),
  }
}

export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

function asString(value: string): string {
  return `'${value.replaceAll("'", "''")}'`
}

/** The SQL that makes the tables. connect-pg-simple reads and writes a `timestamptz` as well as its own `timestamp`. */
export function creations({ table, users, index, usersIndex }: Names) {
  return {
    sessions: `CREATE TABLE IF NOT EXISTS ${table} (
  sid varchar NOT NULL COLLATE "default" PRIMARY KEY, sess json NOT NULL, expire timestamptz(6) NOT NULL
);
CREATE INDEX IF NOT EXISTS ${index} ON ${table} (expire);`,
    users: `CREATE TABLE IF NOT EXISTS ${users} (
  user_id text NOT NULL, sid varchar NOT NULL, expire timestamptz(6) NOT NULL, PRIMARY KEY (user_id, sid)
);
CREATE INDEX IF NOT EXISTS ${usersIndex} ON ${users} (expire);`,
  }
}

/** Asks for the layout. A connection begins with the zone that `RESET TimeZone` would bring back. */
export function layoutOf({ tableString, usersString }: Names): string {
  const type = (table: string, column: string): string =>
    `(SELECT atttypid::regtype::text FROM pg_attribute WHERE attrelid = to_regclass(${table}) AND attname = '${column}')`
  return `SELECT ${type(tableString, 'expire')} AS expire, ${type(usersString, 'expire')} AS "usersExpire",
    ${type(tableString, 'sess')} AS sess, coalesce(
      (SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'), current_setting('TimeZone')) AS zone`
}

/** How a column keeps a moment. One without a time zone has local times, as connect-pg-simple writes them: those of `zone`. */
function moments(type: string | null, zone: string) {
  const inZone = `AT TIME ZONE ${asString(zone)}`
  const isLocal = type === WITHOUT_ZONE
  const kept = (moment: string): string => (isLocal ? `(${moment} ${inZone})` : moment)
  return {
    kept,
    /** A parameter with ms since the epoch, as the column keeps it. */
    at: (parameter: string) => kept(`to_timestamp(${parameter}::double precision / 1000)`),
    moment: (column: string) => (isLocal ? `(${column}::timestamp ${inZone})` : `${column}::timestamptz`),
  }
}

/**
 * A DELETE repeats the condition on `expire` outside of its subquery, as PostgreSQL checks only that again for a row that was
 * renewed meanwhile. What changes several rows locks them in the order of their IDs first, so that two of them never wait for
 * each other. A link without a session is kept until its own `expire`, as the session may be about to be written; one with a
 * session lives as long.
 */
export function statements({ table, users, tableString, usersString }: Names, layout: Layout) {
  const { at, moment } = moments(layout.expire, layout.zone)
  const link = moments(layout.usersExpire, layout.zone)
  const versionOf = (text: string): string => `encode(sha256(convert_to(${text}::text, 'UTF8')), 'hex')`
  const version = versionOf('sess')
  const ms = (column: string): string => `round(extract(epoch from ${moment(column)}) * 1000)::double precision`
  const expires = `${ms('expire')} AS expires`
  const columns = `sid, sess::text AS text, ${version} AS version, ${expires}`
  const insert = `INSERT INTO ${table} AS t (sid, sess, expire) VALUES ($1, $2, ${at('$3')})`
  const overwrite = 'ON CONFLICT (sid) DO UPDATE SET sess = excluded.sess, expire = excluded.expire'
  const update = `UPDATE ${table} SET sess = $2, expire = ${at('$3')} WHERE sid = $1 AND expire > ${at('$4')}`
  const returning = `RETURNING ${version} AS version`
  const held = (now: string): string => `held AS MATERIALIZED (
      SELECT sid FROM ${table} WHERE sid = ANY($1) AND expire > ${at(now)} ORDER BY sid FOR NO KEY UPDATE)`
  const ofHeld = 'FROM held JOIN asked ON asked.id = held.sid WHERE t.sid = held.sid'
  const ended = (now: string): string =>
    `u.expire <= ${link.at(now)} AND NOT EXISTS (SELECT FROM ${table} t WHERE t.sid = u.sid)`
  const sameLink = 'u.user_id = e.user_id AND u.sid = e.sid'
  const alone = `(SELECT pg_try_advisory_xact_lock(hashtext('sessile'), hashtext(${tableString})))`
  return {
    read: `SELECT ${columns} FROM ${table} WHERE sid = ANY($1) AND expire > ${at('$2')}`,
    writeAlways: `${insert} ${overwrite} ${returning}`,
    writeAbsent: `${insert} ${overwrite} WHERE t.expire <= ${at('$4')} ${returning}`,
    writePresent: `${update} ${returning}`,
    writeVersion: `${update} AND ${version} = $5 ${returning}`,
    writeVersions: `WITH asked AS (
      SELECT * FROM unnest($1::text[], $2::text[], $3::double precision[], $4::text[]) AS asked (id, sess, until, version)),
      ${held('$5')}
      UPDATE ${table} t SET sess = asked.sess::${layout.sess ?? 'json'}, expire = ${at('asked.until')}
      ${ofHeld} AND t.expire > ${at('$5')} AND ${versionOf('t.sess')} = asked.version
      RETURNING t.sid, ${versionOf('t.sess')} AS version`,
    renew: `UPDATE ${table} SET expire = ${at('$2')} WHERE sid = $1 AND expire > ${at('$3')} RETURNING sid`,
    renewAll: `WITH asked AS (
      SELECT * FROM unnest($1::text[], $2::double precision[], $3::double precision[]) AS asked (id, since, until)),
      ${held('$4')}
      UPDATE ${table} t SET expire = ${at('asked.until')} ${ofHeld} AND ${ms('t.expire')} = asked.since RETURNING t.sid`,
    remove: `DELETE FROM ${table} WHERE sid = $1 RETURNING ${expires}`,
    removeVersion: `DELETE FROM ${table} WHERE sid = $1 AND ${version} = $2 RETURNING ${expires}`,
    scan: `SELECT ${columns} FROM ${table} WHERE sid > $1 AND expire > ${at('$2')} ORDER BY sid LIMIT $3`,
    prune: `DELETE FROM ${table} WHERE ${alone} AND expire <= ${at('$1')}
      AND sid IN (SELECT sid FROM ${table} WHERE expire <= ${at('$1')} ORDER BY expire LIMIT $2) RETURNING sid`,
    removeAll: `DELETE FROM ${table}`,
    count: `SELECT count(*) FROM ${table} WHERE expire > ${at('$1')}`,
    link: `INSERT INTO ${users} AS u (user_id, sid, expire) VALUES ($1, $2, ${link.at('$3')})
      ON CONFLICT (user_id, sid) DO UPDATE SET expire = greatest(u.expire, excluded.expire)`,
    unlink: `DELETE FROM ${users} WHERE user_id = $1 AND sid = $2`,
    linked: `WITH gone AS (DELETE FROM ${users} u WHERE user_id = $1 AND ${ended('$2')} RETURNING sid)
      SELECT sid FROM ${users} WHERE user_id = $1 AND sid NOT IN (SELECT sid FROM gone)`,
    hasUsers: `SELECT FROM to_regclass(${usersString}) AS found WHERE found IS NOT NULL`,
    pruneUsers: `WITH e AS MATERIALIZED (
      SELECT u.user_id, u.sid, t.expire AS until FROM ${users} u LEFT JOIN ${table} t ON t.sid = u.sid
      WHERE ${alone} AND u.expire <= ${link.at('$1')} ORDER BY u.expire LIMIT $2),
      gone AS (DELETE FROM ${users} u USING e
        WHERE ${sameLink} AND u.expire <= ${link.at('$1')} AND e.until IS NULL RETURNING u.sid),
      moved AS (UPDATE ${users} u SET expire = ${link.kept(moment('e.until'))} FROM e
        WHERE ${sameLink} AND u.expire <= ${link.at('$1')} AND e.until > ${at('$1')} RETURNING u.sid)
      SELECT sid FROM gone UNION ALL SELECT sid FROM moved`,
    removeUsers: `DELETE FROM ${users}`,
  }
}
