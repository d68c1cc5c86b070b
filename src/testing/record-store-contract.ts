import assert from 'node:assert/strict'
import type { RecordStore, SessionRecord, Version } from '../record-store'
import {
  caseBuilder,
  freshId,
  HOUR,
  later,
  UNUSUAL_IDS,
  unusualValues,
  type ContractCase,
  type MakeStore,
} from './contract-case'

const SOON = 60
const NOT_YET = 50

/** A session as JSON text. */
function text(data: object = {}): string {
  return JSON.stringify({ cookie: { originalMaxAge: null, path: '/' }, ...data })
}

async function create(
  store: RecordStore,
  id: string,
  data: object = {},
  expires = Date.now() + HOUR,
): Promise<Version> {
  const version = await store.write(id, text(data), expires, 'absent')
  assert.ok(version !== null, 'a record is written where there is none')
  return version
}

async function mustRead(store: RecordStore, id: string): Promise<SessionRecord> {
  const record = await store.read(id)
  assert.ok(record, 'the record is there')
  return record
}

function dataOf(record: SessionRecord): Record<string, unknown> {
  return JSON.parse(record.text) as Record<string, unknown>
}

async function allOf(store: RecordStore, limit: number): Promise<Map<string, SessionRecord>> {
  const found = new Map<string, SessionRecord>()
  let cursor: string | null = null
  do {
    const page = await store.scan(cursor, limit)
    for (const record of page.records) found.set(record.id, record)
    cursor = page.cursor
  } while (cursor !== null)
  return found
}

/**
 * The contract of record stores, a case for each of its sentences. Ends may be coarse: a store that keeps seconds is
 * given `granularity: 1000` (ms).
 */
