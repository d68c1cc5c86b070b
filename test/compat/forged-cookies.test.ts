import cookieParser from 'cookie-parser'
import signature = require('cookie-signature')
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import session from '../../src'
import { appOf, appWith, OPTIONS, record, type Handler } from '../faults/fault'
import { SECRET, withServer } from '../support/app'
import { Exchange, exchange } from '../support/exchange'
import { RawConnection, rawGet } from '../support/raw'

/** Each user's session says whose it is, so that a session given to somebody else shows. */
const USERS = ['ada', 'grace', 'joan']
const idOf = (user: string): string => `${user}-0123456789abcdefghijkl`
const OTHER_SECRET = 'the secret of somebody else'

function storeOfUsers(): session.MemoryStore {
  const store = new session.MemoryStore()
  for (const user of USERS) store.sessions[idOf(user)] = record({ user })
  return store
}

/** Whose session a Cookie header has earned, by RFC 6265 and cookie-signature alone: the first that is signed well. */
function earnedBy(header: string): string | undefined {
  for (const pair of header.split(';')) {
    const equals = pair.indexOf('=')
    if (equals === -1 || pair.slice(0, equals).trim() !== 'connect.sid') continue
    const sent = pair.slice(equals + 1).trim()
    const value = decoded(sent.startsWith('"') ? sent.slice(1, -1) : sent)
    const id = value.startsWith('s:') && signature.unsign(value.slice(2), SECRET)
    if (id) return USERS.find((user) => idOf(user) === id)
  }
  return undefined
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value)
  } catch {
    return value
  }
}

const user = fc.constantFrom(...USERS)
const latin1 = fc.integer({ min: 0x20, max: 0xff }).map((code) => String.fromCharCode(code))
const text = fc.string({ unit: latin1, maxLength: 40 })
const signed = user.map((name) => 's:' + signature.sign(idOf(name), SECRET))

/** Values that are almost a session cookie. */
const almost = fc.oneof(
  user.map(idOf),
  user.map((name) => `s:${idOf(name)}`),
  user.map((name) => `s:${idOf(name)}.`),
  user.map((name) => 's:' + signature.sign(idOf(name), OTHER_SECRET)),
  user.map((name) => signature.sign(idOf(name), SECRET)),
  user.map((name) => 'S:' + signature.sign(idOf(name), SECRET)),
  user.map((name) => 'j:' + JSON.stringify({ id: idOf(name) })),
  fc
    .tuple(user, user)
    .map(([one, other]) => `s:${idOf(one)}${signature.sign(idOf(other), SECRET).slice(idOf(other).length)}`),
  fc.tuple(signed, fc.nat(200)).map(([value, at]) => value.slice(0, at % value.length)),
  fc.tuple(signed, fc.nat(200), latin1).map(([value, at, char]) => {
    const place = at % value.length
    return value.slice(0, place) + char + value.slice(place + 1)
  }),
  fc.tuple(signed, text).map(([value, more]) => value + more),
  fc.tuple(text, signed).map(([more, value]) => more + value),
  fc.tuple(signed, signed).map(([one, other]) => one + other),
  fc.constantFrom(
    's:',
    's:.',
    's:..',
    's:a.',
    's:.a',
    '',
    '"',
    '""',
    '"s:',
    '%',
    '%%',
    '%E0%A4%A',
    '%73%3A',
    's%3A%00.',
    '\t',
  ),
  text,
)

const wrapped = fc
  .tuple(fc.oneof(almost, signed), fc.constantFrom('', 'encode', 'quote', 'encode twice', 'space'))
  .map(([value, how]) => {
    if (how === 'encode') return encodeURIComponent(value)
    if (how === 'encode twice') return encodeURIComponent(encodeURIComponent(value))
    if (how === 'quote') return `"${value}"`
    return how === 'space' ? ` ${value} ` : value
  })

