import assert from 'node:assert/strict'
import type session = require('../index')
import {
  assertNothingPolluted,
  collectCases,
  endsOf,
  freshId,
  HOUR,
  impossibleValues,
  later,
  manyTimes,
  MORE_THAN_TWO_PAGES,
  pollution,
  UNUSUAL_IDS,
  unusualValues,
  within,
  withStore,
  type ContractCase,
  type MakeStore,
  type StoreFacts,
} from './contract-case'

type Data = session.SessionData & Record<string, unknown>

/** How long a store may take to call back, in ms. */
const ANSWER_LIMIT = 5000
/** How long after the first call of a callback a second one is still noticed, in ms. */
const AFTERMATH = 10

/** The classic contract, that of express-session: a case for each of its sentences. Works for any store. */
export function storeContract(make: MakeStore<session.Store>, facts: StoreFacts = {}): ContractCase[] {
  const { cases, add: addCase } = collectCases(make)
  const { soon, untilEnded, near } = endsOf(facts)
  const add = (group: string, name: string, body: (caller: Caller) => Promise<void>, ...needs: string[]): void =>
    addCase(group, name, (store) => called(store, body), ...needs)

  add('store', 'is made from Store', ({ store }) => {
    const inherited = ['on', 'emit', 'createSession', 'load', 'regenerate'] as const
    assert.deepEqual(
      inherited.filter((method) => typeof store[method] !== 'function'),
      [],
    )
    return Promise.resolve()
  })
  add('store', 'shares nothing with another one beside it', async ({ get, set, mustGet }) => {
    const id = freshId()
    await set(id, { n: 1 })
    await withStore(make, (other) =>
      called(other, async (beside) => {
        assert.ok(!(await beside.get(id)))
        await beside.set(id, { n: 2 })
        await beside.destroy(id)
        assert.ok(!(await beside.get(id)))
      }),
    )
    assert.equal((await mustGet(id))['n'], 1)
    assert.ok(await get(id))
  })

  add('get', 'passes nothing for an ID that has no session', async ({ get }) => {
    assert.ok(!(await get(freshId())))
    for (const id of UNUSUAL_IDS) assert.ok(!(await get(id)), id)
  })
  add('get', 'passes what was set', async ({ set, mustGet }) => {
    const id = freshId()
    await set(id, { user: { name: 'ada' }, list: [1, 2] })
    const { user, list } = await mustGet(id)
    assert.deepEqual([user, list], [{ name: 'ada' }, [1, 2]])
  })
  add('get', 'passes a cookie with its settings and its expiry', async ({ set, mustGet }) => {
    const id = freshId()
    const ends = Date.now() + HOUR
    await set(id, {}, ends)
    const { cookie } = await mustGet(id)
    const { originalMaxAge, path, httpOnly } = cookie as unknown as Record<string, unknown>
    assert.deepEqual([originalMaxAge, path, httpOnly], [HOUR, '/', true])
    near(cookie.expires, ends)
  })
  add('get', 'hands out copies', async ({ set, mustGet }) => {
    const id = freshId()
    await set(id, { list: [1] })
    ;((await mustGet(id))['list'] as number[]).push(2)
    assert.deepEqual((await mustGet(id))['list'], [1])
  })
  add('set', 'takes copies', async ({ call, mustGet }) => {
    const id = freshId()
    const data = sessionData({ list: [1] })
    await call('set', id, data)
    ;(data['list'] as number[]).push(2)
    assert.deepEqual((await mustGet(id))['list'], [1])
  })
  add('set', 'leaves what it is given as it was', async ({ call }) => {
    const ends = Date.now() + HOUR
    const data = sessionData({ a: { b: 1 } }, ends)
    await call('set', freshId(), data)
    assert.deepEqual(Object.keys(data), ['cookie', 'a'])
    assert.deepEqual(data['a'], { b: 1 })
    assert.equal(data.cookie.expires?.valueOf(), ends)
  })
  add('set', 'replaces the whole session', async ({ set, mustGet }) => {
    const id = freshId()
    await set(id, { a: 1 })
    await set(id, { b: 2 })
    const data = await mustGet(id)
    assert.deepEqual([data['a'], data['b']], [undefined, 2])
  })
  add('set', 'keeps a session whose cookie ends with the browser', async ({ call, mustGet }) => {
    const id = freshId()
    const cookie = { originalMaxAge: null, expires: null, path: '/', httpOnly: true }
    await call('set', id, { cookie, n: 1 })
    const data = await mustGet(id)
    assert.equal(data['n'], 1)
    assert.ok(!data.cookie.expires)
  })
  add('set', 'keeps sessions apart by their IDs, however unusual', async ({ set, mustGet, get, destroy }) => {
    for (const [n, id] of UNUSUAL_IDS.entries()) await set(id, { n })
    for (const [n, id] of UNUSUAL_IDS.entries()) assert.equal((await mustGet(id))['n'], n, id)
    for (const [n, id] of UNUSUAL_IDS.entries()) {
      await destroy(id)
      assert.ok(!(await get(id)), id)
      const next = UNUSUAL_IDS[n + 1]
      if (next !== undefined) assert.ok(await get(next), `${next} outlives ${id}`)
    }
  })
  add('set', 'keeps unusual values as they are', async ({ set, mustGet }) => {
    for (const [name, value] of Object.entries(unusualValues())) {
      const id = freshId()
      await set(id, { value })
      assert.deepEqual((await mustGet(id))['value'], value, name)
    }
    assertNothingPolluted()
  })
  add('set', 'pollutes no prototype, whatever the keys', async ({ set, mustGet }) => {
    const id = freshId()
    await set(id, pollution())
    assert.equal((await mustGet(id))['polluted'], undefined)
    assertNothingPolluted()
  })
  add('set', 'fails with what JSON cannot hold, and stores nothing of it', async ({ set, get }) => {
    for (const [name, value] of Object.entries(impossibleValues())) {
      const id = freshId()
      await assert.rejects(set(id, { value }), name)
      assert.ok(!(await get(id)), name)
    }
  })
  add('set', 'and destroy work without a callback', async ({ store, get }) => {
    const id = freshId()
    void store.set(id, sessionData({ n: 1 }))
    await until(async () => Boolean(await get(id)))
    void store.destroy(id)
    await until(async () => !(await get(id)))
  })

  add('callbacks', 'are called once, even one that throws', async ({ store, set }) => {
    const id = freshId()
    await set(id)
    const data = sessionData()
    const calls: [string, ...unknown[]][] = [
      ['get', id],
      ['set', id, data],
      ['destroy', id],
    ]
    for (const [method, ...args] of calls) {
      assert.equal(await callsOfThrowing(store, method, args), 1, `calls of what was given to ${method}`)
    }
  })

  add('expiry', 'a session ends when its cookie does', async ({ set, get }) => {
    const id = freshId()
    await set(id, {}, soon())
    await untilEnded()
    assert.ok(!(await get(id)))
  })
  add('expiry', 'a session that was set again ends as set last', async ({ set, get }) => {
    const [prolonged, shortened] = [freshId(), freshId()]
    await set(prolonged, {}, soon())
    await set(prolonged)
    await set(shortened)
    await set(shortened, {}, soon())
    await untilEnded()
    assert.ok(await get(prolonged))
    assert.ok(!(await get(shortened)))
  })
  add('expiry', 'a session that has ended already is not kept', async ({ set, get }) => {
    const id = freshId()
    await set(id, { n: 1 })
    await set(id, { n: 2 }, Date.now() - HOUR)
    await untilEnded()
    assert.ok(!(await get(id)))
  })

  add('destroy', 'deletes, and is content when there is nothing to delete', async ({ set, get, destroy }) => {
    const id = freshId()
    await set(id)
    await destroy(id)
    assert.ok(!(await get(id)))
    await destroy(id)
  })
  add('destroy', 'leaves other sessions alone', async ({ set, get, destroy }) => {
    const [one, two] = [freshId(), freshId()]
    await set(one)
    await set(two)
    await destroy(one)
    assert.ok(await get(two))
  })

  add(
    'touch',
    'puts the end off',
    async ({ set, mustGet, touch }) => {
      let moment = 250
      let id: string
      let end: number
      // A busy server may need longer than the session lives, so that there is nothing left to put off.
      do {
        moment *= 2
        id = freshId()
        end = Date.now() + moment
        await set(id, { n: 1 }, end)
        await touch(id)
      } while (Date.now() >= end)
      await later(moment)
      await untilEnded()
      assert.equal((await mustGet(id))['n'], 1)
    },
    'touch',
  )
  add(
    'touch',
    'brings the end nearer',
    async ({ set, get, touch }) => {
      const id = freshId()
      await set(id)
      await touch(id, {}, soon())
      await untilEnded()
      assert.ok(!(await get(id)))
    },
    'touch',
  )
  add(
    'touch',
    'leaves the data alone',
    async ({ set, mustGet, touch }) => {
      const id = freshId()
      await set(id, { n: 1 })
      await touch(id, { n: 2, more: true })
      const { n, more } = await mustGet(id)
      assert.deepEqual([n, more], [1, undefined])
    },
    'touch',
  )
  add(
    'touch',
    'does not bring back a session that is gone, and is content',
    async ({ set, get, destroy, touch }) => {
      const [never, destroyed, ended] = [freshId(), freshId(), freshId()]
      await set(destroyed)
      await destroy(destroyed)
      await set(ended, {}, soon())
      await untilEnded()
      for (const id of [never, destroyed, ended]) {
        await touch(id)
        assert.ok(!(await get(id)))
      }
    },
    'touch',
  )

  add(
    'listing',
    'all passes the live sessions, by ID or as a list',
    async ({ set, destroy, all }) => {
      const [kept, destroyed, ended] = [freshId(), freshId(), freshId()]
      for (const mark of [kept, destroyed]) await set(mark, { mark })
      await set(ended, { mark: ended }, soon())
      await destroy(destroyed)
      await untilEnded()
      const sessions = await all()
      assert.ok(typeof sessions === 'object' && sessions !== null)
      assert.deepEqual(
        Object.values(sessions).map((data) => data['mark']),
        [kept],
      )
      if (!Array.isArray(sessions)) assert.deepEqual(Object.keys(sessions), [kept])
    },
    'all',
  )
  add(
    'listing',
    'all passes more than a thousand',
    async ({ set, all }) => {
      const marks = Array.from({ length: MORE_THAN_TWO_PAGES }, freshId)
      await manyTimes(marks.length, (n) => set(marks[n] as string, { mark: marks[n] }))
      assert.deepEqual(
        Object.values(await all())
          .map((data) => data['mark'] as string)
          .sort(),
        [...marks].sort(),
      )
    },
    'all',
  )
  add(
    'listing',
    'length passes the number of live sessions',
    async ({ set, destroy, length }) => {
      assert.equal(await length(), 0)
      const [one, two, ended] = [freshId(), freshId(), freshId()]
      await set(one)
      await set(two)
      await set(two)
      assert.equal(await length(), 2)
      await set(ended, {}, soon())
      await destroy(one)
      await untilEnded()
      assert.equal(await length(), 1)
    },
    'length',
  )
  add(
    'listing',
    'clear deletes all sessions, and is content with none',
    async ({ set, get, clear }) => {
      await clear()
      const ids = Array.from({ length: 30 }, freshId)
      for (const id of ids) await set(id)
      await clear()
      for (const id of ids) assert.ok(!(await get(id)))
    },
    'clear',
  )

  add('parallel', '50 writers of different sessions do not disturb each other', async ({ set, mustGet }) => {
    const ids = Array.from({ length: 50 }, freshId)
    await Promise.all(ids.map((id, n) => set(id, { n })))
    for (const [n, id] of ids.entries()) assert.equal((await mustGet(id))['n'], n)
  })
  add('parallel', 'who reads while others write finds one of the states whole', async ({ set, mustGet }) => {
    const id = freshId()
    const state = (n: number): object => ({ n, filler: String(n).repeat(20_000 + n), last: n })
    await set(id, state(0))
    const check = async (): Promise<void> => {
      const { n, filler, last } = await mustGet(id)
      assert.deepEqual({ n, filler, last }, state(n as number))
    }
    await Promise.all(Array.from({ length: 25 }, (_, n) => [set(id, state(n)), check()]).flat())
    await check()
  })
  return cases
}

