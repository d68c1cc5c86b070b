import signature from 'cookie-signature'
import express from 'express'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { describe, expect, test, vi } from 'vitest'
import session from '../../src'
import { OPTIONS, record, type AnySession } from '../faults/fault'
import { SECRET, withServer } from '../support/app'
import { RawConnection } from '../support/raw'
import { signedCookie } from '../support/set-cookie'

const ID = 'ada-0123456789abcdefghijkl'
// eslint-disable-next-line no-control-regex -- just these
const CONTROLS = /[\0-\x08\n-\x1f\x7f]/g
const OTHERS = ['', ';', '=', '"', '%', '%00', '%E0%A4%A', '\t', 'é', 'ÿ', '../x', '__proto__', 'a'.repeat(300)]
const TARGETS =
  'http://[ http://[::1 http://a:99999999/ http:// // //[ /% /%00 /?%00 /?x-sid[]=a * /a\\b /admin /administrator ' +
  '/admin/ /admin? /admin/x#y /a/../admin HTTP://A/admin javascript:1 http://u:p@[/ /\x80\xff http://a\\b /?#?#'
const HEADERS = [
  'X-Forwarded-Proto',
  'X-Sid',
  'Host',
  'Origin',
  'If-None-Match',
  'X-Forwarded-For',
  '__proto__',
  'Accept',
]