export function recordStoreContract(
  make: MakeStore<RecordStore>,
  facts: { granularity?: number } = {},
): ContractCase[] {
  const { granularity = 1 } = facts
  const { cases, add } = caseBuilder(make)
  const near = (actual: number, wanted: number): void => {
    assert.ok(Math.abs(actual - wanted) <= granularity + NOT_YET, `ends at ${actual}, not at ${wanted}`)
  }
  /** When a record that is to end soon ends, and how long to wait for that. */
  const soon = (): number => Date.now() + SOON
  const untilEnded = (): Promise<void> => later(SOON + granularity + NOT_YET)

  add('read', 'answers null for an ID that has no record', async (store) => {
    assert.equal(await store.read(freshId()), null)
  })
  add('read', 'answers text, end and version of what was written', async (store) => {
    const id = freshId()
    const expires = Date.now() + HOUR
    const version = await create(store, id, { a: 1 }, expires)
    const record = await mustRead(store, id)
    assert.deepEqual(dataOf(record), JSON.parse(text({ a: 1 })))
    assert.equal(record.version, version)
    near(record.expires, expires)
  })
  add('read', 'may renew, and says so, or leaves the end alone', async (store) => {
    const id = freshId()
    const expires = Date.now() + HOUR
    await create(store, id, {}, expires)
    const record = await store.read(id, expires + HOUR)
    assert.ok(record)
    near(record.expires, record.renewed ? expires + HOUR : expires)
    near((await mustRead(store, id)).expires, record.expires)
  })
  add('read', 'keeps records apart by their IDs, however unusual', async (store) => {
    for (const [n, id] of UNUSUAL_IDS.entries()) await create(store, id, { n })
    for (const [n, id] of UNUSUAL_IDS.entries()) assert.equal(dataOf(await mustRead(store, id))['n'], n, id)
    for (const id of UNUSUAL_IDS) assert.equal(await store.remove(id), true, id)
  })
  add('read', 'gives back unusual values as they were', async (store) => {
    for (const [name, value] of Object.entries(unusualValues())) {
      const id = freshId()
      await create(store, id, { value })
      assert.deepEqual(dataOf(await mustRead(store, id))['value'], value, name)
    }
    assert.equal(({} as { polluted?: unknown }).polluted, undefined)
  })

  add('write', 'always: writes whether there is a record or not', async (store) => {
    const id = freshId()
    assert.ok((await store.write(id, text({ n: 1 }), Date.now() + HOUR, 'always')) !== null)
    assert.ok((await store.write(id, text({ n: 2 }), Date.now() + HOUR, 'always')) !== null)
    assert.equal(dataOf(await mustRead(store, id))['n'], 2)
  })
  add('write', 'absent: leaves a live record alone', async (store) => {
    const id = freshId()
    await create(store, id, { n: 1 })
    assert.equal(await store.write(id, text({ n: 2 }), Date.now() + HOUR, 'absent'), null)
    assert.equal(dataOf(await mustRead(store, id))['n'], 1)
  })
  add('write', 'absent: an expired record counts as none', async (store) => {
    const id = freshId()
    await create(store, id, { n: 1 }, soon())
    await untilEnded()
    await create(store, id, { n: 2 })
    assert.equal(dataOf(await mustRead(store, id))['n'], 2)
  })
  add('write', 'present: writes over a live record only', async (store) => {
    const id = freshId()
    assert.equal(await store.write(id, text(), Date.now() + HOUR, 'present'), null)
    assert.equal(await store.read(id), null)
    await create(store, id, { n: 1 })
    assert.ok((await store.write(id, text({ n: 2 }), Date.now() + HOUR, 'present')) !== null)
    assert.equal(dataOf(await mustRead(store, id))['n'], 2)
  })
  add('write', 'version: writes only over the version that was read', async (store) => {
    const id = freshId()
    const first = await create(store, id, { n: 1 })
    const second = await store.write(id, text({ n: 2 }), Date.now() + HOUR, { version: first })
    assert.ok(second !== null)
    assert.equal(await store.write(id, text({ n: 3 }), Date.now() + HOUR, { version: first }), null)
    assert.equal(dataOf(await mustRead(store, id))['n'], 2)
    assert.ok((await store.write(id, text({ n: 4 }), Date.now() + HOUR, { version: second })) !== null)
  })
  add('write', 'version: a version that was read serves as well as one that write gave', async (store) => {
    const id = freshId()
    await create(store, id, { n: 1 })
    const { version } = await mustRead(store, id)
    assert.ok((await store.write(id, text({ n: 2 }), Date.now() + HOUR, { version })) !== null)
  })
  add('write', 'version: neither an absent nor an expired record is written over', async (store) => {
    const id = freshId()
    const version = await create(store, id, {}, soon())
    await untilEnded()
    assert.equal(await store.write(id, text(), Date.now() + HOUR, { version }), null)
    assert.equal(await store.read(id), null)
  })
  add('write', 'moves the end', async (store) => {
    const id = freshId()
    await create(store, id)
    const expires = Date.now() + 2 * HOUR
    await store.write(id, text({ a: 1 }), expires, 'present')
    near((await mustRead(store, id)).expires, expires)
  })
  add('write', 'of a record that has ended keeps none', async (store) => {
    const id = freshId()
    await create(store, id)
    await store.write(id, text(), Date.now() - HOUR, 'always')
    await untilEnded()
    assert.equal(await store.read(id), null)
  })

  add('expiry', 'an expired record is absent to read, renew and remove', async (store) => {
    const id = freshId()
    await create(store, id, {}, soon())
    await untilEnded()
    assert.equal(await store.read(id), null)
    assert.equal(await store.read(id, Date.now() + HOUR), null)
    assert.equal(await store.renew(id, Date.now() + HOUR), false)
    assert.equal(await store.write(id, text(), Date.now() + HOUR, 'present'), null)
    assert.equal(await store.remove(id), false)
  })
  add('renew', 'moves the end, and neither text nor version', async (store) => {
    const id = freshId()
    const version = await create(store, id, { a: 1 })
    const expires = Date.now() + 2 * HOUR
    assert.equal(await store.renew(id, expires), true)
    const record = await mustRead(store, id)
    near(record.expires, expires)
    assert.equal(dataOf(record)['a'], 1)
    assert.ok((await store.write(id, text(), expires, { version })) !== null, 'the version is still the same')
  })
  add('renew', 'can bring the end nearer', async (store) => {
    const id = freshId()
    await create(store, id)
    await store.renew(id, soon())
    await untilEnded()
    assert.equal(await store.read(id), null)
  })
  add('renew', 'does not bring back a record that was removed', async (store) => {
    const id = freshId()
    await create(store, id)
    await store.remove(id)
    assert.equal(await store.renew(id, Date.now() + HOUR), false)
    assert.equal(await store.read(id), null)
  })
  add('remove', 'tells whether there was a live record', async (store) => {
    const id = freshId()
    await create(store, id)
    assert.equal(await store.remove(id), true)
    assert.equal(await store.remove(id), false)
    assert.equal(await store.read(id), null)
  })
  add('remove', 'a removed record comes back by no conditional write', async (store) => {
    const id = freshId()
    const version = await create(store, id)
    await store.remove(id)
    assert.equal(await store.write(id, text(), Date.now() + HOUR, { version }), null)
    assert.equal(await store.write(id, text(), Date.now() + HOUR, 'present'), null)
    assert.equal(await store.read(id), null)
  })

  add('scan', 'finds every live record, in pages', async (store) => {
    const ids = Array.from({ length: 57 }, freshId)
    for (const id of ids) await create(store, id, { id })
    const found = await allOf(store, 10)
    for (const id of ids) assert.equal(dataOf(found.get(id) as SessionRecord)['id'], id)
  })
  add('scan', 'leaves out what has expired or was removed', async (store) => {
    const [kept, expired, removed] = [freshId(), freshId(), freshId()]
    await create(store, kept)
    await create(store, expired, {}, soon())
    await create(store, removed)
    await store.remove(removed)
    await untilEnded()
    const found = await allOf(store, 10)
    assert.deepEqual([found.has(kept), found.has(expired), found.has(removed)], [true, false, false])
  })
  add('scan', 'finds what lives through it, while others come and go', async (store) => {
    const ids = Array.from({ length: 40 }, freshId)
    for (const id of ids) await create(store, id)
    const found = new Set<string>()
    let cursor: string | null = null
    do {
      const page = await store.scan(cursor, 5)
      for (const { id } of page.records) found.add(id)
      cursor = page.cursor
      const extra = freshId()
      await create(store, extra)
      await store.remove(extra)
    } while (cursor !== null)
    for (const id of ids) assert.ok(found.has(id))
  })

  add('parallel', 'of many that write where there is none, one does', async (store) => {
    const id = freshId()
    const writers = Array.from({ length: 30 }, (_, n) =>
      Promise.resolve(store.write(id, text({ n }), Date.now() + HOUR, 'absent')),
    )
    const written = (await Promise.all(writers)).filter((version) => version !== null)
    assert.equal(written.length, 1)
  })
  add('parallel', 'of many that write over one version, one does', async (store) => {
    const id = freshId()
    const version = await create(store, id)
    const writers = Array.from({ length: 30 }, (_, n) =>
      Promise.resolve(store.write(id, text({ n }), Date.now() + HOUR, { version })),
    )
    const written = (await Promise.all(writers)).filter((each) => each !== null)
    assert.equal(written.length, 1)
  })
  add('parallel', '50 writers that read, change and try again lose nothing', async (store) => {
    const id = freshId()
    await create(store, id)
    const writer = async (n: number): Promise<void> => {
      for (;;) {
        const { text: was, version } = await mustRead(store, id)
        const data = { ...(JSON.parse(was) as object), [`key${n}`]: n }
        if ((await store.write(id, JSON.stringify(data), Date.now() + HOUR, { version })) !== null) return
      }
    }
    await Promise.all(Array.from({ length: 50 }, (_, n) => writer(n)))
    const data = dataOf(await mustRead(store, id))
    for (let n = 0; n < 50; n++) assert.equal(data[`key${n}`], n)
  })

  add('classic', 'get, set, touch and destroy work over the records', async (store) => {
    const id = freshId()
    const expires = new Date(Date.now() + HOUR)
    const data = { cookie: { originalMaxAge: HOUR, expires, path: '/' }, user: 'ada' } as never
    await store.set(id, data)
    assert.equal(((await store.get(id)) as unknown as { user: string }).user, 'ada')
    const moved = new Date(Date.now() + 2 * HOUR)
    await store.touch(id, { cookie: { originalMaxAge: HOUR, expires: moved } } as never)
    near(new Date((await store.get(id))?.cookie.expires as Date).getTime(), moved.getTime())
    assert.ok(Object.keys((await store.all()) ?? {}).includes(id))
    await store.destroy(id)
    assert.equal(await store.get(id), undefined)
  })

  add('optional', 'prune deletes expired records, no more than asked, and no live ones', async (store) => {
    if (!store.prune) return
    const kept = freshId()
    await create(store, kept)
    for (let n = 0; n < 5; n++) await create(store, freshId(), {}, soon())
    await untilEnded()
    assert.ok((await store.prune(3)) <= 3)
    while ((await store.prune(3)) > 0);
    assert.ok(await store.read(kept))
  })
  add('optional', 'count counts, removeAll removes', async (store) => {
    if (!store.removeAll || !store.count) return
    await create(store, freshId())
    await create(store, freshId())
    assert.equal(await store.count(), 2)
    await store.removeAll()
    assert.equal(await store.count(), 0)
  })
  add('optional', 'link notes sessions of a user, unlink takes that back', async (store) => {
    if (!store.link || !store.unlink || !store.linked) return
    const user = freshId()
    const [one, two] = [freshId(), freshId()]
    for (const id of [one, two, one]) {
      await store.link(user, id, Date.now() + HOUR)
      await store.write(id, text(), Date.now() + HOUR, 'always')
    }
    assert.deepEqual((await store.linked(user)).sort(), [one, two].sort())
    await store.unlink(user, one)
    assert.deepEqual(await store.linked(user), [two])
    assert.deepEqual(await store.linked(freshId()), [])
  })
  return cases
}
