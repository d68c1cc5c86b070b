import assert from 'node:assert/strict'

/** One sentence of a store contract, as a test to run. */
export interface ContractCase {
  /** What the sentence is about: a method, or a topic such as `'parallel'`. */
  readonly group: string
  readonly name: string
  /** The optional methods that the case calls; see `capabilities`. */
  readonly needs: readonly string[]
  /**
   * Rejects if the store does not keep the sentence. If the store lacks a method that the case needs, the case is skipped:
   * by `skip` of the context that Vitest and `node:test` pass to a test, else by doing nothing.
   */
  readonly run: (context?: { skip?: (reason: string) => void }) => Promise<void>
}

/** What the cases have to know of a store. */
export interface StoreFacts {
  /** How far from the given time a session may end, in ms: 1000 for a store that keeps whole seconds. Default: 1. */
  granularity?: number
}

/** A fresh, empty store, and how to let go of it after a case. */
export interface Made<Store> {
  store: Store
  close?: () => unknown
}

export type MakeStore<Store> = () => Store | Made<Store> | Promise<Store | Made<Store>>

const OPTIONAL = [
  ...['touch', 'all', 'length', 'clear'],
  ...['prune', 'removeAll', 'count', 'close', 'check', 'link', 'unlink', 'linked', 'readMany', 'removeLinked'],
]

/** Which optional methods a store has. Cases that need another one are skipped. */
export function capabilities(store: object): string[] {
  return OPTIONAL.filter((method) => has(store, method))
}

function has(store: object, method: string): boolean {
  return typeof (store as Record<string, unknown>)[method] === 'function'
}

/** How long a case may take, in ms, so that a store that never answers fails the case and not the whole run. */
const CASE_LIMIT = 20_000

/** Collects cases. Each gets a store of its own, which is closed after it. */
export function collectCases<Store extends object>(make: MakeStore<Store>) {
  const cases: ContractCase[] = []
  const add = (group: string, name: string, body: (store: Store) => Promise<void>, ...needs: string[]): void => {
    const run: ContractCase['run'] = (context = undefined) =>
      withStore(make, async (store) => {
        const missing = needs.filter((method) => !has(store, method))
        if (missing.length > 0) context?.skip?.(`the store has no ${missing.join(', ')}`)
        else await within(CASE_LIMIT, 'the case', body(store))
      })
    cases.push({ group, name, needs, run })
  }
  return { cases, add }
}

/** Makes a store for as long as `use` runs. */
export async function withStore<Store extends object>(
  make: MakeStore<Store>,
  use: (store: Store) => Promise<void>,
): Promise<void> {
  const made = await make()
  // Told apart by `get`, which every store has: a store may have a property `store` of its own.
  const { store, close }: Made<Store> = 'get' in made ? { store: made as Store } : (made as Made<Store>)
  try {
    await use(store)
  } finally {
    await close?.()
  }
}

/** Rejects when a promise takes longer than `ms`. */
export async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new assert.AssertionError({ message: `${what} took longer than ${ms} ms` })), ms)
  })
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer))
}

let made = 0

/** An ID that no other case uses. */
export function freshId(): string {
  return `case-${process.pid}-${Date.now().toString(36)}-${++made}`
}

export const HOUR = 3_600_000
/** A session that a case waits for ends so many ms from now, and has certainly ended so many ms later. */
const SOON = 60
const SLACK = 50
/** How far an end may be from the expected one, in ms, as the machine may be busy. */
const NEAR = 500

/** The ends of sessions, as a store of this granularity keeps them. */
export function endsOf({ granularity = 1 }: StoreFacts) {
  return {
    /** An end that a case can wait for, by `untilEnded`. */
    soon: () => Date.now() + SOON,
    untilEnded: () => later(SOON + granularity + SLACK),
    near(actual: unknown, wanted: number): void {
      const end = new Date(actual as number).getTime()
      assert.ok(Math.abs(end - wanted) <= granularity + NEAR, `ends at ${String(actual)}, not at ${wanted}`)
    },
  }
}

export function later(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** IDs that are valid, and have a special meaning in one backend or another. */
export const UNUSUAL_IDS = [
  'a*b?[c]',
  'a*',
  "it's; DROP TABLE--",
  '"double" `back`',
  '%_\\',
  'ünïcödé-✓-🙂',
  'case',
  'CASE',
  '__proto__',
  'constructor',
  'toString',
  'null',
  '../a',
  'a:b/c.d',
  'a b',
  'a b ',
  '1',
  '01',
  '1.0',
  'x'.repeat(120),
]

/** Users as applications have them, each of which one backend or another could cut, refuse or take for the next one. */
export const UNUSUAL_USERS = [
  ...UNUSUAL_IDS,
  ...['1', '2'].map((last) => 'long'.repeat(500) + last),
  ...['nul', 'nul\0', 'nul\0a', 'nul\0b'],
  ...['e\u0301', '\u00e9', '\u00c9', 'ss', '\u00df'],
]

/** More than fits on two pages of those by which the methods of a record store look at all records. */
export const MORE_THAN_TWO_PAGES = 1100

/** Runs something so many times, fifty at a time. */
export async function manyTimes(times: number, run: (n: number) => Promise<unknown>): Promise<void> {
  for (let n = 0; n < times; n += 50) {
    await Promise.all(Array.from({ length: Math.min(50, times - n) }, (_, i) => run(n + i)))
  }
}

/** Values that JSON can hold, and one backend or another may not. */
export function unusualValues(): { [name: string]: unknown } {
  let deep: unknown = 'bottom'
  for (let i = 0; i < 200; i++) deep = { deep }
  return {
    unicode: 'żółć 漢字 🙂 \u2028',
    quotes: `"'\`\\`,
    empty: { object: {}, array: [], string: '' },
    booleans: [true, false],
    numbers: [0, -1, 1.5, 1e21, 1e-7, Number.MAX_SAFE_INTEGER],
    nothing: null,
    date: '2020-02-02T02:02:02.020Z',
    names: { '': 1, $set: 2, 'a.b': 3, żółć: 4, length: 5 },
    deep,
    keys: pollution(),
    large: 'x'.repeat(1_000_000),
  }
}

/** An object whose keys pollute prototypes when they are assigned. */
export function pollution(): object {
  return JSON.parse('{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}') as object
}

export function assertNothingPolluted(): void {
  assert.equal(({} as { polluted?: unknown }).polluted, undefined, 'Object.prototype is as it was')
}

/** Values that JSON cannot hold. */
export function impossibleValues(): { [name: string]: unknown } {
  const circular: { self?: unknown } = {}
  circular.self = circular
  return { circular, bigint: 1n }
}
