import { isDeepStrictEqual } from 'node:util'
import { expect, test } from 'vitest'
import sessile from '../../src'
import { original } from '../support/app'
import { combinations, outcomeOf, type Combination, type Outcome } from '../support/differential'
import { intendedDifferences } from './intended-differences'

test(
  'sessile does what express-session 1.19 does, but for the intended differences',
  { timeout: 300_000 },
  async () => {
    let count = 0
    const needed = new Map(intendedDifferences.map(({ name }) => [name, 0]))
    const unexpected: { combination: Combination; expected: Outcome; got: Outcome }[] = []

    for (const combination of combinations()) {
      count++
      let expected = await outcomeOf(original, combination)
      const got = await outcomeOf(sessile, combination)
      for (const difference of intendedDifferences) {
        if (!difference.applies(combination)) continue
        const adapted = difference.expected(expected, combination)
        if (!isDeepStrictEqual(adapted, expected)) needed.set(difference.name, (needed.get(difference.name) ?? 0) + 1)
        expected = adapted
      }
      if (!isDeepStrictEqual(got, expected)) unexpected.push({ combination, expected, got })
    }

    console.log(`${count} combinations, two requests each, on both implementations; intended differences in:`)
    for (const [name, times] of needed) console.log(`${String(times).padStart(6)} ${name}`)

    for (const [name, times] of needed)
      expect(times, `intended difference that never occurs: ${name}`).toBeGreaterThan(0)
    if (unexpected.length > 0) {
      const handlers = new Set(unexpected.map(({ combination }) => combination.handler))
      console.log(`${unexpected.length} combinations differ, with these handlers: ${[...handlers].join('; ')}`)
      const [first] = unexpected
      expect(first?.got, JSON.stringify(first?.combination)).toEqual(first?.expected)
    }
  },
)
