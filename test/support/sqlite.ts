import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, describe } from 'vitest'
import type { SqliteDatabase } from '../../src/stores/sqlite'

interface Settings {
  /** Has the driver answer with BigInts. */
  bigInts?: boolean
}

export type OpenDatabase = (file: string, settings?: Settings) => SqliteDatabase

type Driver = new (
  file: string,
  settings?: object,
) => SqliteDatabase & {
  defaultSafeIntegers?(on: boolean): unknown
}

const load = createRequire(__filename)
const [major] = process.versions.node.split('.').map(Number) as [number]

export const hasNodeSqlite = builtin() !== undefined

function builtin(): { DatabaseSync: Driver } | undefined {
  const { getBuiltinModule } = process as { getBuiltinModule?: (name: string) => unknown }
  return getBuiltinModule?.('node:sqlite') as { DatabaseSync: Driver } | undefined
}

/** Every driver, where this Node can load it. */
const DRIVERS: { [name: string]: { driver: () => Driver | undefined; needs: string } } = {
  'node:sqlite': { driver: () => builtin()?.DatabaseSync, needs: 'Node 22.13 or later' },
  // Where it does not run it ends the process, so that loading it is not tried.
  'better-sqlite3': {
    driver: () => (major < 22 ? undefined : installed('better-sqlite3')),
    needs: 'Node 22 or later, and: npm install --no-save better-sqlite3',
  },
  libsql: { driver: () => load('libsql') as Driver, needs: 'npm install' },
}

// Not a dev dependency: it would have `npm install` of this repository need a C++ compiler.
function installed(name: string): Driver | undefined {
  try {
    return load(name) as Driver
  } catch {
    return undefined
  }
}

/** `describe` with each driver of SQLite. One that this Node cannot load is skipped, and it is said what it needs. */
export function describeDrivers(body: (open: OpenDatabase, name: string) => void): void {
  for (const [name, { driver, needs }] of Object.entries(DRIVERS)) {
    const Database = driver()
    if (Database) {
      const open: OpenDatabase = (file, { bigInts = false } = {}) => {
        const database = new Database(file, name === 'node:sqlite' ? { readBigInts: bigInts } : {})
        if (bigInts) database.defaultSafeIntegers?.(true)
        return database
      }
      describe(`SqliteStore with ${name}`, () => body(open, name))
    } else {
      console.warn(`skipped: SqliteStore with ${name}; it needs ${needs}`)
      describe.skip(`SqliteStore with ${name}`, () => body(() => undefined as never, name))
    }
  }
}

/** A folder of its own, removed after the tests. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'sessile-sqlite-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
