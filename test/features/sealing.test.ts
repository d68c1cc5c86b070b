import { createSecretKey, randomBytes } from 'node:crypto'
import { readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import express from 'express'
import fc from 'fast-check'
import Database from 'libsql'
import mysql from 'mysql2'
import pg from 'pg'
import { createClient } from 'redis'
import { afterAll, describe, expect, test } from 'vitest'
import session from '../../src'
import { Signer } from '../../src/request/signer'
import type { SessionError } from '../../src/base/errors'
import type { MaybePromise } from '../../src/base/maybe-promise'
import {
  RecordStore,
  type RecordPage,
  type SessionRecord,
  type Version,
  type WriteCondition,
} from '../../src/store/record-store'
import type { Encryption } from '../../src/features/sealing/envelope'
import { SealedStore, type HashIds } from '../../src/features/sealing/sealed-store'
import { MysqlStore } from '../../src/stores/mysql'
import { PostgresStore } from '../../src/stores/postgres'
import { RedisStore } from '../../src/stores/redis'
import { SqliteStore } from '../../src/stores/sqlite'
import { recordStoreContract, signedCookie, storeContract } from '../../src/testing'
import { SECRET, withServer } from '../support/app'
import { describeWith } from '../support/servers'

type Options = { hashIds?: HashIds; encryption?: Encryption }

const HOUR = 3_600_000
const KEY = 'FhGGIBvOu8H6VvRb2ma5mnJ0M1hFyVvAyQMLSSxzyhk='
const OLD_KEY = Buffer.alloc(32, 7)
const ID = 'an-id-of-a-session-0123456789abc'
const text = (data: object = {}): string => JSON.stringify({ cookie: { originalMaxAge: null }, ...data })
const TEXT = text({ name: 'Ada Lovelace' })
/** TEXT, stored under ID with KEY, made by a script of its own after docs/decisions/encryption-envelope.md. */
const FIXTURE = text({
  sealed:
    'v1.prLxH6AD.AAECAwQFBgcICQoL.OwiSuHHsPovgrmjvyubEhXMjcDGxT-Yfj92yZD3dIWcimbdDqX20o3q1H8o9myEZjpiBudHH4rGwv4gac9pycRj7UIvGlQoh',
})
const inAnHour = (): number => Date.now() + HOUR

/** A memory store that answers later, each time when `turn` says so, and not necessarily in order. */
class LaterStore extends RecordStore {
  readonly memory = new session.MemoryStore()
  turn: () => Promise<unknown>

  constructor(turn: () => Promise<unknown> = () => new Promise((resolve) => setImmediate(resolve))) {
    super()
    this.turn = turn
  }

  async read(id: string): Promise<SessionRecord | null> {
    await this.turn()
    return this.memory.read(id)
  }

  async write(id: string, text: string, expires: number, condition: WriteCondition): Promise<string | null> {
    await this.turn()
    return this.memory.write(id, text, expires, condition)
  }

  async renew(id: string, expires: number, from?: number): Promise<boolean> {
    await this.turn()
    return this.memory.renew(id, expires, from)
  }

  async remove(id: string, version?: Version): Promise<boolean> {
    await this.turn()
    return this.memory.remove(id, version)
  }

  async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    await this.turn()
    return this.memory.scan(cursor, limit)
  }
}

/** Gives keys back as the IDs they were made of, which is what the contract's cases look for. */
class NamingStore extends SealedStore {
  readonly #ids = new Map<string, string>()

