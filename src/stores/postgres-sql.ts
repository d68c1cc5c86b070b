/** What the store has found out about its tables. Types are `null` where a table is missing. */
export interface Layout {
  /** The type of the column `sess`. */
  readonly sess: string | null
  /** The type of the column `expire` of the table of sessions, and of that of users. */
  readonly expire: string | null
  readonly usersExpire: string | null
  /** The time zone of the connection. */
  readonly zone: string
}

export type Names = ReturnType<typeof namesOf>
export type Statements = ReturnType<typeof statements>

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

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

function asString(value: string): string {
  return `'${value.replaceAll("'", "''")}'`
}

/** The SQL that makes the tables. connect-pg-simple reads and writes a `timestamptz` as well as its own `timestamp`. */
export function creations(names: Names) {
  const { table, users } = names
  const indexes = indexCreations(names)
  return {
    sessions: `CREATE TABLE IF NOT EXISTS ${table} (
  sid varchar NOT NULL COLLATE "default" PRIMARY KEY, sess json NOT NULL, expire timestamptz(6) NOT NULL
);
${indexes.sessions}`,
    users: `CREATE TABLE IF NOT EXISTS ${users} (
  user_id text NOT NULL, sid varchar NOT NULL, expire timestamptz(6) NOT NULL, PRIMARY KEY (user_id, sid)
);
${indexes.users}`,
  }
}

export function indexCreations({ table, users, index, usersIndex }: Names) {
  return {
    sessions: `CREATE INDEX IF NOT EXISTS ${index} ON ${table} (expire);`,
    users: `CREATE INDEX IF NOT EXISTS ${usersIndex} ON ${users} (expire);`,
  }
}

export function layoutOf({ tableString, usersString }: Names): string {
  const type = (table: string, column: string): string =>
    `(SELECT atttypid::regtype::text FROM pg_attribute WHERE attrelid = to_regclass(${table}) AND attname = '${column}')`
  return `SELECT ${type(tableString, 'sess')} AS sess, ${type(tableString, 'expire')} AS expire,
    ${type(usersString, 'expire')} AS "usersExpire", current_setting('TimeZone') AS zone`
}

/** How a column keeps a moment. One without a time zone has local times, as connect-pg-simple writes them: those of `zone`. */
function moments(type: string | null, zone: string) {
  const inZone = `AT TIME ZONE ${asString(zone)}`
  const isLocal = type === WITHOUT_ZONE
  const kept = (moment: string): string => (isLocal ? `(${moment} ${inZone})` : moment)
  return {
    kept,
    /** So many ms since the epoch, as the column keeps them. */
    at: (ms: string) => kept(`to_timestamp(${ms}::double precision / 1000)`),
    moment: (column: string) => (isLocal ? `(${column}::timestamp ${inZone})` : `${column}::timestamptz`),
  }
}

/**
 * Statements on many sessions take an array for each column of what is asked. They lock the rows that they change in the order of
 * their IDs first, so that two of them never wait for each other. A DELETE of what has ended repeats that condition outside
 * of its subquery, as PostgreSQL checks only that again for a row that was renewed meanwhile. A link without a session is kept until its own
 * `expire`, as the session may be about to be written; one with a session lives as long.
 */
