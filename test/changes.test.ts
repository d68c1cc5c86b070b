import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import sessile from '../src'
import {
  dataOf,
  isSameData,
  maxAgeIn,
  mergeChanges,
  serializeData,
  serializeRecord,
  wholeText,
} from '../src/session/text'

type Data = Record<string, unknown>

const copy = (data: Data): Data => JSON.parse(JSON.stringify(data)) as Data

function merged(base: Data, mine: Data, theirs: Data): Data {
  const result = copy(mine)
  mergeChanges(copy(base), result, copy(theirs), JSON)
  return result
}

describe('the merge of two changes', () => {
  test.each<[string, Data, Data, Data, Data]>([
    ['different keys', {}, { a: 1 }, { b: 2 }, { a: 1, b: 2 }],
    ['the same key: mine', { n: 0 }, { n: 1 }, { n: 2 }, { n: 1 }],
    ['theirs, where I changed nothing', { n: 0, m: 0 }, { n: 0, m: 1 }, { n: 2, m: 0 }, { n: 2, m: 1 }],
    ['they deleted what I left', { a: 1, b: 1 }, { a: 1, b: 2 }, { b: 1 }, { b: 2 }],
    ['I deleted what they left', { a: 1 }, {}, { a: 1, b: 1 }, { b: 1 }],
    ['I deleted what they changed', { a: 1 }, {}, { a: 2 }, {}],
    ['they deleted what I changed', { a: 1 }, { a: 2 }, {}, { a: 2 }],
    [
      'objects, into their depth',
      { o: { p: {} } },
      { o: { p: { a: 1 } } },
      { o: { p: { b: 2 } } },
      { o: { p: { a: 1, b: 2 } } },
    ],
    ['objects that both added', {}, { o: { a: 1 } }, { o: { b: 2 } }, { o: { a: 1, b: 2 } }],
    ['arrays, whole', { l: [1] }, { l: [1, 2] }, { l: [1, 3] }, { l: [1, 2] }],
    ['an array that only they changed', { l: [1] }, { l: [1], a: 1 }, { l: [1, 3] }, { l: [1, 3], a: 1 }],
    ['an object in place of a number', { x: 1 }, { x: { a: 1 } }, { x: 2 }, { x: { a: 1 } }],
    ['a number in place of an object', { x: { a: 1 } }, { x: 1 }, { x: { a: 1, b: 1 } }, { x: 1 }],
    ['null is a value', { x: 1 }, { x: 1 }, { x: null }, { x: null }],
    [
      'the cookie is left alone',
      { cookie: { a: 1 } },
      { cookie: { a: 2 } },
      { cookie: { b: 1 } },
      { cookie: { a: 2 } },
    ],
  ])('%s', (_, base, mine, theirs, result) => {
    expect(merged(base, mine, theirs)).toEqual(result)
  })

  const data = fc.dictionary(
    fc.string({ maxLength: 3 }).filter((key) => key !== '__proto__' && key !== 'cookie'),
    fc.jsonValue({ maxDepth: 3 }),
    { maxKeys: 5 },
  )

  test('of a change with none is that change', () => {
    fc.assert(
      fc.property(data, data, (base, change) => {
        expect(merged(base as Data, change as Data, base as Data)).toEqual(copy(change as Data))
        expect(merged(base as Data, base as Data, change as Data)).toEqual(copy(change as Data))
      }),
      { seed: 21, numRuns: 500 },
    )
  })

  test('of a change with itself is that change', () => {
    fc.assert(
      fc.property(data, data, (base, change) => {
        expect(merged(base as Data, change as Data, change as Data)).toEqual(copy(change as Data))
      }),
      { seed: 22, numRuns: 500 },
    )
  })

  test('pollutes no prototype, and reaches no method', () => {
    const theirs = JSON.parse(
      '{"__proto__": {"polluted": 1}, "constructor": {"prototype": {"polluted": 1}}, "toString": 1}',
    ) as Data
    const mine: Data = {}
    mergeChanges({}, mine, theirs, JSON)
    expect(({} as Data)['polluted']).toBeUndefined()
    expect(Object.getPrototypeOf(mine)).toBe(Object.prototype)
  })
})

describe('what tells a change', () => {
  const text = (data: object): string => serializeData(data, JSON)
  const stored = (data: object): string => serializeRecord({ cookie: new sessile.Cookie(), ...data }, text(data), JSON)

  test.each<[string, object]>([
    ['no data', {}],
    ['data', { user: 'ada', cart: [{ n: 1 }] }],
    ['braces and quotes in texts', { a: '}"{\\', b: '"}' }],
    ['Unicode', { 'naïve ☂': '👩‍🚀\u2028' }],
    ['a key called cookie within', { deep: { cookie: { a: 1 } } }],
  ])('%s: what was stored is the same as what is stored again', (_, data) => {
    const known = dataOf(stored(data))
    expect(known && isSameData(known, text(data))).toBe(true)
    expect(known && isSameData(known, text({ ...data, x: 1 }))).toBe(false)
    expect(isSameData(wholeText(text(data)), text(data))).toBe(true)
  })

  test('Dates, toJSON and getters count by what is stored of them', () => {
    const when = new Date(0)
    const price = { euros: 1, toJSON: () => '1 €' }
    expect(text({ when, price })).toBe('{"when":"1970-01-01T00:00:00.000Z","price":"1 €"}')
    let n = 0
    const counting = Object.defineProperty({}, 'n', { enumerable: true, get: () => ++n })
    expect(text(counting)).not.toBe(text(counting))
  })

  test('a text that begins with something else has to be parsed', () => {
    expect(dataOf('{"user":"ada","cookie":{}}')).toBeUndefined()
    expect(dataOf('"cookie"')).toBeUndefined()
    expect(dataOf('{"cookie":{"path":"/"')).toBeUndefined()
  })

  test('the lifetime is read off the text', () => {
    expect(maxAgeIn('{"cookie":{"originalMaxAge":60000,"expires":"…"}}')).toBe(60_000)
    expect(maxAgeIn('{"cookie":{"originalMaxAge":null,"expires":null}}')).toBeNull()
    expect(maxAgeIn('{"cookie":{"originalMaxAge":-1,"expires":null}}')).toBeUndefined()
    expect(maxAgeIn('{"cookie":{"path":"/"}}')).toBeUndefined()
  })
})

describe('a value that cannot be stored is named by its path', () => {
  const circular: Data = {}
  circular['self'] = { again: circular }
  test.each<[string, object, string]>([
    ['a BigInt', { cart: [{ n: 1 }, { n: 2n }] }, 'req.session.cart[1].n cannot be stored'],
    ['a circle', { a: circular }, 'req.session.a.self.again cannot be stored'],
    [
      'a getter that throws',
      {
        get bad() {
          throw new Error('no')
        },
      },
      'req.session.bad cannot be stored: no',
    ],
    [
      'a toJSON that throws',
      {
        a: {
          toJSON() {
            throw new Error('never')
          },
        },
      },
      'req.session.a cannot be stored: never',
    ],
  ])('%s', (_, data, message) => {
    expect(() => serializeData(data, JSON)).toThrow(expect.objectContaining({ code: 'ERR_SESSION_SERIALIZE' }) as Error)
    expect(() => serializeData(data, JSON)).toThrow(message)
  })
})
