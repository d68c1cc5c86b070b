import { randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { Envelope } from '../features/sealing/envelope'
import { isTableMissing, messageOf, type OpenedStore } from './open-store'
import { fromNow, size } from './print'
import { parseGiven, StoredSessions, type Secrets } from './sessions'

/** What was looked at: `problem` says what is wrong and what to do; without it, all is well. */
export interface Finding {
  readonly about: string
  readonly what: string
  readonly problem?: string
}

/** In ms: more is noticed by users. */
const SLOW = 50
const READS = 20
/** In ms. The header `Date` has whole seconds. */
const CLOCKS_APART = 3000
const MINUTE = 60_000
const PATIENCE = 10_000
/** Browsers drop what is longer, name and attributes included. */
const LARGEST_COOKIE = 4096
/** In bytes. */
const SHORTEST_SECRET = 32

export interface WhatToExamine {
  /** An address of the app that begins a session. */
  readonly url?: string
  /** The name of its cookie, where that is not found by its value. */
  readonly cookie?: string
}

/** Looks at a set-up. Rejects when the store cannot be reached. */
export async function examine(
  opened: OpenedStore,
  secrets: Secrets,
  { url, cookie }: WhatToExamine,
): Promise<Finding[]> {
  const findings: Finding[] = []
  const add: Add = (about, what, problem) => void findings.push({ about, what, ...(problem && { problem }) })
  examineVersions(opened, add)
  const canOpen = examineSecrets(secrets, add)
  await examineStore(opened, add)
  if (url !== undefined) {
    const sent = await examineUrl(url, cookie, add).catch((error: unknown) => {
      add('url', url, `It cannot be asked: ${messageOf(error)}`)
      return undefined
    })
    if (sent && canOpen) await examineBegun(sent, opened, secrets, add)
  }
  return findings
}

type Add = (about: string, what: string, problem?: string | false) => void

function examineVersions({ version, name }: OpenedStore, add: Add): void {
  const { version: own } = createRequire(__filename)('../../package.json') as { version: string }
  const isOdd = Number(/\d+/.exec(process.version)?.[0]) % 2 === 1
  const odd = 'Node of an odd version gets no long support: have an even one in production.'
  add('versions', `sessile ${own}, Node ${process.version.slice(1)}, ${version} at ${name}`, isOdd && odd)
}

/** Answers whether records can be opened with the keys. */
function examineSecrets({ secret, encryption, hashIds }: Secrets, add: Add): boolean {
  const length = (about: string, name: string, key: string, remedy: string): void => {
    const bytes = Buffer.byteLength(key)
    add(about, `${name} has ${bytes} bytes`, bytes < SHORTEST_SECRET && `A short one can be guessed: ${remedy}`)
  }
  if (secret !== undefined) {
    length(
      'secret',
      'SESSION_SECRET',
      secret,
      'make one of 32 random bytes, and keep this one second in the list for a while.',
    )
  }
  if (typeof hashIds === 'object') {
    length(
      'hashing',
      'the key in SESSILE_HASH_IDS',
      hashIds.key,
      'make one of 32 random bytes; sessions of before are lost with it.',
    )
  }
  if (!encryption) return true
  const what = `SESSILE_ENCRYPTION has ${encryption.length === 1 ? 'a key' : `${encryption.length} keys`}`
  try {
    new Envelope(encryption)
    add('encryption', what)
    return true
  } catch (error) {
    add('encryption', what, messageOf(error))
    return false
  }
}

async function examineStore({ store }: OpenedStore, add: Add): Promise<void> {
  const found = (await store.check?.()) ?? []
  for (const finding of found) add('store', 'its own check', finding)
  if (found.length === 0) add('store', 'its own check finds nothing: rights, tables, indexes, lengths, clock')

  const id = `doctor-${randomBytes(16).toString('base64url')}`
  const text = JSON.stringify({ cookie: { originalMaxAge: MINUTE, path: '/' } })
  const end = Date.now() + MINUTE
  try {
    const version = await store.write(id, text, end, 'absent')
    const isKept =
      version !== null &&
      (await store.read(id))?.text === text &&
      (await store.write(id, text, end, 'absent')) === null &&
      (await store.renew(id, end + MINUTE)) &&
      (await store.remove(id)) &&
      (await store.read(id)) === null
    const lag = 'It does not answer what was written: is a replica in between, or a proxy with a cache?'
    add('store', 'a session was written, read, renewed, and removed', !isKept && lag)
    add('latency', ...latency(await timesOfReads(() => store.read(id))))
  } catch (error) {
    if (isTableMissing(error)) return // as its own check has found
    return add('store', 'a session written, read, renewed, and removed', messageOf(error))
  }
  try {
    await store.linked?.('doctor')
    add('users', 'the index of users can be read')
  } catch (error) {
    if (isTableMissing(error)) add('users', 'there is no index of users, which only the option user needs')
    else add('users', 'the index of users', messageOf(error))
  }
}

/** In ms, the shortest first. */
async function timesOfReads(read: () => unknown): Promise<number[]> {
  const times: number[] = []
  for (let n = 0; n < READS; n++) {
    const began = performance.now()
    await read()
    times.push(performance.now() - began)
  }
  return times.sort((a, b) => a - b)
}

function latency(times: number[]): [what: string, problem: string | false] {
  const [median = 0, longest = 0] = [times[READS / 2], times.at(-1)]
  return [
    `${median.toFixed(1)} ms for a read (the median of ${READS}; the longest took ${longest.toFixed(1)} ms)`,
    median > SLOW && `Each request waits for more than ${SLOW} ms: is the store in another region, or overloaded?`,
  ]
}

interface SentCookie {
  readonly name: string
  /** `name=value` */
  readonly pair: string
  /** In bytes, with the attributes. */
  readonly size: number
  /** By their names in lower case. */
  readonly attributes: ReadonlyMap<string, string>
}

/** Looks at the cookie that an address of the app sets, as a browser would, and answers it. Rejects when nobody answers. */
async function examineUrl(url: string, name: string | undefined, add: Add): Promise<SentCookie | undefined> {
  const ask = async (headers: Record<string, string>) => {
    const answer = await fetch(url, { redirect: 'manual', headers, signal: AbortSignal.timeout(PATIENCE) })
    await answer.body?.cancel()
    const cookies = answer.headers.getSetCookie().map(parse)
    const isSessions = ({ name: own, pair }: SentCookie): boolean => (name ? own === name : /=s(:|%3A)/i.test(pair))
    return { answer, cookies, cookie: cookies.find(isSessions) }
  }
  // As by a proxy that ends TLS: an app that is not behind one takes no notice.
  const headers: Record<string, string> = url.startsWith('http:') ? { 'x-forwarded-proto': 'https' } : {}
  const { answer, cookie, cookies } = await ask(headers)
  examineClock(answer, add)
  if (!cookie) {
    const proxy = url.startsWith('http:')
      ? ' A cookie with secure: true is not set over http, unless the option proxy or trust proxy is set and a proxy sends X-Forwarded-Proto: https.'
      : ' Behind a proxy that ends TLS, secure: true needs the option proxy or trust proxy, and X-Forwarded-Proto: https from the proxy.'
    const remedy = 'Give an address that begins a session, or the name of its cookie by --cookie.'
    const names = cookies.map((cookie) => cookie.name).join(', ') || 'none'
    add('cookie', `${url} answered ${answer.status}; cookies set: ${names}`, `None is a session's. ${remedy}${proxy}`)
    return undefined
  }
  if (url.startsWith('http:') && cookie.attributes.has('secure')) {
    add('proxy', 'the app takes X-Forwarded-Proto: https for TLS, as behind a proxy that ends it')
  }
  examineCookie(cookie, url.startsWith('https:'), add)
  if (/public|s-maxage/i.test(answer.headers.get('cache-control') ?? '')) {
    add('caches', 'Cache-Control is public', 'A shared cache may give the cookie to others: set the option noStore.')
  }
  const key = (cookie: SentCookie): string => parseGiven(cookie.pair, NO_SECRETS).key
  const again = (await ask({ ...headers, cookie: cookie.pair })).cookie
  const another =
    'It began another session: is the store shared by all processes, and the secret the same? Does a proxy drop cookies?'
  add('cookie', 'a second request with it', again && key(again) !== key(cookie) && another)
  return cookie
}

const NO_SECRETS: Secrets = { secret: undefined, encryption: undefined, hashIds: false }

function examineClock({ headers }: Response, add: Add): void {
  const ahead = Date.parse(headers.get('date') ?? '') - Date.now()
  if (Math.abs(ahead) <= CLOCKS_APART) add('clock', "the app's machine and this one agree on the time")
  else if (Math.abs(ahead) > CLOCKS_APART) {
    const what = `the app's is ${Math.round(Math.abs(ahead) / 1000)} s ${ahead > 0 ? 'ahead of' : 'behind'} this machine's`
    add('clock', what, 'Sessions end too early or too late: have both synchronised by NTP.')
  }
}

function examineCookie({ name, size: bytes, attributes }: SentCookie, isHttps: boolean, add: Add): void {
  const isSecure = attributes.has('secure')
  const isNone = attributes.get('samesite')?.toLowerCase() === 'none'
  const path = attributes.get('path') ?? '/'
  const tooLarge = `Browsers drop it: they keep ${LARGEST_COOKIE} bytes at most. Keep less in it: an ID.`
  add('cookie', `${name} has ${bytes} bytes`, bytes > LARGEST_COOKIE && tooLarge)
  const insecure = isHttps
    ? "It is sent over http, too, where anybody on the way can read it: set cookie.secure to 'auto' or true, and tell the app of a proxy that ends TLS by trust proxy."
    : "Over http anybody on the way can read it: use https in production, and cookie.secure 'auto' or true."
  add('cookie', isSecure ? 'Secure' : 'not Secure', !isSecure && insecure)
  const isHttpOnly = attributes.has('httponly')
  add(
    'cookie',
    isHttpOnly ? 'HttpOnly' : 'not HttpOnly',
    !isHttpOnly && 'Scripts can read it: leave cookie.httpOnly true.',
  )
  const lax = "set cookie.sameSite to 'lax'."
  const sameSite = isNone
    ? isSecure
      ? `Other sites can have it sent: guard against forged requests (CSRF), or ${lax}`
      : 'Browsers refuse SameSite=None without Secure: set cookie.secure.'
    : !attributes.has('samesite') && `Browsers differ in what they make of that: ${lax}`
  add('cookie', attributes.has('samesite') ? `SameSite=${attributes.get('samesite')}` : 'no SameSite', sameSite)
  add('cookie', `Path=${path}`, path !== '/' && `Pages outside of ${path} have no session: leave cookie.path '/'.`)
  const domain = attributes.get('domain')
  const wide = `All hosts below ${domain} get it, and can set one like it: leave out cookie.domain, unless they share the login.`
  if (domain !== undefined) add('cookie', `Domain=${domain}`, wide)
}

/** Looks whether the session that was begun lies in this store, as it would be looked for, and ends it. */
async function examineBegun({ pair }: SentCookie, opened: OpenedStore, secrets: Secrets, add: Add): Promise<void> {
  const { key, isSigned } = parseGiven(pair, secrets)
  const bad =
    'The app has another secret, of which SESSION_SECRET is none: processes that differ in it log each other out.'
  if (isSigned !== undefined) add('secret', 'the cookie was checked with SESSION_SECRET', !isSigned && bad)
  const sessions = new StoredSessions(opened.store, secrets)
  const begun = await sessions.find(key)
  if (!begun) {
    const why =
      'It is not there: the app has another store, prefix or table, or hashes IDs otherwise than SESSILE_HASH_IDS says.'
    return add('session', `the one that the app has begun is looked for at ${opened.name}`, why)
  }
  const bytes = size(Buffer.byteLength(begun.record.text))
  add(
    'session',
    `the one that the app has begun is there: ${bytes}, ends ${fromNow(begun.record.expires)}`,
    begun.unreadable,
  )
  await sessions.end(begun)
}

function parse(line: string): SentCookie {
  const [pair = '', ...rest] = line.split(';').map((part) => part.trim())
  const attributes = rest.map((part): [string, string] => {
    const [name = '', ...value] = part.split('=')
    return [name.toLowerCase(), value.join('=')]
  })
  return {
    name: pair.slice(0, pair.indexOf('=')),
    pair,
    size: Buffer.byteLength(line),
    attributes: new Map(attributes),
  }
}
