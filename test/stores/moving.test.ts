import { describe, expect, test } from 'vitest'
import { MemoryStore, type RecordStore } from '../../src'
import { move, MovingStore } from '../../src/stores/moving'
import { recordStoreContract, storeContract } from '../../src/testing'

const HOUR = 3_600_000
const textOf = (data: object = {}): string => JSON.stringify({ cookie: { originalMaxAge: null, path: '/' }, ...data })
const in1h = (): number => Date.now() + HOUR

describe('MovingStore', () => {
  const make = (): MovingStore => new MovingStore({ from: new MemoryStore(), to: new MemoryStore() })
  for (const [contract, cases] of [
    ['record', recordStoreContract(make)],
    ['classic', storeContract(make)],
  ] as const) {
    for (const { group, name, run } of cases) test.concurrent(`${contract}, ${group}: ${name}`, run)
  }
})

test('a store is not moved to itself: its sessions would be lost', async () => {
  const store = new MemoryStore()
  store.write('a', textOf(), in1h(), 'absent')
  expect(() => new MovingStore({ from: store, to: store })).toThrow('the same store')
  await expect(move(store, store)).rejects.toThrow('the same store')
  expect(store.count()).toBe(1)
})

test('of a session that is in both stores the new one counts, and both are destroyed together', async () => {
  const [from, to] = [new MemoryStore(), new MemoryStore()]
  const both = new MovingStore({ from, to })
  for (const id of ['read', 'removed', 'moved']) {
    from.write(id, textOf({ in: 'old' }), in1h(), 'absent')
    to.write(id, textOf({ in: 'new' }), in1h(), 'absent')
  }
  expect(JSON.parse((await both.read('read'))!.text)).toMatchObject({ in: 'new' })
  expect(await both.remove('removed')).toBe(true)
  expect([from.read('removed'), to.read('removed')]).toEqual([null, null])
  expect(await move(from, to)).toEqual({ moved: 0, replaced: 2, failed: 0 })
  expect(from.count()).toBe(0)
  expect(JSON.parse(to.read('moved')!.text)).toMatchObject({ in: 'new' })
})

test('what a request destroys, or gives to another user, while it is moved is not left in the lists of users', async () => {
  const textOfUser = (user: string): string => JSON.stringify({ cookie: { path: '/' }, user })
  const userOf = (_id: string, { text }: { text: string }): string => (JSON.parse(text) as { user: string }).user
  const [from, to] = [new MemoryStore(), new MemoryStore()]
  const both = new MovingStore({ from, to })
  for (const id of ['out', 'other']) {
    from.write(id, textOfUser('ada'), in1h(), 'absent')
    from.link('ada', id, in1h())
  }
  const link = to.link.bind(to)
  const target: RecordStore = to
  // The request is between the look of `move` at the session and its entry in the list.
  target.link = async (user, id, expires) => {
    if (id === 'out' && (await both.remove(id))) await both.unlink!(user, id)
    if (id === 'other' && user === 'ada') {
      await both.write(id, textOfUser('bob'), in1h(), 'present')
      await both.link!('bob', id, in1h())
      await both.unlink!('ada', id)
    }
    link(user, id, expires)
  }
  expect(await move(from, to, { userOf })).toEqual({ moved: 1, replaced: 0, failed: 0 })
  expect(to.linked('ada')).toEqual([])
  expect(to.linked('bob')).toEqual(['other'])
})

/** Has each call of two stores wait for its turn, so that two programs can be interleaved in every way. */
class Steps {
  #waiting: { who: string; go: () => void; fail: (error: Error) => void }[] = []
  #arrived: (() => void) | undefined
  readonly done = new Map<string, boolean>()

  of(who: string, store: RecordStore): RecordStore {
    const methods = ['read', 'write', 'renew', 'remove', 'link', 'scan']
    return new Proxy(store, {
      get: (target, name) => {
        const value = Reflect.get(target, name) as unknown
        if (typeof value !== 'function') return value
        if (!methods.includes(String(name)))
          return value.bind(name === 'records' ? this.of(who, store) : target) as unknown
        return async (...args: unknown[]) => {
          await this.turn(who)
          return (value as (...args: unknown[]) => unknown).apply(target, args)
        }
      },
    })
  }

  turn(who: string): Promise<void> {
    return new Promise((go, fail) => {
      this.#waiting.push({ who, go, fail })
      this.#arrived?.()
    })
  }

