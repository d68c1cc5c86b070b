import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isTextOf } from '../../src/session/json-text'

const copy = (value: unknown): unknown => JSON.parse(JSON.stringify(value)) as unknown

test('every text is that of what was parsed from it, unless it has escapes', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = JSON.stringify(value)
      expect(isTextOf(text, copy(value))).toBe(!text.includes('\\'))
    }),
    { numRuns: 2000 },
  )
})

test('no text is that of other data', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (one, other) => {
      const [text, otherText] = [JSON.stringify(one), JSON.stringify(other)]
      if (isTextOf(text, copy(other))) expect(text).toBe(otherText)
    }),
    { numRuns: 2000 },
  )
})

test('no text is that of data in which one place was changed', () => {
  const change = (value: unknown, by: unknown): unknown[] => {
    if (typeof value !== 'object' || value === null) return [by]
    const entries = Object.entries(value)
    const changed = entries.flatMap(([key, inner]) =>
      change(inner, by).map((one) => (Array.isArray(value) ? value.with(Number(key), one) : { ...value, [key]: one })),
    )
    return [...changed, ...(Array.isArray(value) ? [[...value, by]] : [{ ...value, added: by }])]
  }
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 3 }), fc.jsonValue({ maxDepth: 1 }), (value, by) => {
      const text = JSON.stringify(value)
      for (const changed of change(copy(value), by)) {
        expect(isTextOf(text, changed) && JSON.stringify(changed) !== text).toBe(false)
      }
    }),
  )
})

describe('data that could be taken for other data', () => {
  test.each<[string, unknown]>([
    ['{"a":"b","c":"d"}', { a: 'b","c":"d' }],
    ['{"a":{"b":1}}', { 'a":{"b': 1 }],
    ['{"a":"\\n"}', { a: '\\n' }],
    ['{"a":1}', { a: '1' }],
    ['{"a":"1"}', { a: 1 }],
    ['{"a":12}', { a: 1 }],
    ['[1,2]', [1]],
    ['[]', {}],
    ['{}', []],
    ['{"a":null}', { a: undefined }],
    ['{"a":null}', { a: NaN }],
    ['{"a":1}', { a: 1n }],
    ['{"a":1}', { a: 1, b: undefined }],
    ['{"a":1}', Object.create({ a: 1 })],
    ['{"a":1}', { a: 1, toJSON: () => ({}) }],
    ['{"when":"1970-01-01T00:00:00.000Z"}', { when: new Date(0) }],
    ['[1]', Object.assign([1], { toJSON: () => 2 })],
    ['{}', new Map()],
  ])('%s', (text, value) => {
    expect(isTextOf(text, value)).toBe(false)
  })
})

test('deeper than a stack may go, it is not sure', () => {
  let deep: unknown = 1
  for (let i = 0; i < 100_000; i++) deep = [deep]
  expect(isTextOf('['.repeat(100_000) + '1' + ']'.repeat(100_000), deep)).toBe(false)
})