  constructor(inner: RecordStore, options: Options) {
    super(inner, options)
    const { link, linked } = this
    if (link && linked) {
      this.link = (user, id, expires) => link(user, this.#named(id), expires)
      this.linked = async (user) => (await linked(user)).map((key) => this.#idOf(key))
    }
  }

  override write(id: string, text: string, expires: number, condition: WriteCondition): MaybePromise<Version | null> {
    return super.write(this.#named(id), text, expires, condition)
  }

  override async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    const page = await super.scan(cursor, limit)
    return { ...page, records: page.records.map((record) => ({ ...record, id: this.#idOf(record.id) })) }
  }

  #named(id: string): string {
    this.#ids.set(keyOf(this, id), id)
    return id
  }

  #idOf(key: string): string {
    return this.#ids.get(key) ?? key
  }
}

/** The key that a new session gets. */
function keyOf(store: SealedStore, id = ID): string {
  return store.keysOf(id)[0] as string
}

const MODES: Record<string, Options> = {
  'hashed IDs': { hashIds: true },
  encryption: { encryption: KEY },
  'keyed hashes, migration and encryption': { hashIds: { key: 'a key', migrate: true }, encryption: [KEY, OLD_KEY] },
}

/** The error that a read of a sealed record ends with. */
async function failureOf(reading: () => MaybePromise<unknown>): Promise<SessionError> {
  try {
    await reading()
  } catch (error) {
    return error as SessionError
  }
  throw new Error('it was read without an error')
}

async function opened(store: SealedStore, id = ID): Promise<string | undefined> {
  return (await store.read(id))?.text
}

for (const [mode, options] of Object.entries(MODES)) {
  for (const [kind, Inner] of Object.entries({ synchronous: session.MemoryStore, asynchronous: LaterStore })) {
    describe(`${mode} over an ${kind} store keeps the contract`, () => {
      const make = (): SealedStore => new NamingStore(new Inner(), options)
      for (const { group, name, run } of recordStoreContract(make)) test.concurrent(`record, ${group}: ${name}`, run)
      for (const { group, name, run } of storeContract(make)) test.concurrent(`classic, ${group}: ${name}`, run)
    })
  }

  test(`${mode}: a store that answers at once still does`, () => {
    const inner = new session.MemoryStore()
    const store = new SealedStore(inner, options)
    inner.write('plain', TEXT, inAnHour(), 'always')
    expect(typeof store.write(ID, TEXT, inAnHour(), 'absent')).toBe('string')
    expect(store.read(ID)).toMatchObject({ text: TEXT })
    expect(store.renew(ID, inAnHour())).toBe(true)
    expect(store.remove(ID)).toBe(true)
    expect(store.scan(null, 0)).toHaveProperty('records')
    if (typeof options.hashIds === 'object' && options.hashIds.migrate) {
      expect(store.read('plain')).toMatchObject({ text: TEXT })
    }
  })
}

describe('the store inside', () => {
  test('lends its lifetime, serializer, optional methods and events', () => {
    class LinkStore extends session.MemoryStore {
      override readonly linksExpire = true
    }
    const inner = new LinkStore({ ttl: 1234 })
    inner.serializer = { stringify: JSON.stringify, parse: JSON.parse }
    const store = new SealedStore(inner, { hashIds: true })
    expect(store).toMatchObject({ ttl: 1234, serializer: inner.serializer, inProcess: true, linksExpire: true })
    expect(new SealedStore(inner, { encryption: KEY }).inProcess).toBe(false)
    const optional = ['prune', 'removeAll', 'count', 'link', 'unlink', 'linked', 'close']
    const present = (of: object): string[] => optional.filter((name) => name in of)
    expect(present(store)).toEqual(optional.slice(0, -1))
    expect(present(new SealedStore(new LaterStore(), { hashIds: true }))).toEqual([])
    const events: string[] = []
    for (const name of ['connect', 'disconnect']) store.on(name, () => events.push(name))
    inner.emit('disconnect')
    inner.emit('connect')
    expect(events).toEqual(['disconnect', 'connect'])
  })

  test('lends the lifetime of a MemoryStore, though a subclass calls something else ttl', () => {
    class Minutely extends session.MemoryStore {
      override readonly ttl = 60
    }
    expect(new SealedStore(new Minutely(), { hashIds: true }).ttl).toBe(24 * HOUR)
  })

  test('says when a session ends, even by a function', () => {
    const redis = new RedisStore({ client: createClient(), ttl: () => 60 })
    const ends = new SealedStore(redis, { hashIds: true }).expiresOf({ cookie: {} })
    expect(Math.abs(ends - Date.now() - 60_000)).toBeLessThan(10_000)
  })

  test('is cleared and counted without its optional methods, and without the right key', async () => {
    const inner = new LaterStore()
    await new SealedStore(inner, { hashIds: true, encryption: OLD_KEY }).write(ID, TEXT, inAnHour(), 'always')
    const store = new SealedStore(inner, { hashIds: true, encryption: KEY })
    expect(await store.length()).toBe(1)
    await store.clear()
    expect(inner.memory.count()).toBe(0)
  })
})

describe('hashed IDs', () => {
  test('what the store holds is found by key, and is no ID', async () => {
    const inner = new session.MemoryStore()
    const store = new SealedStore(inner, { hashIds: { migrate: true }, encryption: KEY })
    await store.write(ID, TEXT, inAnHour(), 'absent')
    await store.link?.('ada', ID, inAnHour())
    const keys = inner.scan(null, 10).records.map(({ id }) => id)
    expect(keys).toEqual([keyOf(store)])
    expect(keys[0]).toMatch(/^h1\.[\w-]{43}$/)
    expect(await store.linked?.('ada')).toEqual(keys)
    const named = store.idOf(keyOf(store))
    expect(await opened(store, named)).toBe(TEXT)
    await store.write(named, text({ n: 2 }), inAnHour(), 'present')
    expect(await store.readKeys(['no key', ...keys])).toMatchObject([null, { text: text({ n: 2 }) }])
    expect(await store.removeKeys('ada', ['no key', ...keys])).toEqual([false, true])
    expect(await store.read(ID)).toBeNull()
    expect(await store.linked?.('ada')).toEqual([])
  })

  test('the ID by which a store knows a record without its ID is no ID for another process', async () => {
    const inner = new session.MemoryStore()
    const store = new SealedStore(inner, { hashIds: true })
    await store.write(ID, TEXT, inAnHour(), 'absent')
    const another = new SealedStore(inner, { hashIds: true })
    expect(await another.read(store.idOf(keyOf(store)))).toBeNull()
    expect(await opened(another, another.idOf(keyOf(store)))).toBe(TEXT)
  })

  test('a leaked key is no ID, not even while sessions are migrated', async () => {
    const inner = new session.MemoryStore()
    const store = new SealedStore(inner, { hashIds: { migrate: true } })
    await store.write(ID, TEXT, inAnHour(), 'absent')
    const leaked = keyOf(store)
    expect(await store.read(leaked)).toBeNull()
    expect(await store.renew(leaked, inAnHour())).toBe(false)
    expect(await store.write(leaked, text({ planted: true }), inAnHour(), 'present')).toBeNull()
    expect(await store.remove(leaked)).toBe(false)
    expect(await opened(store)).toBe(TEXT)
  })

  test('with a key the hash is another for each key, of whatever kind the key is', () => {
    const keyBy = (hashIds: HashIds): string => keyOf(new SealedStore(new session.MemoryStore(), { hashIds }))
    const bytes = Buffer.from('a key')
    const same = ['a key', bytes, new Uint8Array(bytes).buffer, createSecretKey(bytes)].map((key) => keyBy({ key }))
    expect(new Set(same).size).toBe(1)
    expect(new Set([same[0], keyBy({ key: 'another' }), keyBy(true), keyBy({})]).size).toBe(3)
  })

  test.each([
    ['of no known kind', 'sha256'],
    ['with an empty key', { key: '' }],
    ['with a key of no kind', { key: 5 }],
    ['with a migrate that is neither true nor false', { migrate: 'yes' }],
  ])('an option %s is refused at once', (_, hashIds) => {
    expect(() => new SealedStore(new session.MemoryStore(), { hashIds: hashIds as HashIds })).toThrow(/^hashIds/)
  })
})

describe('migration', () => {
  const before: Record<string, Options> = { plain: {}, encrypted: { encryption: OLD_KEY } }

  for (const [was, options] of Object.entries(before)) {
    const migrating: Options = { hashIds: { migrate: true }, encryption: [KEY, OLD_KEY] }
    const setUp = async (): Promise<{ inner: session.MemoryStore; store: SealedStore }> => {
      const inner = new session.MemoryStore()
      await new SealedStore(inner, options).write(ID, TEXT, inAnHour(), 'always')
      return { inner, store: new SealedStore(inner, migrating) }
    }
    const keysIn = (inner: session.MemoryStore): string[] => inner.scan(null, 10).records.map(({ id }) => id)

    test(`${was}: a session stays where it lies, and is read, renewed and written there`, async () => {
      const { inner, store } = await setUp()
      const ends = inner.read(ID)?.expires as number
      const read = await store.read(ID)
      expect(read).toMatchObject({ text: TEXT, expires: ends })
      expect(await store.read(ID)).toEqual(read)
      expect(await store.renew(ID, ends + HOUR, ends)).toBe(true)
      expect(await store.renew(ID, ends, ends)).toBe(false)
      const version = read?.version as string
      expect(await store.write(ID, text({ n: 2 }), inAnHour(), { version })).not.toBeNull()
      expect(await store.write(ID, text({ n: 3 }), inAnHour(), { version })).toBeNull()
      expect(keysIn(inner)).toEqual([ID])
      expect(await opened(new SealedStore(inner, migrating))).toBe(text({ n: 2 }))
      expect(await opened(new SealedStore(inner, { hashIds: true, encryption: KEY }))).toBeUndefined()
    })

    test(`${was}: a session that has ended leaves its ID to a new one, which lies under the hash`, async () => {
      const { inner, store } = await setUp()
      await store.read(ID)
      inner.remove(ID)
      expect(await store.read(ID)).toBeNull()
      expect(await store.write(ID, TEXT, inAnHour(), 'absent')).not.toBeNull()
      expect(keysIn(inner)).toEqual([keyOf(store)])
      expect(await opened(store)).toBe(TEXT)
    })

    test(`${was}: a version removes the session that it is of, and no other`, async () => {
      const { inner, store } = await setUp()
      const version = (await store.read(ID))?.version as string
      await store.write(ID, text({ n: 2 }), inAnHour(), 'present')
      expect(await store.remove(ID, version)).toBe(false)
      expect(await store.remove(ID, (await store.read(ID))?.version)).toBe(true)
      expect(inner.count()).toBe(0)
    })

    test(`${was}: a session is there for writes and renewals that come first`, async () => {
      const { store } = await setUp()
      expect(await store.write(ID, text({ n: 1 }), inAnHour(), 'absent')).toBeNull()
      expect(await opened(store)).toBe(TEXT)
      const second = await setUp()
      expect(await second.store.write(ID, text({ n: 2 }), inAnHour(), 'present')).not.toBeNull()
      expect(await opened(second.store)).toBe(text({ n: 2 }))
      const third = await setUp()
      const later = Date.now() + 2 * HOUR
      expect(await third.store.renew(ID, later)).toBe(true)
      expect(await third.store.read(ID)).toMatchObject({ text: TEXT, expires: later })
      const fourth = await setUp()
      await fourth.store.write(ID, text({ n: 4 }), inAnHour(), 'always')
      expect(keysIn(fourth.inner)).toEqual([ID])
      expect(await opened(fourth.store)).toBe(text({ n: 4 }))
    })

    test(`${was}: a session that is removed is gone under both names`, async () => {
      const { inner, store } = await setUp()
      expect(await store.remove(ID)).toBe(true)
      expect(inner.count()).toBe(0)
      expect(await store.remove(ID)).toBe(false)
      const second = await setUp()
      expect(await second.store.removeKeys('nobody', [ID])).toEqual([true])
      expect(await second.store.read(ID)).toBeNull()
    })

    test(`${was}: a scan shows it`, async () => {
      const { store } = await setUp()
      expect((await store.scan(null, 10)).records).toMatchObject([{ id: ID, text: TEXT }])
    })
  }

  test('a user keeps the sessions under plain IDs, and requests are known to be in them', async () => {
    const inner = new session.MemoryStore()
    const withUser = JSON.stringify({ cookie: { originalMaxAge: null, sessile: { user: 'ada' } } })
    inner.write(ID, withUser, inAnHour(), 'always')
    inner.link('ada', ID)
    const store = new SealedStore(inner, { hashIds: { migrate: true } })
    expect(await store.linked?.('ada')).toEqual([ID])
    await store.link?.('ada', ID, inAnHour())
    expect(await store.linked?.('ada')).toEqual([ID])
    expect(store.keysOf(ID)).toContain(ID)
    await store.unlink?.('ada', ID)
    expect(await store.linked?.('ada')).toEqual([])
  })

  test('a user keeps the copy that counts, of a session that lies under both names', async () => {
    const inner = new session.MemoryStore()
    const store = new SealedStore(inner, { hashIds: { migrate: true } })
    for (const key of [ID, keyOf(store)]) inner.write(key, TEXT, inAnHour(), 'always')
    await store.link?.('ada', ID, inAnHour())
    expect(await store.linked?.('ada')).toEqual([keyOf(store)])
  })

  test('a session that earlier versions have left under both names is gone under both, whichever command fails', async () => {
    for (const versioned of [true, false]) {
      for (let failing = 1; failing <= 6; failing++) {
        const inner = new LaterStore(() => Promise.resolve())
        const store = new SealedStore(inner, { hashIds: { migrate: true } })
        inner.memory.write(ID, TEXT, inAnHour(), 'always')
        inner.memory.write(keyOf(store), text({ n: 2 }), inAnHour(), 'always')
        let calls = 0
        inner.turn = () => (++calls === failing ? Promise.reject(new Error('down')) : Promise.resolve())
        const logOut = async (): Promise<boolean> =>
          store.remove(ID, versioned ? (await store.read(ID))?.version : undefined)
        const isDone = await logOut().catch(() => false)
        const left = await opened(store).catch(() => opened(store))
        // It is gone, or all of it is there as it was: never what it was before.
        expect(left).toBe(isDone ? undefined : text({ n: 2 }))
        if (!isDone) expect(await logOut()).toBe(true)
        expect(inner.memory.count()).toBe(0)
      }
    }
  })

  test('without migration, a session under its plain ID is not found', async () => {
    const inner = new session.MemoryStore()
    inner.write(ID, TEXT, inAnHour(), 'always')
    expect(await new SealedStore(inner, { hashIds: true }).read(ID)).toBeNull()
  })

  test('while migrating, an encrypted record under a plain ID is opened like any other', async () => {
    const inner = new session.MemoryStore()
    const store = new SealedStore(inner, { hashIds: { migrate: true }, encryption: KEY })
    await store.write('victim', TEXT, inAnHour(), 'always')
    inner.write('mine', inner.read(keyOf(store, 'victim'))?.text as string, inAnHour(), 'always')
    expect(await failureOf(() => store.read('mine'))).toMatchObject({ code: 'ERR_SESSION_SEALED' })
  })

  test('parallel requests, in whatever order the store answers them, all find the session', async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), async (scheduler) => {
        const inner = new LaterStore(() => scheduler.schedule(Promise.resolve()))
        inner.memory.write(ID, TEXT, inAnHour(), 'always')
        const store = new SealedStore(inner, { hashIds: { migrate: true }, encryption: KEY })
        const reads = Promise.all([1, 2, 3].map(() => opened(store)))
        await scheduler.waitFor(reads)
        expect(await reads).toEqual([TEXT, TEXT, TEXT])
        expect(inner.memory.scan(null, 10).records.map(({ id }) => id)).toEqual([ID])
      }),
      { numRuns: 300 },
    )
  })

  test('a session that is destroyed while others read and renew it never comes back', async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), async (scheduler) => {
        const inner = new LaterStore(() => scheduler.schedule(Promise.resolve()))
        inner.memory.write(ID, TEXT, inAnHour(), 'always')
        const store = new SealedStore(inner, { hashIds: { migrate: true }, encryption: KEY })
        const work = Promise.all([
          store.read(ID),
          store.renew(ID, inAnHour()),
          store.write(ID, TEXT, inAnHour(), 'present'),
          store.remove(ID),
          store.read(ID),
        ])
        await scheduler.waitFor(work)
        expect(inner.memory.count()).toBe(0)
      }),
      { numRuns: 1000 },
    )
  })
})

