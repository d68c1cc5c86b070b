import { describe, expect, test } from 'vitest'
import { serializeData } from '../../src/session/text'

type Data = Record<string, unknown>

describe('what tells a change', () => {
  const text = (data: object): string => serializeData(data, JSON)
  test('Dates, toJSON and getters count by what is stored of them', () => {
    const when = new Date(0)
    const price = { euros: 1, toJSON: () => '1 €' }
    expect(text({ when, price })).toBe('{"when":"1970-01-01T00:00:00.000Z","price":"1 €"}')
    let n = 0
    const counting = Object.defineProperty({}, 'n', { enumerable: true, get: () => ++n })
    expect(text(counting)).not.toBe(text(counting))
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
