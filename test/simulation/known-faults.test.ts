import { expect, test } from 'vitest'
import { replay } from './simulation'

test('nothing special', async () => {
  expect(
    await replay({
      requests: { A: { does: 'set a; end' }, B: { does: 'set b; end', in: 2 } },
      schedule: 'A B A B A B',
    }),
  ).toEqual([])
})

test('F1', async () => {
  expect(
    await replay({
      requests: { A: { does: 'look a; set b; end' }, B: { does: 'look b; set a; end' } },
      schedule: 'A B A B A B',
    }),
  ).toEqual([])
})