describe('the index of users over what was stored before the option user', () => {
  const userOf = (data: object): string | undefined => (data as { name?: string }).name

  test.each([
    ['hashed IDs', { hashIds: true }, { hashIds: true }],
    ['hashed IDs and encryption', { hashIds: true, encryption: KEY }, { hashIds: true, encryption: KEY }],
    ['plain IDs that are migrated', {}, { hashIds: { migrate: true }, encryption: KEY }],
  ])('%s: knows the sessions, which go on, until all of them are ended', async (_, before, now) => {
    const store = new session.MemoryStore()
    const cookies = await Promise.all(
      ['Ada', 'Ada', 'Eve'].map((name) =>
        signedCookie(session({ store, secret: SECRET, resave: false, saveUninitialized: false, ...before }), {
          name,
        } as never),
      ),
    )
    const options = { store, secret: SECRET, resave: false, saveUninitialized: false, user: userOf, ...now }
    const sessions = session(options)
    const app = express()
    app.use(sessions)
    app.get('/', (req, res) => void res.send(userOf(req.session) ?? 'nobody'))
    await withServer(app, async ({ get }) => {
      const seen = (): Promise<string[]> =>
        Promise.all(cookies.map(async (cookie) => (await get('/', { cookie })).body))
      expect(await sessions.users.list('Ada')).toEqual([])
      expect(await sessions.users.index()).toBe(3)
      expect(await sessions.users.index()).toBe(0)
      expect(await seen()).toEqual(['Ada', 'Ada', 'Eve'])
      expect(await sessions.users.list('Ada')).toHaveLength(2)
      expect(await sessions.users.endAll('Ada')).toBe(2)
      expect(await seen()).toEqual(['nobody', 'nobody', 'Eve'])
      expect(store.count()).toBe(1)
    })
  })
})

