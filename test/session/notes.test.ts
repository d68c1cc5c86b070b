import fc from 'fast-check'
import { expect, test } from 'vitest'
import { splitCookie, storedNotes } from '../../src/session/notes'

const withNotes = (notes: unknown): object => ({ originalMaxAge: null, path: '/', sessile: notes })

test('the notes in the text of a cookie are those that parsing all of it gives, wherever they are', () => {
  const nested = { created: 1, about: { sessile: { created: 2 } } }
  const cookies = [
    withNotes({ created: 1, seen: 2 }),
    withNotes(nested),
    { sessile: nested, path: '/"sessile":{"created":3}' },
    { originalMaxAge: null, path: '"sessile":{}' },
    { other: { sessile: { created: 4 } }, path: '/' },
    { other: { sessile: { created: 5 } }, sessile: { created: 6 } },
    {},
  ]
  for (const cookie of cookies) expect(splitCookie(JSON.stringify(cookie)).notes).toEqual(storedNotes(cookie))
  expect(splitCookie('{"sessile":{"created":1},"sessile":{"created":2}}').notes).toEqual({ created: 2 })
  fc.assert(
    fc.property(fc.string(), fc.jsonValue(), (path, about) => {
      const cookie = JSON.stringify({ path, sessile: { about } })
      expect(splitCookie(cookie).notes).toEqual(storedNotes(JSON.parse(cookie) as object))
    }),
  )
})

test('what somebody else has put in their place is refused', () => {
  for (const notes of ['abc', 5, null, { created: 'yesterday' }, { flash: null }]) {
    expect(() => splitCookie(JSON.stringify(withNotes(notes))).notes).toThrow(/cookie whose sessile/)
  }
})
