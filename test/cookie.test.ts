import { createRequire } from 'node:module'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import sessile from '../src'
import { stringifyCookie } from '../src/session/cookie'
import { setNotes } from '../src/session/notes'

type AnyCookie = Record<string, unknown> & { serialize(name: string, value: string): string }
type AnyConstructor = new (options?: unknown) => AnyCookie

const original = createRequire(__filename)('express-session') as { Cookie: AnyConstructor }
const Cookies = { 'express-session': original.Cookie, sessile: sessile.Cookie as unknown as AnyConstructor }
const now = Date.parse('2026-01-01T00:00:00Z')
const inAMinute = new Date(now + 60_000)

beforeEach(() => void vi.useFakeTimers({ now, toFake: ['Date'] }))
afterEach(() => vi.useRealTimers())

/** Every face of a cookie that an application can see. */
function faces(cookie: AnyCookie): object {
  const names: string[] = []
  for (const name in cookie) names.push(name)
  return {
    names: names.sort(),
    own: Object.keys(cookie).sort(),
    maxAge: cookie['maxAge'],
    expires: cookie['expires'],
    _expires: cookie['_expires'],
    originalMaxAge: cookie['originalMaxAge'],
    data: cookie['data'],
    json: JSON.stringify(cookie),
    header: cookie.serialize('sid', 'a value'),
  }
}

describe('as on express-session', () => {
  test.each<[string, (Cookie: AnyConstructor) => AnyCookie]>([
    ['no options', (Cookie) => new Cookie()],
    ['maxAge', (Cookie) => new Cookie({ maxAge: 60_000 })],
    ['maxAge null', (Cookie) => new Cookie({ maxAge: null })],
    ['expires', (Cookie) => new Cookie({ expires: inAMinute })],
    ['expires false', (Cookie) => new Cookie({ expires: false })],
    ['what was stored', (Cookie) => new Cookie({ originalMaxAge: 5000, expires: inAMinute, path: '/x' })],
    ['every setting', (Cookie) => new Cookie({ domain: 'a.b', httpOnly: false, secure: true, sameSite: 'lax' })],
    ['the newer settings', (Cookie) => new Cookie({ priority: 'low', partitioned: true })],
    ['names of one’s own', (Cookie) => new Cookie({ label: 'mine' })],
    ['a key called data', (Cookie) => new Cookie({ data: 1, path: '/y' })],
    ['maxAge set later', (Cookie) => Object.assign(new Cookie(), { maxAge: 1000 })],
    ['maxAge taken away', (Cookie) => Object.assign(new Cookie({ maxAge: 1000 }), { maxAge: null })],
    ['expires set later', (Cookie) => Object.assign(new Cookie(), { expires: inAMinute })],
    ['expires taken away', (Cookie) => Object.assign(new Cookie({ maxAge: 1000 }), { expires: null })],
  ])('%s', (_, make) => {
    expect(faces(make(Cookies.sessile))).toEqual(faces(make(Cookies['express-session'])))
  })

  test.each<[string, (Cookie: AnyConstructor) => unknown]>([
    ['options that are no object', (Cookie) => new Cookie('path=/')],
    ['a maxAge that is no number', (Cookie) => new Cookie({ maxAge: '1 day' })],
    ['a maxAge that is set to none', (Cookie) => Object.assign(new Cookie(), { maxAge: {} })],
  ])('%s are refused with the same words', (_, make) => {
    const [theirs, ours] = Object.values(Cookies).map((Cookie) => {
      try {
        return make(Cookie)
      } catch (error) {
        return String(error)
      }
    })
    expect(ours).toMatch(/^TypeError/)
    expect(ours).toBe(theirs)
  })
})

test('maxAge runs, and originalMaxAge stays', () => {
  const cookie = new sessile.Cookie({ maxAge: 1000 })
  vi.advanceTimersByTime(400)
  expect(cookie.maxAge).toBe(600)
  expect(cookie.originalMaxAge).toBe(1000)
})

describe('the text that is stored is what JSON.stringify makes, whatever came before', () => {
  test.each<[string, object]>([
    ['no expiry', {}],
    ['a lifetime', { maxAge: 1000 }],
    ['another lifetime', { maxAge: 2000 }],
    ['the first again', { maxAge: 1000 }],
    ['other settings', { maxAge: 1000, sameSite: 'lax', domain: 'a"b' }],
    ['far away', { expires: new Date(8.64e15) }],
    ['before our time', { expires: new Date(-1) }],
    ['an invalid date', { expires: new Date(NaN) }],
  ])('%s', (_, options) => {
    const cookie = new sessile.Cookie(options)
    expect(stringifyCookie(cookie)).toBe(JSON.stringify(cookie))
    setNotes(cookie, { user: 'a"b', flash: { info: ['hello', undefined] } })
    expect(JSON.stringify(cookie), 'what an application shows of it').not.toContain('sessile')
    expect(stringifyCookie(cookie)).toContain('"sessile":{"user":"a\\"b","flash":{"info":["hello",null]}}')
  })

  test('a cookie with a toJSON of its own, and what is no cookie at all', () => {
    const cookie = Object.assign(new sessile.Cookie(), { toJSON: () => ({ mine: true }) })
    expect(stringifyCookie(cookie)).toBe('{"mine":true}')
    expect(stringifyCookie({ path: '/' })).toBe('{"path":"/"}')
  })
})
