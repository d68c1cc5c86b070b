import { expect, test } from 'vitest'
import type { Scenario } from './scenario'
import { replay } from './simulation'

/** Schedules that the simulator has found, each the smallest that it knows. */
const found: [string, Scenario][] = [
  [
    'what a request has looked at before its save is still looked at after it',
    { requests: { A: { does: 'look b; set a' }, B: { does: 'look a; save; set b' } } },
  ],
  [
    'what a request has looked at before its update is still looked at after it',
    { requests: { A: { does: 'look b; set a' }, B: { does: 'look a; update n; set b' } } },
  ],
]

test.each(found)('%s', async (_, scenario) => {
  expect(await replay(scenario)).toEqual([])
})
