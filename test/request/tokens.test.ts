import { describe, expect, test } from 'vitest'
import {
  hashOf,
  isFirstShown,
  isRenewalDue,
  joinHeld,
  mayWrite,
  newToken,
  noteToken,
  parseHeld,
  worthOf,
} from '../../src/request/tokens'
import type { SessionNotes } from '../../src/session/notes'

const GRACE = 10_000
const NOW = 1_000_000_000
const TOKEN = 'a'.repeat(22)
const OTHER = 'b'.repeat(22)

describe('what a client holds', () => {
  test.each<[string, string, string | undefined]>([
    ['an-id-of-express-session', 'an-id-of-express-session', undefined],
    [`key~${TOKEN}`, 'key', TOKEN],
    [`~${TOKEN}`, `~${TOKEN}`, undefined],
    [`key~${TOKEN}x`, `key~${TOKEN}x`, undefined],
    [`key~${'a'.repeat(21)}`, `key~${'a'.repeat(21)}`, undefined],
    [`key~${'a'.repeat(21)}.`, `key~${'a'.repeat(21)}.`, undefined],
    [`a~b~${TOKEN}`, 'a~b', TOKEN],
  ])('%s', (id, key, token) => {
    expect(parseHeld(id)).toEqual({ key, token })
    expect(joinHeld(key, token)).toBe(id)
  })

  test('new tokens can be held, and are never the same', () => {
    const tokens = Array.from({ length: 100 }, newToken)
    for (const token of tokens) expect(parseHeld(joinHeld('key', token))).toEqual({ key: 'key', token })
    expect(new Set(tokens).size).toBe(100)
  })
})

/** The notes after a periodic renewal from the bare key to TOKEN, and after one for a gain of rights. */
const periodic: SessionNotes = { token: hashOf(TOKEN), former: hashOf(undefined), renewed: NOW }
const gained: SessionNotes = { token: hashOf(TOKEN), renewed: NOW }

describe('what a token is worth', () => {
  test.each<[string, string | undefined, SessionNotes | undefined, number, string]>([
    ['a key without notes', undefined, undefined, 0, 'present'],
    ['a key that was never renewed', undefined, { created: NOW }, 0, 'present'],
    ['a token that the record has lost', TOKEN, {}, 0, 'present'],
    ['the present one', TOKEN, periodic, 0, 'present'],
    ['the former one, the new one not shown', undefined, periodic, 100 * GRACE, 'former'],
    ['the former one, the new one just shown', undefined, { ...periodic, shown: NOW }, GRACE, 'former'],
    ['the former one, the new one shown long ago', undefined, { ...periodic, shown: NOW }, GRACE + 1, 'stale'],
    ['one of before, just after', OTHER, periodic, GRACE, 'replaced'],
    ['one of before, later', OTHER, periodic, GRACE + 1, 'stale'],
    ['the former one, after a gain of rights', undefined, gained, GRACE, 'replaced'],
    ['and long after', undefined, gained, GRACE + 1, 'stale'],
    ['of a machine whose clock is behind', undefined, { ...periodic, shown: NOW }, -GRACE, 'former'],
  ])('%s', (_, token, notes, later, worth) => {
    expect(worthOf(token, notes, GRACE, NOW + later)).toBe(worth)
  })

  test('whoever holds the present or the former one may write, nobody else', () => {
    expect(mayWrite(undefined, undefined)).toBe(true)
    expect(mayWrite(TOKEN, periodic)).toBe(true)
    expect(mayWrite(undefined, periodic)).toBe(true)
    expect(mayWrite(OTHER, periodic)).toBe(false)
    expect(mayWrite(undefined, gained)).toBe(false)
  })

  test('the present one is shown for the first time once, and only after a periodic renewal', () => {
    expect(isFirstShown('present', periodic)).toBe(true)
    expect(isFirstShown('present', { ...periodic, shown: NOW })).toBe(false)
    expect(isFirstShown('former', periodic)).toBe(false)
    expect(isFirstShown('present', gained)).toBe(false)
    expect(isFirstShown('present', undefined)).toBe(false)
  })
})

describe('a renewal is due', () => {
  const HOUR = 3_600_000
  test.each<[string, Parameters<typeof isRenewalDue>[0], SessionNotes, number, number, boolean]>([
    ['never without a timeout', 'present', periodic, 0, 100 * HOUR, false],
    ['not before it', 'present', gained, HOUR, HOUR - 1, false],
    ['at it', 'present', { ...periodic, shown: NOW }, HOUR, HOUR, true],
    ['not while the former one is good', 'present', { ...periodic, shown: NOW }, 1, GRACE, false],
    ['nor before the new one was shown', 'present', periodic, HOUR, HOUR, false],
    ['counted from the creation, where there was none', 'present', { created: NOW }, HOUR, HOUR, true],
    ['not for times in the future', 'present', { renewed: NOW + HOUR }, HOUR, 0, false],
    ['not while the answer with the new one may be on its way', 'former', periodic, HOUR, 59_999, false],
    ['when that seems to be lost', 'former', periodic, HOUR, 60_000, true],
    ['not when the new one has been shown', 'former', { ...periodic, shown: NOW }, HOUR, HOUR, false],
  ])('%s', (_, worth, notes, timeout, later, due) => {
    expect(isRenewalDue(worth, notes, timeout, GRACE, NOW + later)).toBe(due)
  })

  test('a new token is noted with or without the former one', () => {
    const notes: SessionNotes = { ...periodic, shown: NOW, user: 'ada' }
    noteToken(notes, OTHER, hashOf(TOKEN), NOW + 1)
    expect(notes).toEqual({ token: hashOf(OTHER), former: hashOf(TOKEN), renewed: NOW + 1, user: 'ada' })
    noteToken(notes, TOKEN, undefined, NOW + 2)
    expect(notes).toEqual({ token: hashOf(TOKEN), renewed: NOW + 2, user: 'ada' })
  })
})
