import { isDeepStrictEqual } from 'node:util'
import { describe, expect, test } from 'vitest'
import sessile from '../../src'
import { original } from '../support/app'
import { combinations, outcomeOf, type Combination, type Outcome } from '../support/differential'
import { intendedDifferences } from './intended-differences'

/** Compares the two in every combination, or in one of so many. */
async function compare(oneOf: number): Promise<void> {
  let count = 0
  const needed = new Map(intendedDifferences.map(({ name }) => [name, 0]))
  const unexpected: { combination: Combination; expected: Outcome; got: Outcome }[] = []

  for (const [index, combination] of [...combinations()].entries()) {
    if (index % oneOf !== 0) continue
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

  for (const [name, times] of needed) expect(times, `intended difference that never occurs: ${name}`).toBeGreaterThan(0)
  if (unexpected.length > 0) {
    const handlers = new Set(unexpected.map(({ combination }) => combination.handler))
    console.log(`${unexpected.length} combinations differ, with these handlers: ${[...handlers].join('; ')}`)
    const [first] = unexpected
    expect(first?.got, JSON.stringify(first?.combination)).toEqual(first?.expected)
  }
}

describe('sessile does what express-session 1.19 does, but for the intended differences,', () => {
  // Primes that no number of values is a multiple of: whichever three values one looks at, some combination has them all.
  test('in one of 13 combinations', { timeout: 120_000 }, () => compare(13))
  test('in one of 3 combinations', { tags: ['slow'], timeout: 300_000 }, () => compare(3))
  test('in every combination', { tags: ['long'], timeout: 600_000 }, () => compare(1))
})
