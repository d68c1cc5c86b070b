import { OptionError } from '../base/errors'
import { codeOf, type MysqlConnection, type Settings } from './mysql-connection'
import type { Statements } from './mysql-statements'
import { columnsOf } from './mysql-text'

/** How far, in s, clocks may be apart. */
const CLOCKS_APART = 2
/** What the ID of a session may have, in characters: those of sessile have 32, or 46 as hashes. */
const LONGEST_ID = 64
/** In bytes. */
const LARGEST_SESSION = 1_000_000
/** About how many statements the store prepares on a connection. */
const STATEMENTS = 20

/** What an operator should know of server, pool and table. */
export async function findings(connection: MysqlConnection, sql: Statements): Promise<string[]> {
  try {
    const settings = await connection.settings()
    return [
      ...ofServer(settings),
      ...ofPool(connection, settings),
      ...(await ofClock(connection)),
      ...(await ofTable(connection, sql)),
      ...(await ofRights(connection, sql)),
    ]
  } catch (error) {
    if (error instanceof OptionError) return [error.message]
    throw error
  }
}

function* ofServer({ isStrict, packet }: Settings): Generator<string> {
  if (!isStrict)
    yield "the server is not strict, so that it cuts what a column cannot hold; the store refuses such sessions by itself, other software does not: SET GLOBAL sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')"
  if (packet < LARGEST_SESSION)
    yield `sessions of more than ${packet} bytes cannot be stored: raise max_allowed_packet of the server`
}

function* ofPool({ isPool, size }: MysqlConnection, { statements }: Settings): Generator<string> {
  if (!isPool)
    yield 'pool is a single connection: once it is lost, every request fails until the process is restarted; give a pool'
  if (isPool && size === 1)
    yield 'the pool has one connection: requests wait for each other, and for ever if the application holds it while a session is stored; raise connectionLimit'
  if (statements < STATEMENTS * (size ?? 1))
    yield `the server keeps ${statements} prepared statements for all of its clients, and the store needs ${STATEMENTS} for each connection; without, it sends them unprepared, which costs time: raise max_prepared_stmt_count`
}

async function ofClock(connection: MysqlConnection): Promise<string[]> {
  const asked = Date.now() / 1000
  const [row] = (await connection.execute('SELECT UNIX_TIMESTAMP() AS now', [])) as [{ now: number }]
  const now = Number(row.now)
  const apart = now < asked ? Math.min(0, now + 1 - asked) : Math.max(0, now - Date.now() / 1000)
  if (Math.abs(apart) < CLOCKS_APART) return []
  return [
    `the server's clock is ${Math.round(Math.abs(apart))} s ${apart < 0 ? 'behind' : 'ahead of'} this machine's: the processes that share the sessions have to agree on the time, so have all of them synchronise their clocks (NTP)`,
  ]
}

async function ofTable(connection: MysqlConnection, sql: Statements): Promise<string[]> {
  const { table } = sql
  const { id, data } = await columnsOf(connection, sql)
  const findings: string[] = []
  const alter = (column: string, to: string): string => `ALTER TABLE ${table} MODIFY ${column} ${to}`
  const better = alter(sql.data, 'mediumtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin')
  if (data.holds < LARGEST_SESSION)
    findings.push(`sessions of more than ${data.holds} bytes do not fit into the column of ${table}: ${better}`)
  if (!['utf8mb4', 'binary'].includes(data.charset))
    findings.push(
      `the column of ${table} has the charset ${data.charset}, not every character can be stored: ${better}`,
    )
  if (id.holds < LONGEST_ID || !/_bin$|^binary$/.test(id.collation))
    findings.push(
      `the column of IDs of ${table} is ${id.type} ${id.collation}: IDs may not fit, or count as others that differ in case; ` +
        alter(sql.id, 'varchar(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL'),
    )
  return findings
}

/** Tries what needs each right, on nothing. */
async function ofRights(connection: MysqlConnection, sql: Statements): Promise<string[]> {
  const tries: [right: string, statement: string, values: unknown[]][] = [
    ['INSERT', sql.insertNothing, []],
    ['UPDATE', sql.renew, [0, '', 0]],
    ['DELETE', sql.remove, ['', 0]],
  ]
  const lacking: string[] = []
  for (const [right, statement, values] of tries) {
    try {
      await connection.execute(statement, values)
    } catch (error) {
      if (!/^ER_(TABLE|COLUMN)ACCESS_DENIED_ERROR$/.test(codeOf(error))) throw error
      lacking.push(right)
    }
  }
  return lacking.length > 0
    ? [`the database user lacks rights: GRANT ${lacking.join(', ')} ON ${sql.table} TO the user`]
    : []
}
