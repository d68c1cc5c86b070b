import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import sessile from '../../src'
import { mergeInto } from '../../src/session/merge'
import { unnoted } from '../../src/session/noted'
import { notingSession, type LiveSession } from '../../src/session/session'

type Data = Record<string, unknown>
type Use = (session: LiveSession & Data) => unknown

const copy = (data: Data): Data => JSON.parse(JSON.stringify(data)) as Data
const withCookie = (data: Data): Data => ({ cookie: new sessile.Cookie(), ...copy(data) })

const noting = (data: Data) =>
  notingSession({} as never, copy(data), new sessile.Cookie(), {} as never, 'id') as LiveSession & Data

/** What becomes of a session that was made of `base` and used, where `theirs` is merged into it; else its order. */
function merged(base: Data, use: Use, theirs: Data): Data | string {
  const session = noting(base)
  use(session)
  const order = mergeInto(session, withCookie(base), withCookie(theirs), JSON)
  if (order !== 'after') return order
  const { cookie: _, ...data } = unnoted(() => ({ ...session }))
  return copy(data)
}

const set =
  (values: Data): Use =>
  (session) =>
    Object.assign(session, values)

describe('two requests at once', () => {
  test.each<[string, Data, Use, Data, Data]>([
    ['write different keys', { a: 0, b: 0 }, set({ a: 1 }), { a: 0, b: 2 }, { a: 1, b: 2 }],
    ['add different keys', {}, set({ a: 1 }), { b: 2 }, { a: 1, b: 2 }],
    ['write the same key without a look: mine', { n: 0 }, set({ n: 1 }), { n: 2 }, { n: 1 }],
    ['assign what was there already: mine', { ok: false }, set({ ok: false }), { ok: true }, { ok: false }],
    ['they deleted what I left', { a: 1, b: 1 }, set({ b: 2 }), { b: 1 }, { b: 2 }],
    ['I deleted what they changed', { a: 1, b: 1 }, (one) => delete one['a'], { a: 2, b: 1 }, { b: 1 }],
    ['I replaced an object: it is one value', { o: { a: 1 } }, set({ o: { b: 1 } }), { o: { a: 2 } }, { o: { b: 1 } }],
    [
      'I looked at what they left',
      { n: 0, m: 0 },
      (one) => (one['m'] = one['n']),
      { n: 0, m: 0, k: 1 },
      { n: 0, m: 0, k: 1 },
    ],
    ['null is a value', { x: 1, y: 0 }, set({ y: 1 }), { x: null, y: 0 }, { x: null, y: 1 }],
  ])('%s', (_, base, use, theirs, result) => {
    expect(merged(base, use, theirs)).toEqual(result)
  })

  test.each<[string, Data, Use, Data]>([
    ['a key that they changed', { n: 0 }, (one) => (one['m'] = one['n']), { n: 1 }],
    ['a key that they added', {}, (one) => one['user'] ?? (one['m'] = 1), { user: 'ada' }],
    ['a key that they deleted', { user: 'ada' }, (one) => one['user'] && (one['m'] = 1), {}],
    ['a key that they added, by in', {}, (one) => 'user' in one, { user: 'ada' }],
    ['an object that they changed within', { o: { a: 1 } }, (one) => ((one['o'] as Data)['b'] = 1), { o: { a: 2 } }],
    ['everything, as by a copy', { a: 1 }, (one) => ({ ...one }), { a: 1, b: 1 }],
    ['everything, as by JSON', { a: 1 }, (one) => JSON.stringify(one), { a: 1, b: 1 }],
    [
      'everything, as by for in',
      { a: 1 },
      (one) => {
        for (const key in one) void key
      },
      { a: 1, b: 1 },
    ],
    ['a key, by its own method', { a: 1 }, (one) => one.hasOwnProperty('b'), { a: 1, b: 1 }], // eslint-disable-line no-prototype-builtins
  ])('are not merged where one looked at %s', (_, base, use, theirs) => {
    const useAndWrite: Use = (session) => (use(session), (session['written'] = 1))
    expect(merged(base, useAndWrite, theirs)).toBe('neither')
  })

  test('who has only read, though everything, came before the others', () => {
    expect(merged({ a: 1 }, (one) => ({ ...one }), { a: 2, b: 1 })).toBe('before')
  })

  test('an object that notes nothing counts as looked at', () => {
    const plain = withCookie({ mine: 1 })
    expect(mergeInto(plain, withCookie({}), withCookie({ theirs: 1 }), JSON)).toBe('neither')
    expect(mergeInto(plain, withCookie({}), withCookie({}), JSON)).toBe('after')
  })

  test('whatever keys are written blindly, the result is theirs with what was written', () => {
    const data = fc.dictionary(
      fc
        .string({ maxLength: 3 })
        .filter((key) => !['__proto__', 'cookie'].includes(key) && !(key in sessile.Session.prototype)),
      fc.jsonValue({ maxDepth: 2 }),
      { maxKeys: 5 },
    )
    fc.assert(
      fc.property(data, data, data, (base, written, theirs) => {
        const expected = { ...copy(theirs), ...copy(written) }
        expect(merged(base as Data, set(copy(written as Data)), theirs as Data)).toEqual(expected)
      }),
      { seed: 21, numRuns: 500 },
    )
  })

  test('nothing reaches a prototype or a method', () => {
    const theirs = JSON.parse('{"__proto__": {"polluted": 1}, "constructor": 1, "save": 1}') as Data
    const session = noting({})
    mergeInto(session, withCookie({}), Object.assign(theirs, { cookie: new sessile.Cookie() }), JSON)
    expect(({} as Data)['polluted']).toBeUndefined()
    expect(session.save).toBeTypeOf('function')
  })
})
