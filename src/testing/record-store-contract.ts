import assert from 'node:assert/strict'
import type { RecordStore, SessionRecord, Version, WriteCondition } from '../store/record-store'
import {
  assertNothingPolluted,
  collectCases,
  endsOf,
  freshId,
  HOUR,
  manyTimes,
  MORE_THAN_TWO_PAGES,
  UNUSUAL_IDS,
  UNUSUAL_USERS,
  unusualValues,
  withStore,
  type ContractCase,
  type MakeStore,
  type StoreFacts,
} from './contract-case'

const WRITERS = 50
/** As many as go together in one step of a store. */
const SEVERAL = 100
/** More pages, tries or steps than any case needs, so that a store that never ends fails. */
const ENOUGH = 1000

/** More than `ENOUGH`: a server may hold much other data, which a scan passes by a few keys a page. */
const MOST_PAGES = 20_000

/**
 * The contract of record stores: a case for each of its sentences. `storeContract` works for record stores, too, as the base
 * class has the classic methods.
 */
export function recordStoreContract(make: MakeStore<RecordStore>, facts: StoreFacts = {}): ContractCase[] {
  const { cases, add } = collectCases(make)
  const { soon, untilEnded, near } = endsOf(facts)

  add('read', 'answers null for an ID that has no record', async (store) => {
    assert.equal(await store.read(freshId()), null)
    for (const id of UNUSUAL_IDS) assert.equal(await store.read(id), null, id)
  })
  add('read', 'answers text, end and version of what was written', async (store) => {
    const id = freshId()
    const expires = Date.now() + HOUR
    const version = await create(store, id, { a: 1 }, expires)
    const record = await mustRead(store, id)
    assert.deepEqual(dataOf(record), JSON.parse(textOf({ a: 1 })))
    assert.equal(record.version, version)
    near(record.expires, expires)
  })
  add('read', 'may renew, and says so, or leaves the end alone', async (store) => {
    const id = freshId()
    const expires = Date.now() + HOUR
    const cookie = { originalMaxAge: 2 * HOUR, path: '/' }
    const version = await create(store, id, { cookie, a: 1 }, expires)
    const record = await store.read(id, expires + HOUR)
    assert.ok(record)
    near(record.expires, record.renewed ? expires + HOUR : expires)
    const after = await mustRead(store, id)
    near(after.expires, record.expires)
    assert.deepEqual([dataOf(after)['a'], after.version], [1, version], 'text and version stay')
  })
  add('read', 'that would renew makes no record', async (store) => {
    const id = freshId()
    assert.equal(await store.read(id, Date.now() + HOUR), null)
    assert.equal(await store.read(id), null)
  })
  add('read', 'keeps records apart by their IDs, however unusual', async (store) => {
    for (const [n, id] of UNUSUAL_IDS.entries()) await create(store, id, { n })
    for (const [n, id] of UNUSUAL_IDS.entries()) assert.equal(dataOf(await mustRead(store, id))['n'], n, id)
    for (const [n, id] of UNUSUAL_IDS.entries()) {
      assert.equal(await store.remove(id), true, id)
      const next = UNUSUAL_IDS[n + 1]
      if (next !== undefined) await mustRead(store, next)
    }
  })
  add('read', 'gives back unusual values as they were', async (store) => {
    for (const [name, value] of Object.entries(unusualValues())) {
      const id = freshId()
      await create(store, id, { value })
      assert.deepEqual(dataOf(await mustRead(store, id))['value'], value, name)
    }
    assertNothingPolluted()
  })
  add('read', 'sees nothing of another store beside it', async (store) => {
    const [here, there] = [freshId(), freshId()]
    await create(store, here)
    await withStore(make, async (other) => {
      await create(other, there)
      assert.equal(await other.read(here), null)
      assert.equal(await store.read(there), null)
      assert.equal(await other.remove(here), false)
      assert.deepEqual([...(await scanAll(other, 10)).keys()], [there])
      await other.removeAll?.()
    })
    await mustRead(store, here)
  })

  add('write', 'always: writes whether there is a record or not', async (store) => {
    const id = freshId()
    await mustWrite(store, id, { n: 1 }, 'always')
    await mustWrite(store, id, { n: 2 }, 'always')
    assert.equal(dataOf(await mustRead(store, id))['n'], 2)
  })
  add('write', 'absent: leaves a live record alone', async (store) => {
    const id = freshId()
    const expires = Date.now() + HOUR
    const version = await create(store, id, { n: 1 }, expires)
    assert.equal(await store.write(id, textOf({ n: 2 }), expires + HOUR, 'absent'), null)
    const record = await mustRead(store, id)
    assert.deepEqual([dataOf(record)['n'], record.version], [1, version])
    near(record.expires, expires)
  })
  add('write', 'absent: an expired record counts as none', async (store) => {
    const id = freshId()
    await create(store, id, { n: 1 }, soon())
    await untilEnded()
    await create(store, id, { n: 2 })
    assert.equal(dataOf(await mustRead(store, id))['n'], 2)
  })
  add('write', 'absent: a removed record counts as none', async (store) => {
    const id = freshId()
    await create(store, id, { n: 1 })
    await store.remove(id)
    await create(store, id, { n: 2 })
    assert.equal(dataOf(await mustRead(store, id))['n'], 2)
  })
  add('write', 'present: writes over a live record only', async (store) => {
    const id = freshId()
    assert.equal(await store.write(id, textOf(), Date.now() + HOUR, 'present'), null)
    assert.equal(await store.read(id), null)
    await create(store, id, { n: 1 })
    await mustWrite(store, id, { n: 2 }, 'present')
    assert.equal(dataOf(await mustRead(store, id))['n'], 2)
  })
  add('write', 'present: an expired record is not written over', async (store) => {
    const id = freshId()
    await create(store, id, {}, soon())
    await untilEnded()
    assert.equal(await store.write(id, textOf(), Date.now() + HOUR, 'present'), null)
    assert.equal(await store.read(id), null)
  })
  add('write', 'version: writes only over the version that was read', async (store) => {
    const id = freshId()
    const first = await create(store, id, { n: 1 })
    const second = await mustWrite(store, id, { n: 2 }, { version: first })
    assert.equal(await store.write(id, textOf({ n: 3 }), Date.now() + HOUR, { version: first }), null)
    assert.equal(dataOf(await mustRead(store, id))['n'], 2)
    await mustWrite(store, id, { n: 4 }, { version: second })
  })
  add('write', 'version: one that was read or scanned serves as well as one that write gave', async (store) => {
    const id = freshId()
    await create(store, id, { n: 1 })
    const { version } = await mustRead(store, id)
    await mustWrite(store, id, { n: 2 }, { version })
    const scanned = (await scanAll(store, 10)).get(id)
    assert.ok(scanned)
    await mustWrite(store, id, { n: 3 }, { version: scanned.version })
  })
  add('write', 'version: neither an absent nor an expired record is written over', async (store) => {
    const [expired, removed] = [freshId(), freshId()]
    for (const id of [expired, removed]) {
      const version = await create(store, id, {}, id === expired ? soon() : undefined)
      if (id === expired) await untilEnded()
      else await store.remove(id)
      assert.equal(await store.write(id, textOf(), Date.now() + HOUR, { version }), null)
      assert.equal(await store.read(id), null)
    }
  })
  add('write', 'version: differs whenever the content does', async (store) => {
    const id = freshId()
    const versions = new Set<Version>([await create(store, id, { n: 0 })])
    for (let n = 1; n <= 20; n++) versions.add(await mustWrite(store, id, { n }, n % 2 ? 'present' : 'always'))
    assert.equal(versions.size, 21)
  })
  add('write', 'version: one from before a record was removed and made anew does not fit', async (store) => {
    const id = freshId()
    const version = await create(store, id, { n: 1 })
    await store.remove(id)
    await create(store, id, { n: 2 })
    assert.equal(await store.write(id, textOf({ n: 3 }), Date.now() + HOUR, { version }), null)
    assert.equal(dataOf(await mustRead(store, id))['n'], 2)
  })
  add('write', 'moves the end, whatever the condition', async (store) => {
    const id = freshId()
    const first = await create(store, id)
    const conditions: WriteCondition[] = [{ version: first }, 'present', 'always']
    for (const [n, condition] of conditions.entries()) {
      const expires = Date.now() + (n + 2) * HOUR
      assert.notEqual(await store.write(id, textOf({ n }), expires, condition), null)
      near((await mustRead(store, id)).expires, expires)
    }
    await mustWrite(store, id, {}, 'always', soon())
    await untilEnded()
    assert.equal(await store.read(id), null)
  })
  add('write', 'of a record that has ended keeps none', async (store) => {
    const id = freshId()
    await create(store, id)
    await store.write(id, textOf(), Date.now() - HOUR, 'always')
    await untilEnded()
    assert.equal(await store.read(id), null)
  })

  add('expiry', 'an expired record is absent to every method', async (store) => {
    const id = freshId()
    await create(store, id, {}, soon())
    await untilEnded()
    assert.equal(await store.renew(id, Date.now() + HOUR), false)
    assert.equal(await store.read(id, Date.now() + HOUR), null)
    assert.equal(await store.read(id), null)
    assert.equal((await scanAll(store, 10)).has(id), false)
    assert.equal(await store.remove(id), false)
  })
  add('renew', 'moves the end, and neither text nor version', async (store) => {
    const id = freshId()
    const version = await create(store, id, { a: 1 })
    const expires = Date.now() + 2 * HOUR
    assert.equal(await store.renew(id, expires), true)
    const record = await mustRead(store, id)
    near(record.expires, expires)
    assert.deepEqual([dataOf(record)['a'], record.version], [1, version])
    await mustWrite(store, id, { a: 2 }, { version })
  })
  add('renew', 'can bring the end nearer', async (store) => {
    const id = freshId()
    await create(store, id)
    assert.equal(await store.renew(id, soon()), true)
    await untilEnded()
    assert.equal(await store.read(id), null)
  })
  add('renew', 'is false and makes nothing where there is no record', async (store) => {
    const [never, removed] = [freshId(), freshId()]
    await create(store, removed)
    await store.remove(removed)
    for (const id of [never, removed]) {
      assert.equal(await store.renew(id, Date.now() + HOUR), false)
      assert.equal(await store.read(id), null)
    }
  })
  add('renew', 'given an end, moves only a record that ends then still', async (store) => {
    const id = freshId()
    const version = await create(store, id, { a: 1 })
    const first = (await mustRead(store, id)).expires
    assert.equal(await store.renew(id, first + HOUR, first), true)
    const second = (await mustRead(store, id)).expires
    near(second, first + HOUR)
    assert.equal(await store.renew(id, first + 2 * HOUR, first), false)
    near((await mustRead(store, id)).expires, second)
    await mustWrite(store, id, { a: 2 }, { version }, first - HOUR / 2)
    assert.equal(await store.renew(id, second + HOUR, second), false)
    near((await mustRead(store, id)).expires, first - HOUR / 2)
    assert.equal(await store.renew(freshId(), first, first), false)
  })
  add('renew', 'given an end, neither keeps a removed record nor undoes what is written meanwhile', async (store) => {
    const [removed, written] = [freshId(), freshId()]
    const nearer = Date.now() + HOUR / 2
    for (const id of [removed, written]) {
      const version = await create(store, id)
      const { expires } = await mustRead(store, id)
      const [renewed] = await Promise.all([
        store.renew(id, expires + HOUR, expires),
        id === removed ? store.remove(id) : mustWrite(store, id, { n: 1 }, { version }, nearer),
      ])
      assert.equal(typeof renewed, 'boolean')
    }
    assert.equal(await store.read(removed), null)
    near((await mustRead(store, written)).expires, nearer)
  })
  add('remove', 'tells whether there was a live record', async (store) => {
    const id = freshId()
    assert.equal(await store.remove(id), false)
    await create(store, id)
    assert.equal(await store.remove(id), true)
    assert.equal(await store.remove(id), false)
    assert.equal(await store.read(id), null)
  })
  add('remove', 'given a version deletes only that one', async (store) => {
    const id = freshId()
    const first = await mustWrite(store, id, { n: 1 }, 'absent')
    const second = await mustWrite(store, id, { n: 2 }, 'present')
    assert.equal(await store.remove(id, first), false)
    await mustRead(store, id)
    await store.renew(id, Date.now() + HOUR)
    assert.equal(await store.remove(id, second), true)
    assert.equal(await store.read(id), null)
    assert.equal(await store.remove(id, second), false)
  })
  add('remove', 'given a version, of many at once one deletes, or one that writes is first', async (store) => {
    const id = freshId()
    const version = await mustWrite(store, id, { n: 0 }, 'absent')
    const removed = await race(async (n) => {
      if (n === 15) return store.write(id, textOf({ n }), Date.now() + HOUR, { version })
      return (await store.remove(id, version)) || null
    })
    assert.equal(removed.length, 1)
    assert.equal((await store.read(id)) !== null, removed[0] === 15)
  })
  add('remove', 'leaves other records alone', async (store) => {
    const [one, two] = [freshId(), freshId()]
    await create(store, one)
    await create(store, two)
    await store.remove(one)
    await mustRead(store, two)
  })

  add('scan', 'of an empty store finds nothing', async (store) => {
    assert.equal((await scanAll(store, 10)).size, 0)
  })
  add('scan', 'finds every live record whole, in pages of about the size asked for', async (store) => {
    const expires = Date.now() + HOUR
    const versions = new Map<string, Version>()
    for (let n = 0; n < 57; n++) {
      const id = freshId()
      versions.set(id, await create(store, id, { id }, expires))
    }
    for (const limit of [1, 10, ENOUGH]) {
      const pages: number[] = []
      const found = await scanAll(store, limit, (page) => void pages.push(page.length))
      assert.equal(found.size, versions.size)
      for (const [id, version] of versions) {
        const record = found.get(id)
        assert.ok(record)
        assert.deepEqual([dataOf(record)['id'], record.version], [id, version])
        near(record.expires, expires)
      }
      if (limit < ENOUGH) assert.ok(Math.max(...pages) < versions.size, `a page of ${limit} is not everything`)
    }
  })
  add('scan', 'finds unusual IDs as they are', async (store) => {
    for (const id of UNUSUAL_IDS) await create(store, id)
    assert.deepEqual([...(await scanAll(store, 3)).keys()].sort(), [...UNUSUAL_IDS].sort())
  })
  add('scan', 'leaves out what has expired or was removed', async (store) => {
    const [kept, expired, removed] = [freshId(), freshId(), freshId()]
    await create(store, kept)
    await create(store, expired, {}, soon())
    await create(store, removed)
    await store.remove(removed)
    await untilEnded()
    assert.deepEqual([...(await scanAll(store, 10)).keys()], [kept])
  })
  add('scan', 'finds what lives through it, while others come, change and go', async (store) => {
    const ids = Array.from({ length: 40 }, freshId)
    for (const id of ids) await create(store, id)
    const found = await scanAll(store, 5, async (page) => {
      for (const { id } of page) if (ids.includes(id)) await store.write(id, textOf({ seen: true }), in1h(), 'present')
      const [comes, goes] = [freshId(), freshId()]
      await create(store, comes, {}, soon())
      await create(store, goes)
      await store.remove(goes)
    })
    for (const id of ids) assert.ok(found.has(id))
  })
  add('scan', 'finds everything, while what was found is removed', async (store) => {
    const ids = Array.from({ length: 40 }, freshId)
    for (const id of ids) await create(store, id)
    const found = await scanAll(store, 5, async (page) => {
      for (const { id } of page) await store.remove(id)
    })
    for (const id of ids) assert.ok(found.has(id))
    assert.equal((await scanAll(store, 5)).size, 0)
  })

  add('scan', 'goes on over more than two pages, and so do records, all and length', async (store) => {
    const ids = Array.from({ length: MORE_THAN_TWO_PAGES }, freshId)
    await manyTimes(ids.length, (n) => create(store, ids[n] as string, { n }))
    const wanted = [...ids].sort()
    const found = new Set<string>()
    for await (const { id } of store.records()) found.add(id)
    assert.deepEqual([...found].sort(), wanted)
    assert.deepEqual(Object.keys((await store.all()) ?? {}).sort(), wanted)
    assert.equal(await store.length(), wanted.length)
  })
  add('scan', 'can be left early, and begun again', async (store) => {
    for (let n = 0; n < 30; n++) await create(store, freshId())
    for (let n = 0; n < 50; n++) await store.scan(null, 5)
    assert.equal((await scanAll(store, 5)).size, 30)
  })

  add('parallel', 'of many that write where there is none, one does', async (store) => {
    const [fresh, expired] = [freshId(), freshId()]
    await create(store, expired, {}, soon())
    await untilEnded()
    for (const id of [fresh, expired]) {
      const written = await race((n) => store.write(id, textOf({ n }), in1h(), 'absent'))
      assert.equal(written.length, 1)
      assert.equal(dataOf(await mustRead(store, id))['n'], written[0])
    }
  })
  add('parallel', 'of many that write over one version, one does', async (store) => {
    const id = freshId()
    const version = await create(store, id)
    const written = await race((n) => store.write(id, textOf({ n }), in1h(), { version }))
    assert.equal(written.length, 1)
    assert.equal(dataOf(await mustRead(store, id))['n'], written[0])
  })
  add('parallel', `${WRITERS} writers that read, change and try again lose nothing`, async (store) => {
    const id = freshId()
    await create(store, id)
    const addKey = async (n: number): Promise<void> => {
      for (let tries = 0; tries < ENOUGH; tries++) {
        const { text, version } = await mustRead(store, id)
        const data = { ...(JSON.parse(text) as object), [`key${n}`]: n }
        if ((await store.write(id, JSON.stringify(data), in1h(), { version })) !== null) return
      }
      assert.fail(`writer ${n} was refused ${ENOUGH} times`)
    }
    await Promise.all(Array.from({ length: WRITERS }, (_, n) => addKey(n)))
    const data = dataOf(await mustRead(store, id))
    for (let n = 0; n < WRITERS; n++) assert.equal(data[`key${n}`], n)
  })
  add('parallel', `${WRITERS} writers of different records do not disturb each other`, async (store) => {
    const ids = Array.from({ length: WRITERS }, freshId)
    await Promise.all(ids.map((id, n) => create(store, id, { n })))
    for (const [n, id] of ids.entries()) assert.equal(dataOf(await mustRead(store, id))['n'], n)
  })
  add('parallel', 'of many that remove, one did', async (store) => {
    const id = freshId()
    await create(store, id)
    const removed = await race(async () => ((await store.remove(id)) ? true : null))
    assert.equal(removed.length, 1)
  })
  add('parallel', 'a record that is removed among writers and renewals never comes back', async (store) => {
    for (let round = 0; round < 10; round++) {
      const id = freshId()
      const version = await create(store, id)
      await race(async (n): Promise<unknown> => {
        if (n === round * 3) return store.remove(id)
        if (n % 4 === 0) return store.write(id, textOf({ n }), in1h(), 'present')
        if (n % 4 === 1) return store.write(id, textOf({ n }), in1h(), { version })
        return n % 4 === 2 ? store.renew(id, in1h()) : store.read(id, in1h())
      })
      assert.equal(await store.read(id), null)
    }
  })

  add('classic', 'get, set, touch, destroy and all work over the records', async (store) => {
    const id = freshId()
    const expires = new Date(Date.now() + HOUR)
    const data = { cookie: { originalMaxAge: HOUR, expires, path: '/' }, user: 'ada' } as never
    await store.set(id, data)
    assert.equal(dataOf(await mustRead(store, id))['user'], 'ada')
    near((await mustRead(store, id)).expires, expires.getTime())
    assert.equal(((await store.get(id)) as unknown as { user: string }).user, 'ada')
    const moved = new Date(Date.now() + 2 * HOUR)
    await store.touch(id, { cookie: { originalMaxAge: HOUR, expires: moved } } as never)
    near((await store.get(id))?.cookie.expires, moved.getTime())
    assert.deepEqual(Object.keys((await store.all()) ?? {}), [id])
    await store.destroy(id)
    assert.equal(await store.get(id), undefined)
  })
  add('classic', 'a cookie without an end has the record end after ttl', async (store) => {
    const id = freshId()
    const data = { cookie: { originalMaxAge: null, path: '/' } } as never
    const expected = store.expiresOf(data)
    assert.ok(expected > Date.now())
    await store.set(id, data)
    near((await mustRead(store, id)).expires, expected)
  })

  add('classic', 'a cookie may end at a number of ms since the epoch', async (store) => {
    const [kept, ended] = [freshId(), freshId()]
    const expires = Date.now() + 2 * HOUR
    await store.set(kept, { cookie: { originalMaxAge: HOUR, expires } } as never)
    near((await mustRead(store, kept)).expires, expires)
    await store.touch(kept, { cookie: { originalMaxAge: HOUR, expires: expires + HOUR } } as never)
    near((await mustRead(store, kept)).expires, expires + HOUR)
    assert.equal(typeof (await store.get(kept))?.cookie.expires, 'number')
    await store.set(ended, { cookie: { originalMaxAge: 1, expires: soon() } } as never)
    await untilEnded()
    assert.equal(await store.get(ended), undefined)
  })
  add('classic', 'a cookie whose end is no time, or none at all, has the record end after ttl', async (store) => {
    const noTimes = [false, 0, '', 'soon', NaN, Infinity, undefined, new Date(NaN)]
    const sessions = [...noTimes.map((expires) => ({ cookie: { expires } })), {}]
    for (const session of sessions) {
      const id = freshId()
      await store.set(id, session as never)
      near((await mustRead(store, id)).expires, store.expiresOf({ cookie: { expires: null } }))
      await store.touch(id, session as never)
      near((await mustRead(store, id)).expires, store.expiresOf({ cookie: { expires: null } }))
    }
  })

  add(
    'check',
    'finds nothing or says what to do, and changes nothing',
    async (store) => {
      const id = freshId()
      await create(store, id, { n: 1 })
      const findings = await store.check?.()
      assert.ok(Array.isArray(findings))
      for (const finding of findings)
        assert.ok(typeof finding === 'string' && finding !== '', 'a finding is a sentence')
      assert.deepEqual([...(await scanAll(store, 10)).keys()], [id])
    },
    'check',
  )
  add(
    'prune',
    'deletes expired records, no more than asked, and no live ones',
    async (store) => {
      const kept = freshId()
      await create(store, kept)
      for (let n = 0; n < 7; n++) await create(store, freshId(), {}, soon())
      await untilEnded()
      let total = 0
      for (let steps = 0, pruned = 1; pruned > 0; total += pruned) {
        assert.ok(++steps < ENOUGH, 'pruning comes to an end')
        pruned = (await store.prune?.(3)) as number
        assert.ok(pruned >= 0 && pruned <= 3, `pruned ${pruned} of at most 3`)
      }
      assert.ok(total <= 7, 'it says how many')
      await mustRead(store, kept)
    },
    'prune',
  )
  add(
    'count',
    'counts live records',
    async (store) => {
      assert.equal(await store.count?.(), 0)
      const [one, two] = [freshId(), freshId()]
      await create(store, one)
      await create(store, two)
      await create(store, freshId(), {}, soon())
      await untilEnded()
      assert.equal(await store.count?.(), 2)
      await store.remove(one)
      assert.equal(await store.count?.(), 1)
    },
    'count',
  )
  add(
    'removeAll',
    'deletes every record',
    async (store) => {
      for (const id of UNUSUAL_IDS) await create(store, id)
      await store.removeAll?.()
      assert.equal((await scanAll(store, 10)).size, 0)
      for (const id of UNUSUAL_IDS) assert.equal(await store.read(id), null, id)
      await create(store, UNUSUAL_IDS[0] as string)
    },
    'removeAll',
  )

  /** Cases of the index of users' sessions, whose three methods come together. */
  const addLinks = (name: string, body: (store: LinkingStore) => Promise<void>, ...needs: string[]): void =>
    add('link', name, body as (store: RecordStore) => Promise<void>, 'link', 'unlink', 'linked', ...needs)

  addLinks('notes sessions of a user, once each, and unlink takes that back', async (store) => {
    const user = freshId()
    const [one, two] = [freshId(), freshId()]
    for (const id of [one, two, one]) {
      await store.link(user, id, in1h())
      await mustWrite(store, id, {}, 'always')
    }
    assert.deepEqual((await store.linked(user)).sort(), [one, two].sort())
    await store.unlink(user, one)
    assert.deepEqual(await store.linked(user), [two])
    await store.unlink(user, one)
    assert.deepEqual(await store.linked(freshId()), [])
  })
  addLinks('keeps users apart, however unusual their names', async (store) => {
    const sessions = new Map<string, string>()
    for (const user of UNUSUAL_USERS) {
      const id = freshId()
      sessions.set(user, id)
      await store.link(user, id, in1h())
      await create(store, id)
    }
    for (const [user, id] of sessions) assert.deepEqual(await store.linked(user), [id], user)
    for (const [user, id] of sessions) await store.unlink(user, id)
    for (const user of sessions.keys()) assert.deepEqual(await store.linked(user), [], user)
  })
  addLinks('notes a session of two users at once, for each until it is taken back', async (store) => {
    const [one, other, id] = [freshId(), freshId(), freshId()]
    await store.link(one, id, in1h())
    await create(store, id)
    await store.link(other, id, in1h())
    assert.deepEqual([await store.linked(one), await store.linked(other)], [[id], [id]])
    await store.unlink(other, id)
    assert.deepEqual([await store.linked(one), await store.linked(other)], [[id], []])
  })
  addLinks('notes a session that is written later, whatever is pruned meanwhile', async (store) => {
    const [user, id] = [freshId(), freshId()]
    await create(store, freshId(), {}, soon())
    await store.link(user, id, in1h())
    await untilEnded()
    for (let steps = 0; steps < ENOUGH && ((await store.prune?.(10)) ?? 0) > 0; steps++);
    await create(store, id)
    assert.deepEqual(await store.linked(user), [id])
  })
  addLinks('outlasts its end while the session lives, or is to be noted again', async (store) => {
    const [user, id] = [freshId(), freshId()]
    await store.link(user, id, soon())
    await create(store, id)
    if (store.linksExpire) await store.link(user, id, in1h())
    await untilEnded()
    await store.prune?.(10)
    assert.deepEqual(await store.linked(user), [id])
  })
  addLinks(
    'removeLinked: removes the records that are there, and their links to the user',
    async (store) => {
      const [user, other] = [freshId(), freshId()]
      const ids = Array.from({ length: SEVERAL }, freshId)
      const [coming, kept] = [freshId(), freshId()]
      for (const id of [...ids, coming, kept]) await store.link(user, id, in1h())
      for (const id of [...ids, kept]) await create(store, id)
      await store.link(other, ids[0] as string, in1h())
      await store.remove(ids[1] as string)
      const removed = await store.removeLinked?.(user, [...ids, coming])
      assert.deepEqual(removed, [...ids.map((_, n) => n !== 1), false])
      for (const id of ids) assert.equal(await store.read(id), null)
      await create(store, coming)
      assert.deepEqual((await store.linked(user)).filter((id) => id !== ids[1]).sort(), [coming, kept].sort())
      await mustRead(store, kept)
      assert.deepEqual(await store.removeLinked?.(user, []), [])
    },
    'removeLinked',
  )
  add(
    'readMany',
    'answers what read does, for each ID in its place',
    async (store) => {
      const ids = Array.from({ length: SEVERAL }, freshId)
      for (const [n, id] of ids.entries()) await create(store, id, { n }, n === 2 ? soon() : in1h())
      await untilEnded()
      await store.remove(ids[4] as string)
      const wanted = [freshId(), ...ids, ...UNUSUAL_IDS].reverse()
      for (const [n, id] of UNUSUAL_IDS.entries()) await create(store, id, { n })
      const read = (await store.readMany?.(wanted)) ?? []
      assert.equal(read.length, wanted.length)
      for (const [n, id] of wanted.entries()) {
        const [found, single] = [read[n], await store.read(id)]
        assert.deepEqual([found?.text, found?.version], [single?.text, single?.version], id)
        if (found && single) near(found.expires, single.expires)
        else assert.equal(found, null)
      }
      assert.deepEqual(await store.readMany?.([]), [])
    },
    'readMany',
  )
  return cases
}

