import assert from 'node:assert/strict'
import type session from '../index'
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

type Data = session.SessionData & Record<string, unknown>

export interface StoreFacts {
  /** How coarse the ends of sessions are, in ms. Default: 1. */
  granularity?: number
  /** Whether the store has `touch`. Default: true. */
  touch?: boolean
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

/** Calls a method with a callback, and fails when it calls back twice. */
function call<T = unknown>(store: session.Store, method: string, ...args: unknown[]): Promise<T> {
  return new Promise((resolve, reject) => {
    let calls = 0
    const callback = (error?: unknown, value?: T): void => {
      if (++calls > 1) throw new Error(`${method} called back ${calls} times`)
      if (error) reject(error)
      else setTimeout(() => (calls > 1 ? reject(new Error(`${method} called back twice`)) : resolve(value as T)), 5)
    }
    ;(store as unknown as Record<string, (...args: unknown[]) => unknown>)[method]?.(...args, callback)
  })
}

const get = (store: session.Store, id: string): Promise<Data | undefined | null> =>
  call<Data | undefined | null>(store, 'get', id).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })

async function mustGet(store: session.Store, id: string): Promise<Data> {
  const data = await get(store, id)
  assert.ok(data, 'the session is there')
  return data
}

/** The classic contract, that of express-session: a case for each of its sentences. Works for any store. */
export function storeContract(make: MakeStore<session.Store>, facts: StoreFacts = {}): ContractCase[] {
  const { granularity = 1, touch = true } = facts
  const { cases, add } = caseBuilder(make)
  const soon = (): number => Date.now() + 60 + granularity
  const untilEnded = (): Promise<void> => later(110 + 2 * granularity)

  add('get', 'passes nothing for an ID that has no session', async (store) => {
    assert.ok(!(await get(store, freshId())))
  })
  add('get', 'passes what was set', async (store) => {
    const id = freshId()
    await call(store, 'set', id, sessionData({ user: { name: 'ada' }, list: [1, 2] }))
    const { user, list } = await mustGet(store, id)
    assert.deepEqual([user, list], [{ name: 'ada' }, [1, 2]])
  })
  add('get', 'passes a cookie with its lifetime and its expiry', async (store) => {
    const id = freshId()
    const ends = Date.now() + HOUR
    await call(store, 'set', id, sessionData({}, ends))
    const { cookie } = await mustGet(store, id)
    assert.equal(cookie.originalMaxAge, HOUR)
    assert.ok(Math.abs(new Date(cookie.expires as Date).getTime() - ends) <= granularity + 50)
  })
  add('get', 'hands out copies', async (store) => {
    const id = freshId()
    await call(store, 'set', id, sessionData({ list: [1] }))
    ;((await mustGet(store, id))['list'] as number[]).push(2)
    assert.deepEqual((await mustGet(store, id))['list'], [1])
  })
  add('set', 'takes copies', async (store) => {
    const id = freshId()
    const data = sessionData({ list: [1] })
    await call(store, 'set', id, data)
    ;(data['list'] as number[]).push(2)
    assert.deepEqual((await mustGet(store, id))['list'], [1])
  })
  add('set', 'replaces the whole session', async (store) => {
    const id = freshId()
    await call(store, 'set', id, sessionData({ a: 1 }))
    await call(store, 'set', id, sessionData({ b: 2 }))
    const data = await mustGet(store, id)
    assert.deepEqual([data['a'], data['b']], [undefined, 2])
  })
  add('set', 'keeps sessions apart by their IDs, however unusual', async (store) => {
    for (const [n, id] of UNUSUAL_IDS.entries()) await call(store, 'set', id, sessionData({ n }))
    for (const [n, id] of UNUSUAL_IDS.entries()) assert.equal((await mustGet(store, id))['n'], n, id)
    for (const id of UNUSUAL_IDS) await call(store, 'destroy', id)
  })
  add('set', 'keeps unusual values as they are', async (store) => {
    for (const [name, value] of Object.entries(unusualValues())) {
      const id = freshId()
      await call(store, 'set', id, sessionData({ value }))
      assert.deepEqual((await mustGet(store, id))['value'], value, name)
    }
    assert.equal(({} as { polluted?: unknown }).polluted, undefined)
  })
  add('set', 'works without a callback', async (store) => {
    const id = freshId()
    void store.set(id, sessionData({ n: 1 }))
    while (!(await get(store, id))) await later(5)
  })
  add('set', '50 writers of different sessions do not disturb each other', async (store) => {
    const ids = Array.from({ length: 50 }, freshId)
    await Promise.all(ids.map((id, n) => call(store, 'set', id, sessionData({ n }))))
    for (const [n, id] of ids.entries()) assert.equal((await mustGet(store, id))['n'], n)
  })
  add('expiry', 'a session ends when its cookie does', async (store) => {
    const id = freshId()
    await call(store, 'set', id, sessionData({}, soon()))
    await untilEnded()
    assert.ok(!(await get(store, id)))
  })
  add('destroy', 'deletes, and is content when there is nothing to delete', async (store) => {
    const id = freshId()
    await call(store, 'set', id, sessionData())
    await call(store, 'destroy', id)
    assert.ok(!(await get(store, id)))
    await call(store, 'destroy', id)
  })
  if (touch) {
    add('touch', 'moves the end of a session', async (store) => {
      const id = freshId()
      await call(store, 'set', id, sessionData({ n: 1 }, soon()))
      await call(store, 'touch', id, sessionData({ n: 1 }, Date.now() + HOUR))
      await untilEnded()
      assert.equal((await mustGet(store, id))['n'], 1)
    })
    add('touch', 'leaves the data alone', async (store) => {
      const id = freshId()
      await call(store, 'set', id, sessionData({ n: 1 }))
      await call(store, 'touch', id, sessionData({ n: 2 }))
      assert.equal((await mustGet(store, id))['n'], 1)
    })
    add('touch', 'does not bring back a session that is gone', async (store) => {
      const id = freshId()
      await call(store, 'touch', id, sessionData())
      assert.ok(!(await get(store, id)))
    })
  }
  add('listing', 'all passes the live sessions, where the store has it', async (store) => {
    if (typeof store.all !== 'function') return
    const id = freshId()
    await call(store, 'set', id, sessionData({ mark: id }))
    const all = await call<Data[] | { [id: string]: Data }>(store, 'all')
    assert.ok(Object.values(all).some((data) => data['mark'] === id))
  })
  add('listing', 'length counts them, clear deletes them, where the store has both', async (store) => {
    if (typeof store.length !== 'function' || typeof store.clear !== 'function') return
    await call(store, 'clear')
    await call(store, 'set', freshId(), sessionData())
    await call(store, 'set', freshId(), sessionData())
    assert.equal(await call(store, 'length'), 2)
    await call(store, 'clear')
    assert.equal(await call(store, 'length'), 0)
  })
  return cases
}
