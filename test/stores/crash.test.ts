import { spawn } from 'node:child_process'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { SqliteStore } from '../../src/stores/sqlite'
import { describeDrivers, temporaryFolder } from '../support/sqlite'

/** Starts a writer, kills it after so many ms, and answers the number that it acknowledged last. */
function writeUntilKilled(driver: string, file: string, from: number, ms: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const program = path.join(__dirname, '../support/crash-writer.cjs')
    const writer = spawn(process.execPath, [program, file, String(from), driver])
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

const folder = temporaryFolder()

describeDrivers((open, driver) => {
  async function killTimes(kills: number): Promise<void> {
    const file = path.join(folder, `${driver.replace(/\W/g, '')}-${kills}.db`)
    let next = 0
    for (let kill = 0; kill < kills; kill++) {
      const last = await writeUntilKilled(driver, file, next, Math.random() * 30)
      const database = open(file)
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
  }

  describe('a writer is killed at random moments: the file opens, and every acknowledged write is there', () => {
    test('3 times', { timeout: 60_000 }, () => killTimes(3))
    test('20 times', { tags: ['slow'], timeout: 120_000 }, () => killTimes(20))
    test('50 times', { tags: ['long'], timeout: 240_000 }, () => killTimes(50))
  })
})
