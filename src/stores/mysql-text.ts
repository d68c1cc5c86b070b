import { shortened } from '../base/errors'
import type { MysqlConnection } from './mysql-connection'
import { quoted, type Statements } from './mysql-statements'

/** The bytes that columns hold, by type. */
const LONGEST: Record<string, number> = { tinytext: 255, text: 65_535, mediumtext: 16_777_215, longtext: 2 ** 32 - 1 }
/** The bytes of a packet that other things than the text need. */
const OVERHEAD = 2048

export interface Column {
  type: string
  /** How many bytes of text, or characters of an ID, it holds; `Infinity` when the type does not tell. */
  holds: number
  collation: string
  charset: string
}

/** The columns of ID and text, as the server describes them. */
export async function columnsOf(connection: MysqlConnection, sql: Statements): Promise<{ id: Column; data: Column }> {
  const rows = await connection.query<{ Field: string; Type: string; Collation: string | null }[]>(
    sql.columns,
    [],
    sql.tables,
  )
  const column = (wanted: string): Column => {
    const { Type = '', Collation } =
      rows.find(({ Field }) => quoted(Field).toLowerCase() === wanted.toLowerCase()) ?? {}
    const type = String(Type).toLowerCase()
    const collation = Collation ?? 'binary'
    const holds = LONGEST[type] ?? Number(/\((\d+)\)/.exec(type)?.[1] ?? Infinity)
    return { type, holds, collation, charset: collation.split('_')[0] as string }
  }
  return { id: column(sql.id), data: column(sql.data) }
}

/**
 * Refuses what the server would cut or garble. In its strict mode it refuses by itself; else it only warns, and stores a session
 * that can never be read.
 */
export class MysqlText {
  #columns: ReturnType<typeof columnsOf> | undefined

  constructor(
    private readonly connection: MysqlConnection,
    private readonly sql: Statements,
  ) {}

  /** @throws RangeError when a session does not fit */
  async demandFit(id: string, text: string): Promise<void> {
    const bytes = Buffer.byteLength(text)
    const refuse = (why: string): never => {
      throw new RangeError(`session ${shortened(id)} has ${bytes} bytes, and ${why}`)
    }
    const { isStrict, packet } = await this.connection.settings()
    if (bytes > (LONGEST['mediumtext'] as number)) refuse(`the column holds ${LONGEST['mediumtext']}`)
    if (bytes > packet - OVERHEAD) refuse(`the server takes packets of ${packet}: raise max_allowed_packet`)
    if (isStrict) return
    const columns = await (this.#columns ??= columnsOf(this.connection, this.sql).catch((error: unknown) => {
      this.#columns = undefined
      throw error
    }))
    const { charset, holds } = columns.data
    if (bytes > holds) refuse(`the column holds ${holds}: make it a MEDIUMTEXT`)
    if (id.length > columns.id.holds) refuse(`the column of IDs holds ${columns.id.holds} characters: make it longer`)
    if (!(await this.#keeps(charset, text)))
      refuse(`some of its characters are not in the charset ${charset} of the column`)
  }

  async #keeps(charset: string, text: string): Promise<boolean> {
    if (['utf8mb4', 'binary'].includes(charset) || /^[\0-\x7f]*$/.test(text)) return true
    const sql = `SELECT CONVERT(CONVERT(? USING ${charset}) USING utf8mb4) AS kept`
    const [row] = (await this.connection.execute(sql, [text])) as [{ kept: string }]
    return row.kept === text
  }
}
