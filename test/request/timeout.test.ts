import { afterEach, expect, test, vi } from 'vitest'
import session from '../../src'
import { OPTIONS, record } from '../faults/fault'
import { settled } from '../support/app'

afterEach(() => void vi.useRealTimers())

test('the option timeout bounds what each of many waits that want one session, their turns included', async () => {
  const store = new session.MemoryStore()
  store.sessions['a'] = record({ n: 1 })
  const sessions = session({ ...OPTIONS, store, timeout: 2000 })
  const { read } = store
  let isThere = true
  // The network goes away once all of them have loaded the session.
  Object.assign(store, {
    read: async (id: string) => (isThere ? read.call(store, id) : new Promise(() => undefined)),
    write: () => new Promise(() => undefined),
  })
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] })
  const codes: unknown[] = []
  for (let n = 0; n < 8; n++) {
    sessions
      .update('a', (data) => void Object.assign(data, { n }))
      .then(
        () => codes.push('updated'),
        (error: { code?: string }) => codes.push(error.code),
      )
  }
  await settled()
  isThere = false
  expect(codes).toEqual([])
  // A pause or two between tries are beside it.
  await vi.advanceTimersByTimeAsync(2100)
  expect(codes).toEqual(Array.from({ length: 8 }, () => 'ERR_SESSION_STORE_TIMEOUT'))
})