export function statements({ table, users, tableString }: Names, layout: Layout) {
  const { at, moment } = moments(layout.expire, layout.zone)
  const link = moments(layout.usersExpire, layout.zone)
  // A cast to a type of limited length would cut a text that is too long, which is to be refused.
  const text = (value: string): string =>
    /^jsonb?$/.test(layout.sess ?? 'json') ? `${value}::${layout.sess ?? 'json'}` : value
  const versionOf = (row: string): string => `encode(sha256(convert_to(${row}.sess::text, 'UTF8')), 'hex')`
  const msOf = (row: string): string => `round(extract(epoch from ${moment(`${row}.expire`)}) * 1000)::double precision`
  const record = `t.sid, t.sess::text AS text, ${versionOf('t')} AS version, ${msOf('t')} AS expires`
  const inOrder = (id: string): string => `ORDER BY ${id}::text COLLATE "C"`
  const held = (where: string, lock: string): string => `held AS (
      SELECT sid FROM ${table} WHERE sid = ANY($1::text[]) ${where} ${inOrder('sid')} ${lock})`
  const heldLive = (now: string): string => held(`AND expire > ${at(now)}`, 'FOR NO KEY UPDATE')
  const ofHeld = 'held JOIN asked ON asked.id = held.sid WHERE t.sid = held.sid'
  const ofVersion = `(asked.version IS NULL OR ${versionOf('t')} = asked.version)`
  const alone = `(SELECT pg_try_advisory_xact_lock(hashtext('sessile'), hashtext(${tableString})))`
  const sameLink = 'u.user_id = e.user_id AND u.sid = e.sid'
  const endedLink = `u.expire <= ${link.at('$1')}`
  return {
    read: `SELECT ${record} FROM ${table} t WHERE sid = ANY($1::text[]) AND expire > ${at('$2')}`,
    /** Where there is no live record, or the ID is in the last array. */
    insert: `INSERT INTO ${table} AS t (sid, sess, expire)
      SELECT id, ${text('sess')}, ${at('until')}
      FROM unnest($1::text[], $2::text[], $3::double precision[]) AS asked (id, sess, until) ${inOrder('id')}
      ON CONFLICT (sid) DO UPDATE SET sess = excluded.sess, expire = excluded.expire
      WHERE t.expire <= ${at('$4')} OR excluded.sid = ANY($5::text[])
      RETURNING t.sid, ${versionOf('t')} AS version`,
    update: `WITH asked AS (
      SELECT * FROM unnest($1::text[], $2::text[], $3::double precision[], $4::text[]) AS asked (id, sess, until, version)),
      ${heldLive('$5')}
      UPDATE ${table} t SET sess = ${text('asked.sess')}, expire = ${at('asked.until')}
      FROM ${ofHeld} AND t.expire > ${at('$5')} AND ${ofVersion} RETURNING t.sid, ${versionOf('t')} AS version`,
    renew: `WITH asked AS (
      SELECT * FROM unnest($1::text[], $2::double precision[], $3::double precision[]) AS asked (id, until, since)),
      ${heldLive('$4')}
      UPDATE ${table} t SET expire = ${at('asked.until')}
      FROM ${ofHeld} AND t.expire > ${at('$4')} AND (asked.since IS NULL OR ${msOf('t')} = asked.since) RETURNING t.sid`,
    remove: `WITH asked AS (SELECT * FROM unnest($1::text[], $2::text[]) AS asked (id, version)), ${held('', 'FOR UPDATE')}
      DELETE FROM ${table} t USING ${ofHeld} AND ${ofVersion} RETURNING t.sid, ${msOf('t')} AS expires`,
    scan: `SELECT ${record} FROM ${table} t WHERE sid > $1 AND expire > ${at('$2')} ORDER BY sid LIMIT $3`,
    prune: `DELETE FROM ${table} WHERE ${alone} AND expire <= ${at('$1')}
      AND sid IN (SELECT sid FROM ${table} WHERE expire <= ${at('$1')} ORDER BY expire LIMIT $2) RETURNING sid`,
    removeAll: `DELETE FROM ${table}`,
    count: `SELECT count(*) FROM ${table} WHERE expire > ${at('$1')}`,
    link: `INSERT INTO ${users} AS u (user_id, sid, expire)
      SELECT owner, id, ${link.at('until')}
      FROM unnest($1::text[], $2::text[], $3::double precision[]) AS asked (id, owner, until)
      ORDER BY owner COLLATE "C", id COLLATE "C"
      ON CONFLICT (user_id, sid) DO UPDATE SET expire = greatest(u.expire, excluded.expire)`,
    unlink: `WITH held AS (
      SELECT user_id, sid FROM ${users} WHERE (sid, user_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
      ORDER BY user_id COLLATE "C", sid COLLATE "C" FOR UPDATE)
      DELETE FROM ${users} u USING held WHERE u.user_id = held.user_id AND u.sid = held.sid`,
    linked: `SELECT sid FROM ${users} u
      WHERE user_id = $1 AND (expire > ${link.at('$2')} OR EXISTS (SELECT FROM ${table} t WHERE t.sid = u.sid))`,
    pruneUsers: `WITH e AS MATERIALIZED (
      SELECT u.user_id, u.sid, t.expire AS until FROM ${users} u LEFT JOIN ${table} t ON t.sid = u.sid
      WHERE ${alone} AND ${endedLink} ORDER BY u.expire LIMIT $2),
      gone AS (DELETE FROM ${users} u USING e WHERE ${sameLink} AND ${endedLink} AND e.until IS NULL RETURNING u.sid),
      moved AS (UPDATE ${users} u SET expire = ${link.kept(moment('e.until'))} FROM e
        WHERE ${sameLink} AND ${endedLink} AND e.until > ${at('$1')} RETURNING u.sid)
      SELECT sid FROM gone UNION ALL SELECT sid FROM moved`,
    removeUsers: `DELETE FROM ${users}`,
  }
}
