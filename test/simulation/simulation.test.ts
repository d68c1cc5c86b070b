import { expect, test } from 'vitest'
import { KNOWN } from './known'
import { Search } from './search'
import { atOwnTime, replay } from './simulation'
import { pairs } from './tables'

test.each(Object.entries(KNOWN))('%s', async (_, scenario) => {
  expect(await replay(scenario)).toEqual([])
})

/** Shrunk, each failure is a call of `replay` that can be put in here. */
async function reportOf(search: (search: Search) => Promise<void>): Promise<string> {
  return atOwnTime(async () => {
    const done = new Search()
    await search(done)
    return done.report()
  })
}

/** In ms, on a machine that does much else. */
const LONG = 240_000

test('two requests at once, in some of their orders, keep the rules', { tags: ['long'], timeout: LONG }, async () => {
  expect(await reportOf((search) => search.everyOrder(pairs(), 2))).toBe('')
})

test('so do requests by chance, in orders by chance, with failures by chance', { timeout: LONG }, async () => {
  expect(await reportOf((search) => search.byChance(50_000, 300))).toBe('')
})
