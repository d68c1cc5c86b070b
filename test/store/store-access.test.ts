import { EventEmitter } from 'node:events'
import { describe, expect, test, vi } from 'vitest'
import session, { MemoryStore, type SessionData } from '../../src'
import type { Known } from '../../src/store/access'
import { storeAccess } from '../../src/store/store-access'
import { classicStore } from '../faults/fault'
import { settled } from '../support/app'

const settings = () => ({ ttl: 86_400_000, touchAfter: 0 })

function sessionOf(id: string, data: object = {}): session.Session & SessionData {
  const store = new MemoryStore()
  return store.createSession({ sessionID: id, sessionStore: store } as never, { cookie: {}, ...data } as never)
}

test('methods that are replaced on a record store are called', async () => {
  const store = new MemoryStore()
  const calls: string[] = []
  const access = storeAccess(store, settings())
  store.get = ((id: string, callback: (error: null, data: undefined) => void) => {
    calls.push(id)
    callback(null, undefined)
  }) as never
  await access().load('a')
  expect(calls).toEqual(['a'])
})

describe('classic stores', () => {
  test('a session destroyed in this process is not saved or touched again by who loaded it before', async () => {
    const store = classicStore(session as never, new Map([['a', '{"cookie":{}}']]))
    expect(store).toBeInstanceOf(EventEmitter)
    const access = storeAccess(store, settings())()
    const from = (await access.load('a')) as Known
    await access.destroy('a')
    await expect(async () => access.write(sessionOf('a'), '{}', from)).rejects.toMatchObject({
      code: 'ERR_SESSION_DESTROYED',
    })
    await access.touch(sessionOf('a'), from)
    expect(store.records.has('a')).toBe(false)
    expect(store.calls).toEqual(['get', 'destroy'])
  })

  test('nor is it after ten thousand other sessions have been destroyed, as anybody can have them be', async () => {
    const store = classicStore(session as never, new Map([['a', '{"cookie":{}}']]))
    const access = storeAccess(store, settings())()
    const from = (await access.load('a')) as Known
    await access.destroy('a')
    for (let n = 0; n < 10_100; n++) await access.destroy(`other ${n}`)
    await expect(async () => access.write(sessionOf('a'), '{}', from)).rejects.toMatchObject({
      code: 'ERR_SESSION_DESTROYED',
    })
    expect(store.records.has('a')).toBe(false)
  })

  test('whoever writes to a session waits for those who came before', async () => {
    const order: string[] = []
    const going: (() => void)[] = []
    const method =
      (name: string) =>
      (...args: unknown[]): void => {
        order.push(name)
        going.push(args.at(-1) as () => void)
      }
    const store = Object.assign(classicStore(session as never), {
      touch: method('touch'),
      set: method('set'),
      destroy: method('destroy'),
    })
    const access = storeAccess(store, settings())()
    const one = sessionOf('a')
    const writes: unknown[] = [access.touch(one, undefined), access.write(one, '{}', undefined), access.destroy('a')]
    for (const name of ['touch', 'set', 'destroy']) {
      expect(order).toEqual([...order.slice(0, -1), name])
      going.shift()?.()
      await settled()
    }
    await Promise.all(writes)
    expect(order).toEqual(['touch', 'set', 'destroy'])
  })

  test('one whose store never answers does not keep the others for ever', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const store = Object.assign(classicStore(session as never), { touch: () => undefined })
    const access = storeAccess(store, settings())()
    void access.touch(sessionOf('a'), undefined)
    const saved = access.write(sessionOf('a'), '{}', undefined)
    await vi.advanceTimersByTimeAsync(10_000)
    vi.useRealTimers()
    await saved
    expect(store.records.has('a')).toBe(true)
  })

  test('a save under way when the session is destroyed does not bring it back', async () => {
    const store = classicStore(session as never)
    const { set } = store
    store.set = (...args) => setTimeout(() => set.apply(store, args), 5)
    const access = storeAccess(store, settings())()
    await Promise.all([access.write(sessionOf('a'), '{}', undefined), access.destroy('a')])
    expect([...store.records]).toEqual([])
  })

  test.each<[string, unknown]>([
    ['a string', 'ada'],
    ['a number', 1],
    ['an object without a cookie', {}],
    ['a cookie that is null', { cookie: null }],
  ])('%s is no session: the error begins as on express-session, and names the record', async (_, data) => {
    const store = Object.assign(classicStore(session as never), {
      get: (_id: string, callback: (error: null, data: unknown) => void) => callback(null, data),
    })
    await expect(async () => storeAccess(store, settings())().load('a')).rejects.toMatchObject({
      code: 'ERR_SESSION_INVALID_RECORD',
      message: expect.stringMatching(/^Cannot read properties of undefined .*session a… /) as string,
    })
  })

  test('ENOENT is no session', async () => {
    const store = Object.assign(classicStore(session as never), {
      get: (_id: string, callback: (error: unknown) => void) =>
        callback(Object.assign(new Error(), { code: 'ENOENT' })),
    })
    expect(await storeAccess(store, settings())().load('a')).toBeNull()
  })
})
