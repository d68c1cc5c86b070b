import type session from '../index'

/** One sentence of a store contract, as something to run: it rejects where the store does not keep it. */
export interface ContractCase {
  readonly group: string
  readonly name: string
  readonly run: () => Promise<void>
}

/** A fresh, empty store, and how to let go of it after a case. */
export interface Made<Store> {
  store: Store
  close?: () => unknown
}

export type MakeStore<Store> = () => Store | Made<Store> | Promise<Store | Made<Store>>

const OPTIONAL = ['touch', 'all', 'length', 'clear', 'prune', 'removeAll', 'count', 'close', 'link', 'unlink', 'linked']

/** Which optional methods a store has. The contracts have no cases for what it has not. */
export function capabilities(store: session.Store): string[] {
  return OPTIONAL.filter((method) => typeof (store as unknown as Record<string, unknown>)[method] === 'function')
}

/** Builds cases that each get a store of their own, and leave it closed. */
export function caseBuilder<Store extends object>(make: MakeStore<Store>) {
  const cases: ContractCase[] = []
  const add = (group: string, name: string, body: (store: Store) => Promise<void>): void => {
    const run = async (): Promise<void> => {
      const made = await make()
      const { store, close }: Made<Store> = 'store' in made ? made : { store: made }
      try {
        await body(store)
      } finally {
        await close?.()
      }
    }
    cases.push({ group, name, run })
  }
  return { cases, add }
}

let made = 0

/** An ID that no other case uses. */
export function freshId(): string {
  return `case-${process.pid}-${Date.now().toString(36)}-${++made}`
}

export const HOUR = 3_600_000

export function later(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** IDs that are legal, and mean something to some backend or other. */
export const UNUSUAL_IDS = [
  'a*b?[c]',
  "it's; DROP TABLE--",
  '%_\\',
  'ünïcödé-✓',
  '__proto__',
  'constructor',
  'a:b/c.d',
  'x'.repeat(120),
]

/** Values that JSON can hold, and some backend or other may not. */
export function unusualValues(): { [name: string]: unknown } {
  let deep: unknown = 'bottom'
  for (let i = 0; i < 200; i++) deep = { deep }
  return {
    unicode: 'żółć 漢字 🙂 \u2028',
    quotes: `"'\`\\`,
    empty: { object: {}, array: [], string: '' },
    numbers: [0, -1, 1.5, 1e21, 1e-7],
    nothing: null,
    deep,
    keys: JSON.parse('{"__proto__":{"polluted":true},"constructor":{"prototype":1}}') as unknown,
    large: 'x'.repeat(1_000_000),
  }
}