describe('encryption', () => {
  const sealed = (encryption: Encryption = KEY): { inner: session.MemoryStore; store: SealedStore; stored: string } => {
    const inner = new session.MemoryStore()
    const store = new SealedStore(inner, { encryption })
    void store.write(ID, TEXT, inAnHour(), 'always')
    return { inner, store, stored: inner.read(ID)?.text as string }
  }
  const envelopeIn = (stored: string): string => (JSON.parse(stored) as { sealed: string }).sealed

  test('stores a session without data, as other software sees it, under a fresh IV each time', () => {
    const { inner, store, stored } = sealed()
    expect(stored).toMatch(/^\{"cookie":\{"originalMaxAge":null\},"sealed":"v1\.[\w-]{8}\.[\w-]{16}\.[\w-]{22,}"\}$/)
    void store.write(ID, TEXT, inAnHour(), 'always')
    expect(inner.read(ID)?.text).not.toBe(stored)
  })

  test('the format is the documented one: a record from before opens', () => {
    const { inner, store } = sealed()
    inner.write(ID, FIXTURE, inAnHour(), 'always')
    expect(store.read(ID)).toMatchObject({ text: TEXT })
  })

  test('gives back any text, under any ID', () => {
    const store = new SealedStore(new session.MemoryStore(), { encryption: KEY })
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'grapheme' }), (id, content) => {
        void store.write(id, content, inAnHour(), 'always')
        expect(store.read(id)).toMatchObject({ text: content })
      }),
    )
  })

  test('any changed, added or missing byte of the envelope is an error', async () => {
    const { inner, store, stored } = sealed()
    const envelope = envelopeIn(stored)
    const put = (changed: string): void => {
      inner.write(ID, JSON.stringify({ cookie: { originalMaxAge: null }, sealed: changed }), inAnHour(), 'always')
    }
    put(envelope)
    expect(await opened(store)).toBe(TEXT)
    for (let at = 0; at < envelope.length; at++) {
      for (const instead of [
        'A',
        'B',
        'k',
        '9',
        '-',
        '_',
        '.',
        '!',
        ' ',
        '=',
        '',
        `${envelope[at]}A`,
        `${envelope[at]} `,
      ]) {
        const changed = envelope.slice(0, at) + instead + envelope.slice(at + 1)
        if (changed === envelope) continue
        put(changed)
        expect((await failureOf(() => store.read(ID))).code, `${at}: ${changed}`).toBe('ERR_SESSION_SEALED')
      }
    }
  })

  test('a record with any byte changed is an error, or is the same session still', () => {
    const { inner, store, stored } = sealed()
    fc.assert(
      fc.property(fc.nat(stored.length - 1), fc.string({ maxLength: 3 }), fc.nat(3), (at, instead, length) => {
        inner.write(ID, stored.slice(0, at) + instead + stored.slice(at + length), inAnHour(), 'always')
        try {
          expect(store.read(ID)).toMatchObject({ text: TEXT })
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_SESSION_SEALED' })
        }
      }),
      { numRuns: 2000 },
    )
  })

  test('two records that were swapped do not open, and the error says so', async () => {
    const inner = new session.MemoryStore()
    const store = new SealedStore(inner, { hashIds: true, encryption: KEY })
    const [ada, eve] = [keyOf(store, 'ada'), keyOf(store, 'eve')]
    await store.write('ada', text({ admin: true }), inAnHour(), 'always')
    await store.write('eve', text({ admin: false }), inAnHour(), 'always')
    const [adas, eves] = [inner.read(ada)?.text as string, inner.read(eve)?.text as string]
    inner.write(ada, eves, inAnHour(), 'always')
    inner.write(eve, adas, inAnHour(), 'always')
    for (const id of ['ada', 'eve']) {
      const { code, message } = await failureOf(() => store.read(id))
      expect(code).toBe('ERR_SESSION_SEALED')
      expect(message).toMatch(/changed since it was encrypted, or copied from another session/)
    }
  })

  test('an unencrypted record does not open, and the error says so', async () => {
    const { inner, store } = sealed()
    for (const other of [TEXT, text({ sealed: 'a key of the session itself' }), text({ sealed: 7 }), 'null', '', '{']) {
      inner.write(ID, other, inAnHour(), 'always')
      const { code, message } = await failureOf(() => store.read(ID))
      expect(code).toBe('ERR_SESSION_SEALED')
      expect(message).toMatch(/is not encrypted.*Delete it/)
    }
  })

  test('a record of a later format does not open, and the error says so', async () => {
    const { inner, store, stored } = sealed()
    inner.write(ID, stored.replace('"v1.', '"v2.'), inAnHour(), 'always')
    expect((await failureOf(() => store.read(ID))).message).toMatch(/later version of sessile/)
  })

  test('a wrong key is named, and which one is missing, but never the ID', async () => {
    const { inner, stored } = sealed(OLD_KEY)
    const { code, message } = await failureOf(() => new SealedStore(inner, { encryption: KEY }).read(ID))
    expect(code).toBe('ERR_SESSION_SEALED')
    expect(message).toContain(`another key, ${envelopeIn(stored).split('.')[1]}`)
    expect(message).toContain('Add that key to encryption')
    expect(message).not.toContain(ID)
  })

  test('keys rotate: all decrypt, the first encrypts, and then the old one can go', async () => {
    const { inner } = sealed(OLD_KEY)
    const rotating = new SealedStore(inner, { encryption: [KEY, OLD_KEY] })
    expect(await opened(rotating)).toBe(TEXT)
    await rotating.write(ID, TEXT, inAnHour(), 'present')
    expect(await opened(new SealedStore(inner, { encryption: KEY }))).toBe(TEXT)
    expect((await failureOf(() => new SealedStore(inner, { encryption: OLD_KEY }).read(ID))).code).toBe(
      'ERR_SESSION_SEALED',
    )
  })

  test('the same key in another form is the same key', async () => {
    const bytes = Buffer.from(KEY, 'base64')
    const forms = [bytes, new Uint8Array(bytes), createSecretKey(bytes), bytes.toString('hex'), `${KEY}\n`]
    for (const form of [...forms, bytes.toString('base64url')]) {
      expect(await opened(new SealedStore(sealed().inner, { encryption: form }))).toBe(TEXT)
    }
  })

  test.each([
    ['a passphrase', 'correct horse battery staple'],
    ['a passphrase that base64 decoders take for 32 bytes', 'correct horse battery staple plus seventeen chars'],
    ['an empty string', ''],
    ['16 bytes', Buffer.alloc(16)],
    ['33 bytes in hex', 'ab'.repeat(33)],
    ['a number', 5],
    ['null', null],
    ['a secret KeyObject of 16 bytes', createSecretKey(Buffer.alloc(16))],
  ])('a key that is %s is refused at once', (_, key) => {
    const inner = new session.MemoryStore()
    expect(() => new SealedStore(inner, { encryption: key as string })).toThrow(/^encryption .*openssl rand -base64 32/)
    expect(() => new SealedStore(inner, { encryption: [KEY, key as string] })).toThrow(/^encryption\[1\] /)
  })

  test('a list without a key is refused at once', () => {
    expect(() => new SealedStore(new session.MemoryStore(), { encryption: [] })).toThrow(/^encryption option/)
  })
})