  /** Lets the next call of a program happen; false when it has come to its end. */
  async next(who: string, kill = false): Promise<boolean> {
    for (;;) {
      const at = this.#waiting.findIndex((waiting) => waiting.who === who)
      if (at >= 0) {
        const [one] = this.#waiting.splice(at, 1)
        if (kill) one!.fail(new Error('killed'))
        else one!.go()
        await new Promise((resolve) => setImmediate(resolve))
        return true
      }
      if (this.done.get(who)) return false
      await new Promise<void>((resolve) => (this.#arrived = resolve))
    }
  }

  run<T>(who: string, program: () => Promise<T>): Promise<T> {
    const end = (): void => {
      this.done.set(who, true)
      this.#arrived?.()
    }
    const running = program()
    running.then(end, end)
    return running
  }
}

/** What a request does to the session `a`, and what has to be true afterwards, however it and a move were interleaved. */
const requests: {
  [name: string]: {
    run(store: MovingStore): Promise<unknown>
    check(store: MovingStore, answer: unknown, isMoved: boolean): Promise<void>
  }
} = {
  'reads it': {
    run: (store) => store.read('a'),
    check: (store, answer) => {
      expect(JSON.parse((answer as { text: string }).text)).toMatchObject({ n: 1 })
      return isThere(store, 1)
    },
  },
  'changes it, and again when others were faster': {
    async run(store) {
      for (let tries = 0; tries < 20; tries++) {
        const { text, version } = (await store.read('a'))!
        const { n } = JSON.parse(text) as { n: number }
        if ((await store.write('a', textOf({ n: n + 1 }), in1h(), { version })) !== null) return
      }
      throw new Error('never written')
    },
    check: (store) => isThere(store, 2),
  },
  'overwrites it': {
    run: (store) => store.write('a', textOf({ n: 3 }), in1h(), 'present'),
    check: (store, answer) => {
      expect(answer).not.toBeNull()
      return isThere(store, 3)
    },
  },
  'makes it, if it were not there': {
    run: (store) => store.write('a', textOf({ n: 9 }), in1h(), 'absent'),
    check: (store, answer) => {
      expect(answer).toBeNull()
      return isThere(store, 1)
    },
  },
  'destroys it': {
    run: (store) => store.remove('a'),
    async check(store, answer) {
      expect(answer).toBe(true)
      expect(await store.read('a')).toBeNull()
      expect(await store.length()).toBe(0)
    },
  },
  'destroys what it has read': {
    async run(store) {
      const { version } = (await store.read('a'))!
      return store.remove('a', version)
    },
    async check(store, answer) {
      // Moved meanwhile, it is another version.
      if (answer) expect(await store.read('a')).toBeNull()
      else await isThere(store, 1)
    },
  },
  'renews it': {
    run: (store) => store.renew('a', Date.now() + 5 * HOUR),
    async check(store, answer, isMoved) {
      expect(answer).toBe(true)
      await isThere(store, 1)
      // Of a move that is killed in the middle of it, the one that goes on sees to it.
      if (isMoved) expect((await store.read('a'))!.expires).toBeGreaterThan(Date.now() + 4 * HOUR)
    },
  },
  'looks at all': {
    run: async (store) => store.length(),
    check: (store, answer) => {
      expect(answer).toBe(1)
      return isThere(store, 1)
    },
  },
}

async function isThere(store: MovingStore, n: number): Promise<void> {
  const record = await store.read('a')
  expect(record && (JSON.parse(record.text) as { n: number }).n).toBe(n)
  expect((await store.get('a'))?.cookie).toMatchObject({ path: '/' })
  expect(await store.length()).toBe(1)
}

/**
 * Every order of the calls of a move and of a request that goes from one program to the other so often at most. An order is
 * a list of choices, and the next one is found by changing the last choice that has not been changed. With `killed`, the move
 * ends before that call of its own.
 */
async function everyOrder(name: string, mostSwitches: number, killed?: number): Promise<number> {
  const request = requests[name]!
  let orders = 0
  for (let choices: boolean[] | undefined = []; choices; orders++) {
    const [from, to] = [new MemoryStore(), new MemoryStore()]
    from.write('a', textOf({ n: 1 }), in1h(), 'absent')
    const steps = new Steps()
    const moving = steps.run('move', () => move(steps.of('move', from), steps.of('move', to)).catch(() => undefined))
    const asking = steps.run('request', () =>
      request.run(new MovingStore({ from: steps.of('request', from), to: steps.of('request', to) })),
    )
    asking.catch(() => undefined)
    const made: boolean[] = []
    let moves = 0
    const next = async (isMove: boolean): Promise<boolean> => {
      if (!(await steps.next(isMove ? 'move' : 'request', isMove && moves === killed))) return false
      if (isMove) moves++
      return true
    }
    const isBounded = (): boolean => made.filter((one, n) => n > 0 && one !== made[n - 1]).length >= mostSwitches
    let isMove = true
    while (!isBounded()) {
      isMove = choices[made.length] ?? true
      if (!(await next(isMove))) break
      made.push(isMove)
    }
    for (const who of [isMove, !isMove]) while (await next(who));
    await moving
    const where = `after ${made.map((one) => (one ? 'm' : 'r')).join('')}`
    const store = new MovingStore({ from, to })
    const answer = await asking
    await expect(request.check(store, answer, killed === undefined), where).resolves.toBeUndefined()
    // A move that is begun again brings it to its end, and changes nothing.
    await move(from, to)
    await expect(request.check(store, answer, true), where).resolves.toBeUndefined()
    expect(from.count(), where).toBe(0)
    const last = made.lastIndexOf(true)
    choices = last < 0 ? undefined : [...made.slice(0, last), false]
  }
  return orders
}

describe.each(Object.keys(requests))(
  'a move and a request that %s: nothing is lost, and nothing comes back',
  (name) => {
    test(
      'in every order that goes from one to the other 5 times at most',
      { tags: ['slow'], timeout: 120_000 },
      async () => {
        expect(await everyOrder(name, 5)).toBeGreaterThan(10)
      },
    )

    test('in every order', { tags: ['long'], timeout: 300_000 }, async () => {
      expect(await everyOrder(name, Infinity)).toBeGreaterThan(10)
    })

    test('while the move is killed at any of its calls', { tags: ['slow'], timeout: 120_000 }, async () => {
      for (let killed = 0; killed < 9; killed++) await everyOrder(name, 3, killed)
    })
  },
)
