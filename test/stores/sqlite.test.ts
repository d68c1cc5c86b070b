import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import type { MaybePromise } from '../../src/base/maybe-promise'
import { SqliteStore, type SqliteStoreOptions } from '../../src/stores/sqlite'
import type { SessionRecord } from '../../src/store/record-store'
import { recordStoreContract, storeContract } from '../../src/testing'
import { describeDrivers, hasNodeSqlite, temporaryFolder } from '../support/sqlite'

const HOUR = 3_600_000
const inAnHour = (): number => Date.now() + HOUR
const anHourAgo = (): number => Date.now() - HOUR
const text = (more: object = {}): string => JSON.stringify({ cookie: {}, ...more })
const folder = temporaryFolder()
const newFile = (): string => path.join(folder, `${randomBytes(6).toString('hex')}.db`)

/** Both contracts, every case with a store of its own. */
function contracts(make: () => { store: SqliteStore; close: () => Promise<void> }): void {
  for (const { group, name, run } of recordStoreContract(make)) test(`record, ${group}: ${name}`, run)
  for (const { group, name, run } of storeContract(make)) test(`classic, ${group}: ${name}`, run)
}

describe('options', () => {
  const refused = expect.objectContaining({ code: 'ERR_SESSION_OPTION' }) as Error

  const database = { exec: () => undefined, prepare: () => undefined, close: () => undefined }

  test.each([undefined, {}, { file: 'a.db', database }])('%j: one of file and database is needed', (options) => {
    expect(() => new SqliteStore(options as never)).toThrow(refused)
    expect(() => new SqliteStore(options as never)).toThrow(/needs the option file or the option database/)
  })
  test.each([
    [{ ttl: 0 }, /option ttl must be a positive number of ms/],
    [{ ttl: '1' }, /SqliteStore: option ttl must be a positive number of ms; it is "1"/],
    [{ pruneInterval: -1 }, /option pruneInterval must be a number of ms, 0 for never/],
    [
      { database: { ...database, prepare: () => Promise.resolve() } },
      /must answer synchronously: libsql and not libsql\/p/,
    ],
    [{ database: '/tmp/x.db' }, /option database must be an open database, .*; the option file takes a path/],
  ])('%j is refused', (options, message) => {
    const make = (): unknown => new SqliteStore({ database, ...options } as never)
    expect(make).toThrow(refused)
    expect(make).toThrow(message)
  })
  test.skipIf(hasNodeSqlite)('without node:sqlite, the error of a file says what to do', () => {
    const open = (): unknown => new SqliteStore({ file: newFile() })
    expect(open).toThrow(refused)
    expect(open).toThrow(/22\.13 and later have it, 22\.5 with the flag --experimental-sqlite/)
    expect(open).toThrow(/npm install libsql, or better-sqlite3 .* and give the option database: new Database\(file\)/)
  })
})

describe.skipIf(!hasNodeSqlite)('a file that the store opens', () => {
  contracts(() => {
    const store = new SqliteStore({ file: newFile() })
    return { store, close: () => store.close() }
  })

  test('is closed once, however often the store is', async () => {
    const store = new SqliteStore({ file: newFile() })
    await store.close()
    await store.close()
    expect(() => store.read('a')).toThrow()
  })

  test('may be opened by 8 processes at once, which wait for each other', async () => {
    const file = newFile()
    const program = `
      const { SqliteStore } = require(${JSON.stringify(path.join(__dirname, '../../dist/stores/sqlite'))})
      const store = new SqliteStore({ file: ${JSON.stringify(file)} })
      for (let n = 0; n < 100; n++) store.write(process.pid + '-' + n, 'x', Date.now() + ${HOUR}, 'absent')
      store.close()`
    await Promise.all(Array.from({ length: 8 }, () => promisify(execFile)(process.execPath, ['-e', program])))
    const store = new SqliteStore({ file })
    expect(store.count()).toBe(800)
    await store.close()
  })
})