const name = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom('connect.sid', ' connect.sid', 'connect.sid ', '\tconnect.sid') },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      'CONNECT.SID',
      'xconnect.sid',
      'connect.sid2',
      'connectXsid',
      'connect',
      '$connect.sid',
      '__proto__',
      'constructor',
      'toString',
      '',
      '"connect.sid"',
      'connect%2Esid',
      'a=connect.sid',
      'connect.sid=connect.sid',
    ),
  },
  { weight: 1, arbitrary: text },
)
const pair = fc.oneof(
  { weight: 9, arbitrary: fc.tuple(name, fc.constantFrom('=', ' = ', '=='), wrapped).map((parts) => parts.join('')) },
  { weight: 1, arbitrary: fc.oneof(name, text) },
)
const header = fc.oneof(
  {
    weight: 9,
    arbitrary: fc
      .tuple(fc.array(pair, { minLength: 1, maxLength: 6 }), fc.constantFrom('; ', ';', ' ;', ';;', ', '))
      .map(([pairs, separator]) => pairs.join(separator)),
  },
  { weight: 1, arbitrary: fc.string({ unit: latin1, maxLength: 300 }) },
)

const whoseSession: Handler = (req, res) => res.send(String(req.session.user))

describe('malformed, forged and random Cookie headers', () => {
  test(
    '20,000 headers: a session is given to who has earned it, and to nobody else',
    { timeout: 120_000 },
    async () => {
      const errors: unknown[] = []
      const sessions = session({ ...OPTIONS, store: storeOfUsers(), hints: false })
      let earned = 0
      let runs = 0
      const property = fc.asyncProperty(header, async (cookie) => {
        runs++
        const { req, res, finished } = new Exchange({ headers: { cookie } })
        let got: string | undefined
        sessions(req as never, res as never, (error?: unknown) => {
          if (error) errors.push(error)
          got = (req as never as { session: { user?: string } }).session.user
          res.end('done')
        })
        await finished
        const owner = earnedBy(cookie)
        if (owner) earned++
        expect(got).toBe(owner)
      })
      await fc.assert(property, { seed: 20261120, numRuns: 20_000 })
      expect(errors).toEqual([])
      expect(runs).toBeGreaterThanOrEqual(20_000)
      console.log(`${runs} headers, ${earned} of them with a session that they had earned`)
      expect(earned).toBeGreaterThan(1000)
      expect(runs - earned).toBeGreaterThan(1000)
    },
  )

  test('behind cookie-parser, too, with its own cookies', { timeout: 120_000 }, async () => {
    const app = appOf([cookieParser(SECRET), session({ ...OPTIONS, store: storeOfUsers() })], whoseSession)
    const property = fc.asyncProperty(header, async (cookie) => {
      const one = new Exchange({ headers: { cookie } })
      app(one.req as never, one.res as never)
      await one.finished
      const { status, body } = one.received
      expect(status).toBe(200)
      if (earnedBy(cookie)) expect(body).toBe(earnedBy(cookie))
      else if (body !== 'undefined') expect(decoded(cookie)).toContain(signature.sign(idOf(body), SECRET))
    })
    await fc.assert(property, { seed: 7, numRuns: 3000 })
  })

  test('over a real connection, where Node may refuse a header with 400', { timeout: 60_000 }, async () => {
    const app = appWith(session, { store: storeOfUsers() }, whoseSession)
    await withServer(app, async ({ port }) => {
      const property = fc.asyncProperty(header, async (cookie) => {
        const connection = new RawConnection(port)
        connection.socket.write(rawGet('/', 'GET', `Connection: close\r\nCookie: ${cookie}`), 'latin1')
        const response = await connection.ended()
        expect(response).toMatch(/^HTTP\/1\.1 (200|400) /)
        if (response.startsWith('HTTP/1.1 200')) expect(response.endsWith(`\r\n\r\n${earnedBy(cookie)}`)).toBe(true)
      })
      await fc.assert(property, { seed: 42, numRuns: 500 })
    })
  })

  test('nothing has leaked into the prototypes', () => {
    expect(Object.keys(Object.prototype)).toEqual([])
    const inherited: string[] = []
    for (const key in {}) inherited.push(key)
    expect(inherited).toEqual([])
  })

  test('a header of 400 KB with the session cookie at its end', async () => {
    const cookies = Array.from({ length: 20_000 }, () => 'connect.sid=s:x.y').join('; ')
    const last = `connect.sid=s:${signature.sign(idOf('ada'), SECRET)}`
    const app = appWith(session, { store: storeOfUsers() }, whoseSession)
    expect((await exchange(app as never, { headers: { cookie: `${cookies}; ${last}` } })).body).toBe('ada')
  })
})
