import { describe, expect, test } from 'vitest'
import sessile from '../../src'
import { dataOf, isSameData, maxAgeIn, serializeData, serializeRecord, wholeText } from '../../src/session/text'

type Data = Record<string, unknown>

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