type LinkingStore = RecordStore & Required<Pick<RecordStore, 'link' | 'unlink' | 'linked'>>

function in1h(): number {
  return Date.now() + HOUR
}

/** A session as JSON text. */
function textOf(data: object = {}): string {
  return JSON.stringify({ cookie: { originalMaxAge: null, path: '/' }, ...data })
}

function dataOf(record: SessionRecord): Record<string, unknown> {
  return JSON.parse(record.text) as Record<string, unknown>
}

async function mustWrite(
  store: RecordStore,
  id: string,
  data: object,
  condition: WriteCondition,
  expires = in1h(),
): Promise<Version> {
  const version = await store.write(id, textOf(data), expires, condition)
  assert.ok(
    typeof version === 'string' || typeof version === 'number',
    `a write (${JSON.stringify(condition)}) is made`,
  )
  return version
}

function create(store: RecordStore, id: string, data: object = {}, expires = in1h()): Promise<Version> {
  return mustWrite(store, id, data, 'absent', expires)
}

async function mustRead(store: RecordStore, id: string): Promise<SessionRecord> {
  const record = await store.read(id)
  assert.ok(record, `the record ${id} is there`)
  return record
}

type ScannedRecord = SessionRecord & { id: string }

/** Every record that a scan finds; `between` runs after each page. */
async function scanAll(
  store: RecordStore,
  limit: number,
  between?: (page: ScannedRecord[]) => unknown,
): Promise<Map<string, ScannedRecord>> {
  const found = new Map<string, ScannedRecord>()
  let cursor: string | null = null
  for (let pages = 0; pages < MOST_PAGES; pages++) {
    const page = await store.scan(cursor, limit)
    for (const record of page.records) found.set(record.id, record)
    await between?.(page.records)
    cursor = page.cursor
    if (cursor === null) return found
  }
  assert.fail(`a scan came to no end in ${MOST_PAGES} pages`)
}

/** Runs thirty at once, and returns the numbers of those that did not answer `null`. */
async function race(run: (n: number) => unknown): Promise<number[]> {
  const runs = Array.from({ length: 30 }, async (_, n) => ((await run(n)) === null ? undefined : n))
  return (await Promise.all(runs)).filter((n) => n !== undefined)
}
