import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { callStore, within } from '../src/base/store-call'

type Callback = (error?: unknown, value?: unknown) => void

const call = (get: (...args: never[]) => unknown): unknown => callStore({ get }, 'get', ['id'])

beforeEach(() => void vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

describe('a store answers as it likes', () => {
  test('at once: no turn of the event loop is lost', () => {
    expect(call((_id: string, done: Callback) => done(null, 'data'))).toBe('data')
  })

  test.each<[string, (id: string, done: Callback) => unknown]>([
    ['by a callback', (_id, done) => setTimeout(done, 5, null, 'data')],
    ['by a promise, with no callback among its parameters', (_id) => Promise.resolve('data')],
    ['by both', async (_id, done) => (done(null, 'data'), Promise.resolve('other'))],
    ['by a callback after its promise', (_id, done) => Promise.resolve(void setTimeout(done, 50, null, 'data'))],
    ['twice', (_id, done) => setTimeout(() => (done(null, 'data'), done(null, 'other')), 5)],
    ['with an error after the answer', (_id, done) => setTimeout(() => (done(null, 'data'), done(new Error())), 5)],
    ['and rejects when it has', (_id, done) => (done(null, 'data'), Promise.reject(new Error('late')))],
  ])('%s', async (_, get) => {
    const answered = call(get)
    await vi.advanceTimersByTimeAsync(100)
    expect(await answered).toBe('data')
  })

  test('by a promise of nothing, though a callback is among its parameters: it is waited for, and not for ever', async () => {
    const answered = call((_id: string, _done: Callback) => Promise.resolve()) as Promise<unknown>
    await vi.advanceTimersByTimeAsync(1000)
    expect(await answered).toBeUndefined()
  })
})

describe('a store fails as it likes', () => {
  const broken = new Error('broken')

  test('it throws: so does the call', () => {
    expect(() =>
      call(() => {
        throw broken
      }),
    ).toThrow(broken)
  })

  test('it throws after it has answered: the answer counts', () => {
    const get = (_id: string, done: Callback): void => {
      done(null, 'data')
      throw broken
    }
    expect(call(get as never)).toBe('data')
  })

  test.each<[string, (id: string, done: Callback) => unknown]>([
    ['at once', (_id, done) => done(broken)],
    ['by a callback', (_id, done) => setTimeout(done, 5, broken)],
    ['by a promise', async () => Promise.reject(broken)],
    ['by both', async (_id, done) => (done(broken), Promise.reject(broken))],
  ])('%s', async (_, get) => {
    const answered = call(get) as Promise<unknown>
    const failed = expect(answered).rejects.toBe(broken)
    await vi.advanceTimersByTimeAsync(100)
    await failed
  })

  test('by a promise that is rejected with nothing: there is an error all the same', async () => {
    for (const nothing of [undefined, null, '', false, 0]) {
      await expect(call(async () => Promise.reject(nothing as never))).rejects.toThrow(
        "store's get rejected with nothing",
      )
    }
  })
})

describe('a record store is waited for', () => {
  test('and what comes in time is passed on; no timer is left', async () => {
    expect(await within(Promise.resolve(1), 'read', 200)).toBe(1)
    await expect(within(Promise.reject(new Error('broken')), 'read', 200)).rejects.toThrow('broken')
    expect(within(1, 'read', 200)).toBe(1)
    expect(vi.getTimerCount()).toBe(0)
  })

  test.each([0, 200])('and a rejection with nothing is an error (with a timeout of %i ms)', async (timeout) => {
    await expect(within(Promise.reject(), 'read', timeout)).rejects.toThrow("the session store's read rejected with")
  })

  test('and when nothing comes within the timeout, that is an error', async () => {
    const late = expect(within(new Promise(() => undefined), 'read', 200)).rejects.toMatchObject({
      code: 'ERR_SESSION_STORE_TIMEOUT',
    })
    await vi.advanceTimersByTimeAsync(200)
    await late
  })
})