/** An application with a login, over a store whose whole content an attacker has. */
async function leak(
  store: session.Store,
  dump: () => Promise<string> | string,
  cleanUp?: () => unknown,
): Promise<void> {
  try {
    await attack(store, dump)
  } finally {
    await cleanUp?.()
  }
}

async function attack(store: session.Store, dump: () => Promise<string> | string): Promise<void> {
  const app = express()
  const sessions = session({
    store,
    secret: SECRET,
    resave: false,
    saveUninitialized: false,
    hashIds: { migrate: true },
    encryption: KEY,
    user: (data) => (data as { user?: string }).user,
  })
  app.use(sessions)
  app.get('/login', (req, res) => {
    Object.assign(req.session, { user: 'sealed-user-7', name: 'Ada Lovelace' })
    res.send(req.sessionID)
  })
  app.get('/', (req, res) => res.json(req.session))
  app.get('/devices', async (req, res) => res.json(await sessions.users.list('sealed-user-7', req)))

  await withServer(app, async ({ get }) => {
    const login = await get('/login')
    const id = login.body
    const cookie = login.headers['set-cookie']?.[0]?.split(';')[0] as string
    expect((await get('/', { cookie })).body).toContain('Ada Lovelace')
    expect(JSON.parse((await get('/devices', { cookie })).body)).toMatchObject([{ current: true }])

    const leaked = await dump()
    expect(leaked).toContain('h1.')
    expect(leaked).not.toContain(id)
    expect(leaked).not.toContain('Ada Lovelace')
    // Even with the secret of the cookies, nothing in the dump opens the session.
    const signer = new Signer([SECRET])
    const words = new Set(leaked.match(/[\w.-]{20,}/g))
    for (const word of [...words].flatMap((found) => [found, found.replace(/^.*(?=h1\.)/, '').slice(0, 46)])) {
      expect((await get('/', { cookie: `connect.sid=${signer.sign(word)}` })).body).not.toContain('Ada Lovelace')
    }
  })
}

