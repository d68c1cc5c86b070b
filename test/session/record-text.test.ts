import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Cookie } from '../../src'
import { storedNotes } from '../../src/session/notes'
import { parseData, takeApart } from '../../src/session/record-text'
import { serializeData, serializeRecord } from '../../src/session/text'

/** Two records with different ends: the second is mostly recognised by the pattern of the first. */
function texts(cookie: object, data: object = { n: 1 }): string[] {
  const rest = JSON.stringify(data).slice(1)
  return [1e12, 2e12].map((end) => {
    const start = `{"cookie":${JSON.stringify({ expires: new Date(end), ...cookie })}`
    return start + (rest === '}' ? rest : `,${rest}`)
  })
}

describe('a record is taken apart into what parsing all of it gives', () => {
  const cookies: Record<string, object> = {
    'as sessile writes it': { originalMaxAge: 60_000, expires: new Date(3e12), httpOnly: true, path: '/' },
    'without an end': { originalMaxAge: null, expires: null, httpOnly: true, path: '/' },
    'with an end that is a number': { originalMaxAge: 60_000, expires: 3e12, path: '/' },
    'with its end last': { path: '/', expires: new Date(3e12) },
    'with an end in its path': { expires: new Date(3e12), path: '/2065-01-24T05:20:00.000Z' },
    'with quotes and braces in its path': { path: '/"}{\\' },
    empty: {},
    'with notes': { originalMaxAge: null, path: '/', sessile: { created: 1, user: '}"{' } },
    'with notes in the middle': { originalMaxAge: null, sessile: { created: 1 }, path: '/' },
    'with what looks like notes': { path: '/"sessile":{"created":3}', other: { sessile: { created: 4 } } },
    'with notes in notes': { sessile: { created: 1, about: { sessile: { created: 2 } } }, path: '/' },
  }
  const contents: Record<string, object> = {
    'no data': {},
    data: { user: 'ada', cart: [{ n: 1 }] },
    'braces and quotes in texts': { a: '}"{\\', b: '"}' },
    Unicode: { 'naïve ☂': '👩‍🚀\u2028' },
    'a key called cookie within': { deep: { cookie: { a: 1 } } },
  }
  for (const [kind, cookie] of Object.entries(cookies)) {
    test.each(Object.entries(contents))(`a cookie ${kind}, and %s`, (_, data) => {
      for (const text of [...texts(cookie, data), ...texts({ ...cookie, maxAge: 1 }, data), ...texts(cookie, data)]) {
        const whole = JSON.parse(text) as { cookie: { sessile?: unknown; expires?: unknown } }
        const apart = takeApart(text)
        const { sessile, expires: _end, ...settings } = whole.cookie
        expect(apart?.notes).toEqual(sessile)
        expect({ ...apart?.settings, expires: undefined }).toEqual({ ...settings, expires: undefined })
        expect(apart && parseData(apart.data)).toEqual(data)
      }
    })
  }

  test('any cookie and any data', () => {
    const cookie = fc.record(
      { path: fc.string(), domain: fc.string(), sessile: fc.record({ about: fc.jsonValue() }) },
      {
        requiredKeys: [],
      },
    )
    fc.assert(
      fc.property(cookie, fc.dictionary(fc.string(), fc.jsonValue()), (settings, data) => {
        const { cookie: _, ...rest } = JSON.parse(JSON.stringify(data)) as Record<string, unknown>
        for (const text of texts(settings, rest)) {
          const { sessile, ...others } = settings
          const apart = takeApart(text)
          expect(apart?.notes).toEqual(sessile && JSON.parse(JSON.stringify(sessile)))
          expect(apart?.settings).toMatchObject(others)
          expect(apart && parseData(apart.data)).toEqual(rest)
        }
      }),
    )
  })

  test('the text of the data is that of which the record was made', () => {
    for (const data of [{}, { user: 'ada' }]) {
      const text = serializeData(data, JSON)
      expect(takeApart(serializeRecord({ cookie: new Cookie(), ...data }, text, JSON))?.data).toBe(text)
    }
  })
})

test('a text that is no JSON with the cookie first is not taken apart', () => {
  for (const text of [
    '{"user":"ada","cookie":{}}',
    '"cookie"',
    '{"cookie":{"path":"/"',
    '{"cookie":1}',
    '{"cookie":{a}}',
    '',
  ]) {
    expect(takeApart(text)).toBeUndefined()
  }
  expect(parseData('{"cookie":{}}')).toBeUndefined()
  expect(parseData('{"a":}')).toBeUndefined()
})

test('what somebody else has put in the place of the notes is refused', () => {
  for (const notes of ['abc', 5, null, { created: 'yesterday' }, { flash: null }]) {
    for (const text of texts({ path: '/', sessile: notes })) {
      expect(() => takeApart(text)).toThrow(/cookie whose sessile/)
    }
    expect(() => storedNotes({ sessile: notes })).toThrow(/cookie whose sessile/)
  }
})