/** A session's data as the middleware hands it to a store: with a cookie that has `expires`, `maxAge` and `toJSON`. */
function sessionData(data: object = {}, ends = Date.now() + HOUR): Data {
  const cookie = {
    originalMaxAge: HOUR,
    path: '/',
    httpOnly: true,
    expires: new Date(ends),
    _expires: new Date(ends),
    maxAge: ends - Date.now(),
    toJSON: () => ({ originalMaxAge: HOUR, path: '/', httpOnly: true, expires: new Date(ends) }),
  }
  Object.defineProperty(cookie, 'toJSON', { enumerable: false })
  return { cookie, ...data } as unknown as Data
}

/** A store's methods, called with callbacks as the middleware does. */
interface Caller {
  readonly store: session.Store
  call<T = void>(method: string, ...args: unknown[]): Promise<T>
  get(id: string): Promise<Data | undefined | null>
  mustGet(id: string): Promise<Data>
  set(id: string, data?: object, ends?: number): Promise<void>
  touch(id: string, data?: object, ends?: number): Promise<void>
  destroy(id: string): Promise<void>
  all(): Promise<Data[] | { [id: string]: Data }>
  length(): Promise<number>
  clear(): Promise<void>
}

/** Runs a case on a store, which fails if the store has called a callback more than once. */
async function called(store: session.Store, body: (caller: Caller) => Promise<void>): Promise<void> {
  const repeated = new Set<string>()

  function call<T>(method: string, ...args: unknown[]): Promise<T> {
    const answer = new Promise<T>((resolve, reject) => {
      let calls = 0
      methodOf(store, method)(...args, (error?: unknown, value?: T) => {
        if (++calls > 1) repeated.add(method)
        if (error) reject(error)
        else resolve(value as T)
      })
    })
    return within(ANSWER_LIMIT, `the callback of ${method}`, answer)
  }
  const get = (id: string): Promise<Data | undefined | null> =>
    call<Data | undefined | null>('get', id).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
  await body({
    store,
    call,
    get,
    async mustGet(id) {
      const data = await get(id)
      assert.ok(data, `the session ${id} is there`)
      return data
    },
    set: (id, data, ends) => call('set', id, sessionData(data, ends)),
    touch: (id, data, ends) => call('touch', id, sessionData(data, ends)),
    destroy: (id) => call('destroy', id),
    all: () => call('all'),
    length: () => call('length'),
    clear: () => call('clear'),
  })
  await later(AFTERMATH)
  assert.deepEqual([...repeated], [], 'methods that called back more than once')
}

