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

test('two requests at once, in some of their orders, keep the rules', { timeout: 120_000 }, async () => {
  expect(await reportOf((search) => search.everyOrder(pairs(), 2))).toBe('')
})
