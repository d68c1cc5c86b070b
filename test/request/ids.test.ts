import uid = require('uid-safe')
import { afterEach, expect, test, vi } from 'vitest'
import { newId } from '../../src/request/ids'

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

test('IDs are 24 random bytes each, and no two are the same', () => {
  const ids = Array.from({ length: 10_000 }, newId)
  expect(new Set(ids).size).toBe(ids.length)
  for (const id of ids) expect(id).toMatch(/^[\w-]{32}$/)
  const firstCharacters = new Set(ids.map((id) => id[0]))
  const lastCharacters = new Set(ids.map((id) => id.at(-1)))
  expect([firstCharacters.size, lastCharacters.size]).toEqual([64, 64])
})

test('they are made together, and what is not used within a second is thrown away', () => {
  vi.useFakeTimers()
  const made = vi.spyOn(uid, 'sync')
  vi.advanceTimersByTime(10_000)
  for (let i = 0; i < 64; i++) newId()
  expect(made).toHaveBeenCalledTimes(1)
  newId()
  expect(made).toHaveBeenCalledTimes(2)
  vi.advanceTimersByTime(900)
  newId()
  expect(made).toHaveBeenCalledTimes(2)
  vi.advanceTimersByTime(200)
  newId()
  expect(made).toHaveBeenCalledTimes(3)
  // The clock may be set back.
  vi.setSystemTime(Date.now() - 3_600_000)
  newId()
  expect(made).toHaveBeenCalledTimes(4)
})