function methodOf(store: session.Store, method: string): (...args: unknown[]) => unknown {
  return (store as unknown as Record<string, (...args: unknown[]) => unknown>)[method]?.bind(store) as never
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + ANSWER_LIMIT
  while (!(await holds())) {
    assert.ok(Date.now() < deadline, `nothing happened in ${ANSWER_LIMIT} ms`)
    await later(5)
  }
}

let listening: Promise<unknown> = Promise.resolve()

/**
 * Counts how often a store calls back when the callback throws. The handlers of the test runner for uncaught errors are
 * removed meanwhile, as they would fail the run; so only one call is made at a time.
 */
function callsOfThrowing(store: session.Store, method: string, args: unknown[]): Promise<number> {
  const turn = listening.then(() => countCallsOfThrowing(store, method, args))
  listening = turn.catch(() => undefined)
  return turn
}

async function countCallsOfThrowing(store: session.Store, method: string, args: unknown[]): Promise<number> {
  const thrown = new Error(`thrown by a callback of ${method}`)
  const others: unknown[] = []
  const take = (error: unknown): void => void (error === thrown || others.push(error))
  const events = ['uncaughtException', 'unhandledRejection'] as const
  const handlers = events.map((event) => process.listeners(event as 'uncaughtException'))
  for (const event of events) process.removeAllListeners(event).on(event, take)
  let calls = 0
  try {
    const answer = new Promise<void>((resolve) => {
      const callback = (): void => {
        calls++
        resolve()
        throw thrown
      }
      try {
        Promise.resolve(methodOf(store, method)(...args, callback)).catch(take)
      } catch (error) {
        take(error)
      }
    })
    await within(ANSWER_LIMIT, `the callback of ${method}`, answer)
    await later(AFTERMATH)
  } finally {
    for (const [n, event] of events.entries()) {
      process.removeAllListeners(event)
      for (const handler of handlers[n] ?? []) process.on(event, handler as never)
    }
  }
  assert.deepEqual(others, [], 'errors that nobody caught')
  return calls
}