describe('a leaked store gives no usable ID and nothing of the data', () => {
  const unique = (): string => `t${randomBytes(6).toString('hex')}`

  test('MemoryStore', async () => {
    const store = new session.MemoryStore()
    await leak(store, () => JSON.stringify([store.scan(null, 10), store.linked('sealed-user-7')]))
  })

  test('SqliteStore', async () => {
    const file = path.join(tmpdir(), `sessile-${unique()}.db`)
    const database = new Database(file)
    const store = new SqliteStore({ database })
    const cleanUp = async (): Promise<void> => {
      await store.close()
      database.close()
      for (const end of ['', '-wal', '-shm']) rmSync(file + end, { force: true })
    }
    await leak(store, () => readFileSync(file, 'latin1'), cleanUp)
  })

  describeWith('redis', 'RedisStore', () => {
    const client = createClient()
    afterAll(() => void client.destroy())
    test('every key', async () => {
      await client.connect()
      const prefix = `${unique()}:`
      const keys = (): Promise<string[]> => client.keys(`*${prefix}*`)
      const dump = async (): Promise<string> => {
        const parts: unknown[] = []
        for (const key of await keys()) {
          const isIndex = (await client.type(key)) === 'zset'
          parts.push(key, isIndex ? await client.zRange(key, 0, -1) : await client.get(key))
        }
        return JSON.stringify(parts)
      }
      await leak(new RedisStore({ client, prefix }), dump, async () => client.del(await keys()))
    })
  })

  describeWith('postgres', 'PostgresStore', () => {
    const pool = new pg.Pool({ host: '127.0.0.1', user: 'postgres', database: 'test' })
    afterAll(() => pool.end())
    test('every row', async () => {
      const tableName = unique()
      const store = new PostgresStore({ pool, tableName, createTableIfMissing: true })
      const dump = async (): Promise<string> => {
        const results = await Promise.all(
          [tableName, `${tableName}_user`].map((table) => pool.query(`SELECT * FROM ${table}`)),
        )
        return JSON.stringify(results.map(({ rows }) => rows as unknown[]))
      }
      await leak(store, dump, async () => {
        await store.close()
        await pool.query(`DROP TABLE IF EXISTS ${tableName}, ${tableName}_user`)
      })
    })
  })

  describeWith('mysql', 'MysqlStore', () => {
    const pool = mysql.createPool({ host: '127.0.0.1', user: 'root', database: 'test' })
    afterAll(() => pool.promise().end())
    test('every row', async () => {
      const tableName = unique()
      const store = new MysqlStore({ pool, schema: { tableName } })
      const dump = async (): Promise<string> => {
        const results = await Promise.all(
          [tableName, `${tableName}_user`].map((table) => pool.promise().query(`SELECT * FROM ${table}`)),
        )
        return JSON.stringify(results.map(([rows]) => rows))
      }
      await leak(store, dump, async () => {
        await store.close()
        await pool.promise().query(`DROP TABLE IF EXISTS ${tableName}, ${tableName}_user`)
      })
    })
  })
})