/** Numbers that are the same in every run. */
function numbers(seed: number): (below: number) => number {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

/** Makes requests as attackers send them. */
function attacker(seed: number): (isLast: boolean) => string {
  const below = numbers(seed)
  const one = <T>(items: readonly T[]): T => items[below(items.length)] as T
  /** Of targets Node takes ASCII without blanks, and Latin-1 elsewhere. */
  const char = (from: number): string => String.fromCharCode(from + below((from === 0x20 ? 0x100 : 0x7f) - from))
  const text = (from: number): string => Array.from({ length: below(20) }, () => char(from)).join('')
  const signed = (): string =>
    's:' + signature.sign(one([ID, `${ID}~token`, `${ID}~${'a'.repeat(22)}`, ...OTHERS]), SECRET)

  function changed(value: string, from: number): string {
    const at = below(value.length + 1)
    return one([value, value.slice(0, at), value.slice(0, at) + char(from) + value.slice(at + 1), value + text(from)])
  }
  function cookie(): string {
    const value = one([signed(), encodeURIComponent(signed()), `"${signed()}"`, one(OTHERS), text(0x20)])
    return `${one(['connect.sid', 'sid', 'xconnect.sid', ' connect.sid ', '', '__proto__'])}${one(['=', '=', ' = ', ''])}${changed(value, 0x20)}`
  }
  function header(): string {
    if (below(2)) return `Cookie: ${Array.from({ length: 1 + below(12) }, cookie).join(one(['; ', ';', ',', ';;']))}`
    return `${one(HEADERS)}: ${one([changed(ID, 0x20), one(OTHERS), text(0x20), 'https', 'https,http', ' , '])}`
  }
  return (isLast) => {
    const target = below(2)
      ? one(TARGETS.split(' '))
      : changed(one(['/', '/admin', 'http://a/', ...TARGETS.split(' ')]), 0x21)
    const lines = [`${one(['GET', 'HEAD', 'POST', 'OPTIONS', 'DELETE'])} ${target || '/'} HTTP/1.1`, 'Host: a']
    for (let more = below(5); more > 0; more--) lines.push(header())
    // Node refuses these characters itself.
    return [...lines, isLast ? 'Connection: close' : 'A: b', '', '']
      .map((line) => line.replace(CONTROLS, ''))
      .join('\r\n')
  }
}

/** Middlewares that look at all that a client can send; `keys` are those that it has had a store asked for. */
function middlewares() {
  const keys = new Set<string>()
  const make = (options: session.SessionOptions) => {
    const store = new session.MemoryStore({ max: 1000 })
    store.sessions[ID] = record({ user: 'ada' })
    const { read } = store
    store.read = (key, ...more) => (keys.add(key), read.call(store, key, ...more))
    return session({ ...OPTIONS, store, hints: false, ...options })
  }
  const transport: session.Transport = {
    read: (req) => (req.headers['x-sid'] ?? new URLSearchParams(req.url).getAll('x-sid[]')) as string,
    write: (_req, res, id) => void res.setHeader('x-sid', id),
  }
  const all = [
    make({}),
    make({ cookie: { path: '/admin' }, rolling: true, saveUninitialized: true }),
    make({ cookie: () => ({ secure: 'auto', sameSite: 'auto', maxAge: 60_000 }), proxy: true, clearCookie: true }),
    make({ name: 'sid', signName: true, secret: [SECRET, 'an older secret'] }),
    make({
      hashIds: true,
      idleTimeout: 60_000,
      renewalTimeout: 60_000,
      user: (data) => (data as AnySession)['user'] as string,
    }),
    make({ transport }),
    make({ transport, genid: () => `é ${Math.random()}` }),
  ]
  return { all, keys }
}

/** Sends raw requests until an app, that each time has another middleware, has got so many: what was thrown there. */
async function attack(requests: number, seed: number, mount: (handle: Handle) => Parameters<typeof withServer>[0]) {
  const { all, keys } = middlewares()
  const thrown: unknown[] = []
  let served = 0
  const handle: Handle = (req, res) => {
    const sessions = all[served++ % all.length] as session.Sessions
    try {
      sessions(req, res, (error?: unknown) => {
        if (error) thrown.push(error)
        const { session } = req as { session?: AnySession }
        if (session && served % 3 === 0) session['views'] = served
        if (session && served % 7 === 0) void session.destroy()
        if (req.method === 'POST') res.write('a part, ')
        res.end('answered')
      })
    } catch (error) {
      thrown.push(error)
      res.end()
    }
  }
  await withServer(mount(handle), async ({ port }) => {
    const next = attacker(seed)
    while (served < requests) {
      const batch = Array.from({ length: 4 }, () => Array.from({ length: 10 }, (_, n) => next(n === 9)).join(''))
      await Promise.all(
        batch.map((text) => {
          const connection = new RawConnection(port)
          connection.socket.write(text, 'latin1')
          return connection.ended()
        }),
      )
    }
  })
  return { thrown, keys }
}
type Handle = (req: IncomingMessage, res: ServerResponse) => void

const servers: Record<string, (handle: Handle) => Parameters<typeof withServer>[0]> = {
  'node:http': (handle) => handle,
  Express: (handle) => express().use(handle as never),
}

describe.each(Object.keys(servers))('what clients send to %s throws nowhere', (server) => {
  async function expectNoThrow(requests: number, seed: number): Promise<void> {
    const { thrown, keys } = await attack(requests, seed, servers[server]!)
    expect(thrown).toEqual([])
    for (const key of keys) expect(key).not.toMatch(CONTROLS)
  }
  test('400 requests', { timeout: 60_000 }, () => expectNoThrow(400, 1))
  test('2000 requests', { tags: ['slow'], timeout: 120_000 }, () => expectNoThrow(2000, 3))
  test('25,000 requests', { tags: ['long'], timeout: 300_000 }, () => expectNoThrow(25_000, 2))
})

describe('what a transport reads', () => {
  const visit = async (value: unknown, options: session.SessionOptions = {}) => {
    const store = new session.MemoryStore()
    const asked: unknown[] = []
    store.read = (key) => (asked.push(key), null)
    const transport = { read: () => value as string, write: () => undefined }
    const sessions = session({ ...OPTIONS, store, transport, ...options })
    const told = await new Promise((resolve) => sessions({ url: '/', headers: {} } as never, {} as never, resolve))
    return { asked, told }
  }

  test.each([
    ['a list', ['a']],
    ['an object', { toString: () => 'a' }],
    ['a number', 7],
    ['nothing', undefined],
    ['an empty text', ''],
    ['a path', '../admin'],
    ['a NUL', 'a\0'],
    ['a blank', 'a b'],
    ['more than 256 characters', 'a'.repeat(257)],
  ])('%s is no ID: the request gets a new session', async (_what, value) => {
    expect(await visit(value)).toEqual({ asked: [], told: undefined })
  })

  test('is an ID of any characters but those that no ID has, where genid makes them', async () => {
    const genid = (): string => 'ä b'
    expect((await visit('ä b', { genid })).asked).toEqual(['ä b'])
    for (const value of ['a\0', 'a\n', 'a\x7f', 'ä'.repeat(257)])
      expect((await visit(value, { genid })).asked).toEqual([])
  })

  test.each([
    ['a promise', () => Promise.resolve('a')],
    ['a promise that rejects', () => Promise.reject(new Error('late'))],
  ])('is not waited for: the application is told of %s', async (_what, value) => {
    expect(await visit(value())).toMatchObject({
      asked: [],
      told: new TypeError('transport option: read must return an ID, not a promise'),
    })
  })
})

test('at most eight cookies of the name that may be signed are verified', () => {
  const valid = encodeURIComponent('s:' + signature.sign(ID, SECRET))
  const forged = encodeURIComponent('s:' + signature.sign(ID, 'another secret'))
  const store = new session.MemoryStore()
  store.sessions[ID] = record({ user: 'ada' })
  const sessions = session({ ...OPTIONS, store })
  const userOf = (cookies: string[]): unknown => {
    const cookie = cookies.map((value) => `connect.sid=${value}`).join('; ')
    const req = { url: '/', headers: { cookie } }
    sessions(req as never, {} as never, () => undefined)
    return (req as unknown as { session: AnySession }).session['user']
  }
  const verify = vi.spyOn(signature, 'unsign')
  expect(userOf([...Array<string>(7).fill(forged), valid])).toBe('ada')
  expect(userOf([...Array<string>(300).fill('x'), valid]), 'what is no signature costs nothing').toBe('ada')
  verify.mockClear()
  expect(userOf([...Array<string>(300).fill(forged), valid])).toBeUndefined()
  expect(verify).toHaveBeenCalledTimes(8)
})

test.each([
  ['one that is made up', 'another secret'],
  ['one of a session that has ended', SECRET],
])('a cookie that was planted in front, %s, logs nobody out', (_which, secret) => {
  const store = new session.MemoryStore()
  store.sessions[ID] = record({ user: 'ada' })
  const cookie = `${signedCookie('planted', secret)}; ${signedCookie(ID, SECRET)}`
  const req = { url: '/', headers: { cookie } }
  session({ ...OPTIONS, store })(req as never, {} as never, () => undefined)
  expect(req).toMatchObject({ sessionID: ID, session: { user: 'ada' } })
})
