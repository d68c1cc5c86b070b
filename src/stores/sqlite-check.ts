import fs from 'node:fs'
import path from 'node:path'
import type { SqliteDatabase } from './sqlite'

const COLUMNS = { sessions: ['id', 'text', 'expires', 'version'], users: ['user', 'id', 'expires'] }

/** What is wrong with the file and the settings of a database, as sentences that say what to do. */
export function findingsOf(database: SqliteDatabase, tables: { sessions: string; users: string }): string[] {
  const rows = (pragma: string): Record<string, unknown>[] =>
    database.prepare(`PRAGMA ${pragma}`).all() as Record<string, unknown>[]
  const file = rows('database_list').find(({ name }) => name === 'main')?.['file'] as string | null | undefined
  const findings = file
    ? findingsOfFile(file)
    : ['The database is in memory, so that all sessions are gone when the process ends: open a file.']
  if (file && rows('journal_mode')[0]?.['journal_mode'] !== 'wal') {
    findings.push(
      'The file is not in WAL mode, so that readers and writers wait for each other: run PRAGMA journal_mode = WAL.',
    )
  }
  for (const [of, names] of Object.entries(COLUMNS)) {
    const table = tables[of as keyof typeof tables]
    const found = rows(`table_info("${table.replaceAll('"', '""')}")`).map(({ name }) => name)
    const missing = names.filter((name) => !found.includes(name))
    if (found.length === 0) findings.push(`The table ${table} is missing: restart the process, which makes it.`)
    else if (missing.length > 0) {
      findings.push(
        `The table ${table} lacks the column ${missing.join(', ')}: choose another tableName, or drop the table.`,
      )
    }
  }
  return findings
}

function findingsOfFile(file: string): string[] {
  if (!fs.existsSync(file)) {
    return [
      `The file ${file} is gone, and with it all that is written: restart the process, and see that nothing deletes it.`,
    ]
  }
  // SQLite makes the files of its log beside it.
  return [file, path.dirname(file)].flatMap((place) => {
    try {
      fs.accessSync(place, fs.constants.W_OK)
      return []
    } catch {
      return [`${place} cannot be written: give the user that the process runs as the right to.`]
    }
  })
}