describeDrivers((open, driver) => {
  if (driver !== 'libsql') {
    contracts(() => {
      const database = open(newFile())
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
      const store = new SqliteStore({ database })
      return { store, close: () => store.close().then(() => void database.close()) }
    })
  }

  const newStore = (options: Omit<SqliteStoreOptions, 'file' | 'database'> = {}) => {
    const database = open(newFile())
    return { database, store: new SqliteStore({ database, pruneInterval: 0, ...options }) }
  }

  test('the settings of a database stay, and it stays open', async () => {
    const database = open(newFile())
    database.exec('PRAGMA synchronous = EXTRA; PRAGMA busy_timeout = 1234; PRAGMA journal_mode = TRUNCATE')
    const settings = (): unknown[] =>
      ['synchronous', 'busy_timeout', 'journal_mode'].flatMap((name) => database.prepare(`PRAGMA ${name}`).all())
    const before = settings()
    const store = new SqliteStore({ database })
    store.write('a', text(), inAnHour(), 'absent')
    expect(settings()).toEqual(before)
    await store.close()
    await store.close()
    expect(database.prepare('SELECT id FROM sessions').all()).toMatchObject([{ id: 'a' }])
  })

  test.skipIf(!hasNodeSqlite)('whoever reads a file that the store opened keeps it from nothing', async () => {
    const file = newFile()
    const store = new SqliteStore({ file })
    store.write('a', text(), inAnHour(), 'absent')
    const reader = open(file)
    reader.exec('BEGIN')
    expect(reader.prepare('SELECT id FROM sessions').all()).toHaveLength(1)
    expect(store.remove('a')).toBe(true)
    expect(store.read('a')).toBeNull()
    reader.close()
    await store.close()
  })

  describe('a file that another process has locked', () => {
    /** A store with the settings of a database, and another connection that locks its file. */
    function lockable(settings: string) {
      const file = newFile()
      const [database, other] = [open(file), open(file)]
      database.exec(settings)
      const store = new SqliteStore({ database, pruneInterval: 0 })
      return { store, database, other }
    }

    const unsettled = async (work: MaybePromise<unknown>): Promise<void> => {
      const turn = new Promise((resolve) => setTimeout(resolve, 30, 'the event loop runs'))
      expect(await Promise.race([work, turn])).toBe('the event loop runs')
    }

    test.each(['WAL', 'DELETE'])('in mode %s, each write waits while the event loop runs', async (mode) => {
      const { store, database, other } = lockable(`PRAGMA journal_mode = ${mode}; PRAGMA busy_timeout = 60000`)
      const version = (await store.write('a', text(), inAnHour(), 'absent')) as number
      const writes: { [id: string]: () => MaybePromise<unknown> } = {
        always: () => store.write('a', text(), inAnHour(), 'always'),
        absent: () => store.write('new', text(), inAnHour(), 'absent'),
        present: () => store.write('a', text(), inAnHour(), 'present'),
        version: () => store.write('a', text(), inAnHour(), { version }),
        renew: () => store.renew('a', inAnHour()),
        renewFrom: () => store.renew('new', inAnHour(), inAnHour()),
        remove: () => store.remove('a'),
        removeVersion: () => store.remove('a', version),
        prune: () => store.prune(10),
        link: () => store.link('ada', 'a', inAnHour()),
        unlink: () => store.unlink('ada', 'a'),
        removeAll: () => store.removeAll(),
      }
      for (const [id, write] of Object.entries(writes)) {
        other.exec('BEGIN IMMEDIATE')
        const written = write()
        await unsettled(written)
        other.exec('ROLLBACK')
        await written
        await store.write(id, text(), inAnHour(), 'absent')
        expect(other.prepare('SELECT id FROM sessions WHERE id = ?').all(id)).toHaveLength(1)
      }
      expect(await store.count()).toBe(1)
      expect(database.prepare('PRAGMA busy_timeout').all()).toMatchObject([{ timeout: 60000 }])
    })

    test('writes are made in the order in which they came, and nobody waits to read', async () => {
      const { store, other } = lockable('PRAGMA journal_mode = WAL')
      other.exec('BEGIN IMMEDIATE')
      const done: string[] = []
      const note = (what: string) => (): void => void done.push(what)
      const works = [
        Promise.resolve(store.write('a', text({ n: 1 }), inAnHour(), 'absent')).then(note('absent')),
        Promise.resolve(store.write('a', text({ n: 2 }), inAnHour(), 'present')).then(note('present')),
        Promise.resolve(store.remove('a')).then(note('remove')),
      ]
      expect(store.read('a')).toBeNull()
      other.exec('ROLLBACK')
      await Promise.all(works)
      expect(done).toEqual(['absent', 'present', 'remove'])
      expect(await store.read('a')).toBeNull()
    })

    test('without WAL, reading waits for an exclusive lock while the event loop runs', async () => {
      const { store, other } = lockable('PRAGMA journal_mode = DELETE; PRAGMA busy_timeout = 60000')
      await store.write('a', text(), inAnHour(), 'absent')
      other.exec('BEGIN EXCLUSIVE')
      const reading = store.read('a')
      await unsettled(reading)
      other.exec('ROLLBACK')
      expect(await reading).toMatchObject({ text: text() })
    })

    test('close waits for what waits', async () => {
      const { store, other } = lockable('PRAGMA journal_mode = WAL')
      other.exec('BEGIN IMMEDIATE')
      const writing = store.write('a', text(), inAnHour(), 'absent')
      const closing = store.close()
      await unsettled(closing)
      other.exec('ROLLBACK')
      await closing
      expect(await writing).not.toBeNull()
      expect(other.prepare('SELECT id FROM sessions').all()).toHaveLength(1)
    })

    test('in a transaction of the application, it is an error at once', () => {
      const { store, database, other } = lockable('PRAGMA journal_mode = WAL; PRAGMA busy_timeout = 0')
      other.exec('BEGIN IMMEDIATE')
      database.exec('BEGIN')
      expect(() => store.write('a', text(), inAnHour(), 'absent')).toThrow(/locked/)
      database.exec('ROLLBACK')
      other.exec('ROLLBACK')
    })

    test('after five seconds it is an error, and nothing is written', { tags: ['slow'] }, async () => {
      const { store, other } = lockable('PRAGMA journal_mode = DELETE; PRAGMA busy_timeout = 60000')
      const version = (await store.write('a', text(), inAnHour(), 'absent')) as number
      // Whoever reads the file keeps others from committing, though not from beginning.
      other.exec('BEGIN')
      expect(other.prepare('SELECT id FROM sessions').all()).toHaveLength(1)
      const outcomes = await Promise.allSettled([
        store.write('a', text({ n: 1 }), inAnHour(), { version }),
        store.write('b', text(), inAnHour(), 'absent'),
        store.remove('a'),
        store.renew('a', inAnHour() + HOUR),
        store.renew('a', inAnHour() + HOUR, inAnHour()),
      ])
      for (const outcome of outcomes) {
        const { reason } = outcome as PromiseRejectedResult
        expect(String(reason)).toMatch(/locked/)
      }
      other.exec('COMMIT')
      expect(store.read('a')).toMatchObject({ text: text(), version })
      expect(store.read('b')).toBeNull()
      expect(store.remove('a')).toBe(true)
    })
  })

  test("what is written in an application's own transaction is rolled back with it", () => {
    const { database, store } = newStore()
    database.exec('BEGIN')
    store.write('a', text(), inAnHour(), 'absent')
    store.link('ada', 'a', inAnHour())
    expect(store.count()).toBe(1)
    database.exec('ROLLBACK')
    expect([store.count(), store.linked('ada')]).toEqual([0, []])
  })

  test('numbers are numbers, though the driver is set to answer with BigInts', async () => {
    const database = open(newFile(), { bigInts: true })
    const store = new SqliteStore({ database })
    const expires = inAnHour()
    const version = store.write('a', text(), expires, 'absent') as number
    expect(store.read('a')).toEqual({ id: 'a', text: text(), expires, version })
    expect(store.write('a', text({ n: 1 }), expires, { version })).toBe(version + 1)
    expect((await store.scan(null, 10)).records).toMatchObject([{ expires, version: version + 1 }])
    expect(store.count()).toBe(1)
    store.write('ended', text(), anHourAgo(), 'always')
    expect(store.prune(10)).toBe(1)
  })

  test('renewals are written together, each only over the end that was read', async () => {
    const { store, database } = newStore()
    const [from, to] = [inAnHour(), inAnHour() + HOUR]
    for (const id of ['a', 'b', 'c', 'd', 'e']) store.write(id, text(), from, 'absent')
    await store.renew('e', to, from)
    const renewed = ['a', 'b', 'c', 'd', 'gone'].map(async (id) => store.renew(id, to, from))
    expect(store.read('a')).toMatchObject({ expires: from })
    store.write('b', text(), from - HOUR / 2, 'present')
    store.remove('c')
    database.exec(`UPDATE sessions SET expires = ${from - 1} WHERE id = 'd'`)
    expect(await Promise.all(renewed)).toEqual([true, false, false, false, false])
    expect(['a', 'b', 'c', 'd'].map((id) => (store.read(id) as SessionRecord | null)?.expires)).toEqual([
      to,
      from - HOUR / 2,
      undefined,
      from - 1,
    ])
  })

  test('close sends the renewals that wait', async () => {
    const { store, database } = newStore()
    const [from, to] = [inAnHour(), inAnHour() + HOUR]
    for (const id of ['a', 'b']) store.write(id, text(), from, 'absent')
    const renewed = ['a', 'b'].map(async (id) => store.renew(id, to, from))
    await store.close()
    expect(await Promise.all(renewed)).toEqual([true, true])
    expect(database.prepare('SELECT expires FROM sessions').all()).toMatchObject([{ expires: to }, { expires: to }])
  })

  test('who goes through all sessions leaves the event loop to others after each page', async () => {
    const { database, store } = newStore()
    database.exec('BEGIN')
    for (let n = 0; n < 1200; n++) store.write(`${n}`, text(), inAnHour(), 'absent')
    database.exec('COMMIT')
    let turns = 0
    const counting = (): void => {
      turns++
      next = setImmediate(counting)
    }
    let next = setImmediate(counting)
    let found = 0
    for await (const record of store.records()) found += record.id ? 1 : 0
    clearImmediate(next)
    expect(found).toBe(1200)
    expect(turns).toBeGreaterThanOrEqual(2)
  })

  test('use after the database was closed is an error, of pruning, too', async () => {
    let told: (failure: unknown[]) => void
    const failure = new Promise<unknown[]>((resolve) => (told = resolve))
    const { store, database } = newStore({ pruneInterval: 20, errorLog: (...message) => told(message) })
    store.write('a', text(), inAnHour(), 'absent')
    const renewal = store.renew('a', inAnHour(), inAnHour() + 1)
    database.close()
    expect(() => store.read('a')).toThrow(/closed|not open|finalized/)
    expect(() => store.write('a', text(), inAnHour(), 'always')).toThrow(/closed|not open|finalized/)
    await expect(renewal).rejects.toThrow(/closed|not open|finalized/)
    expect(String((await failure)[1])).toMatch(/closed|not open|finalized/)
    await store.close()
  })

  describe('check', () => {
    test('finds nothing where all is well', async () => {
      const { store, database } = newStore()
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
      expect(await store.check()).toEqual([])
    })
    test('says what to do about settings, a file that is gone and one that cannot be written', async () => {
      const file = newFile()
      const database = open(file)
      const store = new SqliteStore({ database })
      database.exec('PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF; PRAGMA query_only = ON')
      rmSync(file)
      const findings = await store.check()
      expect(findings).toEqual([
        expect.stringMatching(/The file .* is gone.*restore/),
        expect.stringMatching(/PRAGMA journal_mode = WAL/),
        expect.stringMatching(/PRAGMA synchronous = NORMAL/),
        expect.stringMatching(/Nothing can be written: .*readonly.*rights/),
      ])
    })
    test('rejects when the database is closed', async () => {
      const { store, database } = newStore()
      database.close()
      await expect(store.check()).rejects.toThrow(/closed|not open|finalized/)
    })
  })

  test('tables of any name, several in one database', () => {
    const database = open(newFile())
    const names = ['sessions', `My "table's"; --.`, 'sessions_']
    const stores = names.map((tableName) => new SqliteStore({ database, tableName }))
    for (const [n, store] of stores.entries()) {
      store.write('a', text({ n }), inAnHour(), 'absent')
      store.link('ada', 'a', inAnHour())
    }
    stores[0]?.removeAll()
    expect(stores.map((store) => store.count())).toEqual([0, 1, 1])
    expect(stores.map((store) => store.linked('ada'))).toEqual([[], ['a'], ['a']])
    expect(stores[1]?.read('a')).toMatchObject({ text: text({ n: 1 }) })
  })

  describe('pruning', () => {
    const rowsIn = (table: string, { database }: ReturnType<typeof newStore>): number =>
      (database.prepare(`SELECT count(*) AS count FROM ${table}`).all() as [{ count: number }])[0].count

    test('goes in steps, and keeps what lives', () => {
      const made = newStore()
      const { store } = made
      store.write('live', text(), inAnHour(), 'absent')
      for (let n = 0; n < 25; n++) store.write(`ended${n}`, text(), anHourAgo(), 'always')
      expect([1, 2, 3, 4].map(() => store.prune(10))).toEqual([10, 10, 5, 0])
      expect(rowsIn('sessions', made)).toBe(1)
      expect(store.read('live')).not.toBeNull()
    })

    test('has the links of users leave in steps, and looks once at those that stay', () => {
      const made = newStore()
      const { store } = made
      for (let n = 0; n < 12; n++) {
        store.link('ada', `gone${n}`, anHourAgo())
        store.link('ada', `live${n}`, anHourAgo())
        store.write(`live${n}`, text(), inAnHour(), 'absent')
      }
      store.link('ada', 'coming', inAnHour())
      const left = [1, 2, 3, 4].map(() => {
        expect(store.prune(10)).toBeLessThanOrEqual(10)
        return rowsIn('sessions_user', made)
      })
      expect(left[0]).toBeGreaterThanOrEqual(15)
      expect(left.at(-1)).toBe(13)
      expect(store.prune(10)).toBe(0)
    })

    test('happens by itself, again and again', async () => {
      const made = newStore({ pruneInterval: 10 })
      for (let round = 0; round < 2; round++) {
        made.store.write('ended', text(), anHourAgo(), 'always')
        await expect.poll(() => rowsIn('sessions', made)).toBe(0)
      }
      await made.store.close()
    })

    test('tells what fails, and goes on, even if telling fails', async () => {
      let told: (failure: unknown[]) => void
      const failure = new Promise<unknown[]>((resolve) => (told = resolve))
      const made = newStore({
        pruneInterval: 10,
        errorLog: (...message) => {
          told(message)
          throw new Error('the log is full')
        },
      })
      made.database.exec(`CREATE TRIGGER jam BEFORE DELETE ON sessions BEGIN SELECT raise(ABORT, 'jammed'); END`)
      made.store.write('ended', text(), anHourAgo(), 'always')
      const [message, error] = await failure
      expect(message).toMatch(/sessile\/sqlite: expired sessions could not be deleted/)
      expect(String(error)).toMatch(/jammed/)
      made.database.exec('DROP TRIGGER jam')
      await expect.poll(() => rowsIn('sessions', made)).toBe(0)
      await made.store.close()
    })

    test('keeps no process alive', async () => {
      const database = driver === 'node:sqlite' ? `require('node:sqlite').DatabaseSync` : `require('${driver}')`
      const program = `
        const { SqliteStore } = require(${JSON.stringify(path.join(__dirname, '../../dist/stores/sqlite'))})
        console.log(new SqliteStore({ database: new (${database})(':memory:') }).read('a'))`
      const { stdout } = await promisify(execFile)(process.execPath, ['-e', program], { cwd: __dirname })
      expect(stdout).toBe('null\n')
    })
  })

  describe("a user's sessions", () => {
    test('a link waits for its session to be written', () => {
      const { store } = newStore()
      store.link('ada', 'a', inAnHour())
      store.prune(10)
      expect(store.linked('ada')).toEqual(['a'])
      store.write('a', text(), inAnHour(), 'absent')
      expect(store.linked('ada')).toEqual(['a'])
    })

    test('a link lasts as long as its session is renewed', () => {
      const { store } = newStore()
      store.link('ada', 'a', anHourAgo())
      store.write('a', text(), inAnHour(), 'absent')
      store.prune(10)
      expect(store.linked('ada')).toEqual(['a'])
      store.renew('a', inAnHour() + HOUR)
      store.prune(10)
      expect(store.linked('ada')).toEqual(['a'])
    })

    test('a link whose session is gone is not told of', () => {
      const { store } = newStore()
      store.write('a', text(), inAnHour(), 'absent')
      for (const id of ['a', 'b']) store.link('ada', id, anHourAgo())
      expect(store.linked('ada')).toEqual(['a'])
      store.prune(10)
      expect(store.linked('ada')).toEqual(['a'])
      store.remove('a')
      store.prune(10)
      expect(store.linked('ada')).toEqual(['a'])
    })

    test('noted again, a link lasts until the later end', () => {
      const { store } = newStore()
      store.link('ada', 'a', inAnHour())
      store.link('ada', 'a', anHourAgo())
      store.prune(10)
      expect(store.linked('ada')).toEqual(['a'])
    })
  })
})
