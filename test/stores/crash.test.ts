import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import Database from 'libsql'
import { expect, test } from 'vitest'
import { SqliteStore } from '../../src/stores/sqlite'

/** Starts a writer, kills it after so many ms, and answers the number that it acknowledged last. */
function writeUntilKilled(file: string, from: number, ms: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const writer = spawn(process.execPath, [path.join(__dirname, '../support/crash-writer.cjs'), file, String(from)])
    let last = from - 1
    let rest = ''
    writer.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      if (last === from - 1) setTimeout(() => writer.kill('SIGKILL'), ms)
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      const newest = lines.at(-1)
      if (newest) last = Number(newest)
    })
    writer.on('close', (_code, signal) =>
      signal === 'SIGKILL' ? resolve(last) : reject(new Error('the writer ended')),
    )
  })
}

test('a writer killed 50 times at random moments: the file opens, and every acknowledged write is there', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'sessile-'))
  const file = path.join(folder, 'sessions.db')
  let next = 0
  for (let kill = 0; kill < 50; kill++) {
    const last = await writeUntilKilled(file, next, Math.random() * 30)
    const database = new Database(file)
    expect(database.prepare('PRAGMA integrity_check').all()).toEqual([{ integrity_check: 'ok' }])
    const store = new SqliteStore({ database })
    for (let n = next; n <= last; n++)
      expect(store.read(`session-${n}`), `write ${n} after kill ${kill}`).not.toBeNull()
    await store.close()
    database.close()
    // A write may have been made and not acknowledged.
    next = last + 2
  }
  console.log(`${next} writes were acknowledged`)
  rmSync(folder, { recursive: true })
}, 120_000)
