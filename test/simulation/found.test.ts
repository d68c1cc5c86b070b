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
  [
    'the client is told its new token although what comes after the renewal cannot be stored',
    { requests: { A: { does: 'renew; set b' } }, schedule: 'A A A A!before' },
  ],
  [
    'so it is when an error page is sent in place of the answer',
    { options: { onSaveError: 'error' }, requests: { A: { does: 'renew; set b' } }, schedule: 'A A A A!before' },
  ],
  ['a stream that begins after a renewal has the new token', { requests: { A: { does: 'renew; set b; stream' } } }],
  [
    'who logs out everywhere is told when the store does not answer',
    { options: { user: true }, requests: { A: { does: 'endAll ada' } }, schedule: 'A A A!lost' },
  ],
  [
    'who asks for a session by its ID is told when the store does not answer',
    { requests: { A: { does: 'get' } }, schedule: 'A A A!lost' },
  ],
  [
    'of two who log in to one session at once, one that is overtaken takes the other out of no index',
    {
      options: { user: true },
      requests: { A: { does: 'login ada' }, B: { does: 'login ada' }, C: { does: 'set a' } },
      schedule: 'A B C A B C B C B A B A B B',
    },
  ],
]

test.each(found)('%s', async (_, scenario) => {
  expect(await replay(scenario)).toEqual([])
})
