import { createSecretKey } from 'node:crypto'
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import cookie from 'cookie'
import signature from 'cookie-signature'
import { describe, expect, test } from 'vitest'
import { Cookie } from '../src/session/cookie'
import { readCookies } from '../src/request/identify'
import { Signer, type Presented } from '../src/request/signer'
import { writeSessionCookie } from '../src/response/set-cookie'

const NEW = 'the newer of the secrets'
const OLD = 'the older of the secrets'
const signed = (id: string, secret = NEW): string => encodeURIComponent(`s:${signature.sign(id, secret)}`)

function requestWith(header: string | undefined, more: object = {}): IncomingMessage {
  const req = new IncomingMessage(new Socket())
  if (header !== undefined) req.headers.cookie = header
  return Object.assign(req, more)
}

const read = (header: string | undefined, more?: object): Presented | undefined =>
  readCookies(requestWith(header, more), 'sid', new Signer([NEW, OLD]))[0]

describe('the ID in a Cookie header', () => {
  test.each<[string, string]>([
    ['alone', `sid=${signed('a')}`],
    ['among others', `theme=dark; sid=${signed('a')}; lang=en`],
    ['behind cookies whose names end like it', `xsid=${signed('x')}; my.sid=${signed('y')}; sid=${signed('a')}`],
    ['behind a cookie whose value has its name', `q=sid=${signed('x')}; sid=${signed('a')}`],
    ['in quotes', `sid="${signed('a')}"`],
    ['not encoded', `sid=s:${signature.sign('a', NEW)}`],
    ['with blanks around', `  sid \t=  ${signed('a')} ; x=1`],
    ['behind one that is forged', `sid=${signed('x', 'another secret')}; sid=${signed('a')}`],
    ['behind one that is not signed, empty, or cannot be decoded', `sid=x; sid=; sid=s%3A%; sid=${signed('a')}`],
    ['before others that are signed, too', `sid=${signed('a')}; sid=${signed('b')}`],
  ])('%s', (_, header) => {
    expect(read(header)).toMatchObject({ key: 'a', token: undefined, oldSecret: false })
  })

  test.each<[string, string | undefined]>([
    ['no header', undefined],
    ['an empty one', ''],
    ['another name', `SID=${signed('a')}`],
    ['a name with more', `sid2=${signed('a')}`],
    ['no signature', 'sid=s%3Aa'],
    ['a signature of another ID', `sid=${signed('b').replace('s%3Ab', 's%3Aa')}`],
    ['another secret', `sid=${signed('a', 'another secret')}`],
    ['an empty ID', `sid=${signed('')}`],
  ])('%s: none', (_, header) => {
    expect(read(header)).toBeUndefined()
  })

  test('signed by an older secret, it is known to be, every time', () => {
    const signer = new Signer([NEW, OLD])
    for (let times = 0; times < 2; times++) {
      const [presented] = readCookies(requestWith(`sid=${signed('a', OLD)}`), 'sid', signer)
      expect(presented).toMatchObject({ key: 'a', oldSecret: true, encoded: undefined })
    }
  })

  test('what only cookie-parser has seen counts, signed by it or by this', () => {
    expect(read(undefined, { signedCookies: { sid: 'a' } })).toMatchObject({ key: 'a' })
    expect(read(undefined, { cookies: { sid: decodeURIComponent(signed('a')) } })).toMatchObject({ key: 'a' })
    expect(read(undefined, { cookies: { sid: 's:a.forged' }, signedCookies: { sid: false } })).toBeUndefined()
  })

  test('a cookie that was seen thousands of cookies ago is still verified', () => {
    const signer = new Signer([NEW])
    const visit = (id: string): unknown => readCookies(requestWith(`sid=${signed(id)}`), 'sid', signer)[0]?.key
    for (let round = 0; round < 2; round++) {
      for (let n = 0; n < 12_000; n++) if (visit(`${n}`) !== `${n}`) throw new Error(`${n} was not verified`)
    }
    expect(visit('0')).toBe('0')
  })
})

describe('the signature', () => {
  test.each([
    ['a string', NEW],
    ['a Buffer', Buffer.from(NEW)],
    ['a Uint8Array', new Uint8Array(Buffer.from(NEW))],
    ['a KeyObject', createSecretKey(NEW, 'utf8')],
  ])('of %s is cookie-signature’s of the string', (_, secret) => {
    expect(new Signer([secret]).sign('an ID')).toBe(signed('an ID'))
  })
})

describe('the Set-Cookie header', () => {
  const written = (settings: object, before?: string | string[]): unknown => {
    const res = new ServerResponse(requestWith(undefined))
    if (before) res.setHeader('Set-Cookie', before)
    writeSessionCookie(res, 'sid', 'value', new Cookie(settings).data)
    return res.getHeader('Set-Cookie')
  }
  const expires = new Date('2026-11-21T12:34:56.789Z')

  test.each<[string, object]>([
    ['no expiry', {}],
    ['an expiry', { expires }],
    ['another expiry', { expires: new Date(0) }],
    ['everything', { expires, domain: 'example.com', path: '/app', secure: true, sameSite: 'none', partitioned: true }],
    ['other settings', { expires, httpOnly: false, priority: 'high', sameSite: true }],
  ])('%s: as the package cookie makes it', (_, settings) => {
    const options = { ...new Cookie(settings).data, encode: (value: string) => value } as cookie.CookieSerializeOptions
    expect(written(settings)).toEqual([cookie.serialize('sid', 'value', options)])
  })

  test('comes after those that are there', () => {
    const own = 'sid=value; Path=/; HttpOnly'
    expect(written({}, 'a=1')).toEqual(['a=1', own])
    expect(written({}, ['a=1', 'b=2'])).toEqual(['a=1', 'b=2', own])
  })
})
