import { randomBytes } from 'node:crypto'
import { Envelope } from '../features/sealing/envelope'
import type { OpenedStore } from './open-store'
import type { Secrets } from './sessions'

/** What was looked at: `problem` says what is wrong and what to do; without it, all is well. */
export interface Finding {
  readonly about: string
  readonly what: string
  readonly problem?: string
}

/** In ms: more is noticed by users, or ends sessions at the wrong time. */
const SLOW = 50
const CLOCK_DIFFERENCE = 2000
const MINUTE = 60_000
/** Browsers keep cookies up to this size, name and attributes included. */
const LARGEST_COOKIE = 4096

export async function examineStore(opened: OpenedStore): Promise<Finding[]> {
  const { store } = opened
  const findings: Finding[] = []
  const add = (about: string, what: string, problem?: string): void =>
    void findings.push({ about, what, ...(problem !== undefined && { problem }) })

  add('store', `${opened.name}, ${(await opened.version?.()) ?? 'a file'}`)
  for (const finding of (await store.check?.()) ?? []) add('store', 'its own check', finding)

  const id = `doctor-${randomBytes(16).toString('base64url')}`
  const text = JSON.stringify({ cookie: { originalMaxAge: MINUTE, path: '/' } })
  const version = await store.write(id, text, Date.now() + MINUTE, 'absent')
  const read = await store.read(id)
  const refused = await store.write(id, text, Date.now() + MINUTE, 'absent')
  const removed = version !== null && (await store.remove(id))
  const isGood = read !== null && refused === null && removed
  add(
    'store',
    'a session was written, read, and removed again',
    isGood
      ? undefined
      : 'The store does not keep its contract: is there a replica, or a proxy that answers from a cache?',
  )

  const times: number[] = []
  for (let n = 0; n < 20; n++) {
    const began = performance.now()
    await store.read(id)
    times.push(performance.now() - began)
  }
  times.sort((a, b) => a - b)
  const [median, longest] = [times[10] as number, times[19] as number]
  add(
    'latency',
    `${median.toFixed(1)} ms for a read (median of 20; the longest took ${longest.toFixed(1)} ms)`,
    median > SLOW ? `Each request waits for more than ${SLOW} ms: is the store in another region?` : undefined,
  )

  if (opened.clock) {
    const began = Date.now()
    const clock = await opened.clock()
    const difference = Math.round(clock - (began + Date.now()) / 2)
    add(
      'clocks',
      `the server's is ${Math.abs(difference)} ms ${difference < 0 ? 'behind' : 'ahead of'} this machine's`,
      Math.abs(difference) > CLOCK_DIFFERENCE
        ? 'Sessions end too early or too late: synchronise both by NTP.'
        : undefined,
    )
  }
  if (store.linked) {
    try {
      await store.linked('doctor')
      add('users', 'the index of users can be read')
    } catch (error) {
      add('users', 'the index of users', `It cannot be read, and the option user needs it: ${String(error)}`)
    }
  }
  return findings
}

export function examineSecrets(secrets: Secrets, env: NodeJS.ProcessEnv): Finding[] {
  const findings: Finding[] = []
  const { SESSION_SECRET: secret } = env
  if (secret !== undefined) {
    const bytes = Buffer.byteLength(secret)
    findings.push({
      about: 'secret',
      what: `SESSION_SECRET has ${bytes} bytes`,
      ...(bytes < 32 && {
        problem:
          'A short one can be guessed: make one of 32 random bytes, and keep the old one second in the list for a while.',
      }),
    })
  }
  if (secrets.encryption) {
    const what = `SESSILE_ENCRYPTION has ${secrets.encryption.length} key(s)`
    try {
      new Envelope(secrets.encryption)
      findings.push({ about: 'encryption', what })
    } catch (error) {
      findings.push({ about: 'encryption', what, problem: (error as Error).message })
    }
  }
  if (typeof secrets.hashIds === 'object') {
    const bytes = Buffer.byteLength(String(secrets.hashIds.key))
    const problem = bytes < 32 ? { problem: 'A key of less than 32 bytes adds nothing to a plain hash.' } : {}
    findings.push({ about: 'hashing', what: `the key of SESSILE_HASH_IDS has ${bytes} bytes`, ...problem })
  }
  const [major = 0] = process.versions.node.split('.').map(Number)
  findings.push({
    about: 'versions',
    what: `Node ${process.versions.node}`,
    ...(major % 2 === 1 && { problem: 'Odd versions of Node get no long support: use an even one in production.' }),
  })
  return findings
}

interface SentCookie {
  readonly name: string
  readonly pair: string
  readonly size: number
  readonly attributes: Map<string, string>
}

/** Looks at what a URL of the running app sets, as a browser would see it. */
export async function examineUrl(url: string, cookieName: string | undefined): Promise<Finding[]> {
  const findings: Finding[] = []
  const add = (what: string, problem?: string): void =>
    void findings.push({ about: 'cookie', what, ...(problem !== undefined && { problem }) })
  const isHttps = url.startsWith('https:')
  const began = Date.now()
  const answer = await fetch(url, { redirect: 'manual' })
  const date = Date.parse(answer.headers.get('date') ?? '')
  if (!Number.isNaN(date) && Math.abs(date - began) > CLOCK_DIFFERENCE + 1000) {
    const seconds = Math.round((date - began) / 1000)
    findings.push({
      about: 'clocks',
      what: `the app's is ${seconds} s from this machine's`,
      problem: 'Synchronise both by NTP.',
    })
  }
  const cookies = answer.headers.getSetCookie().map(parse)
  const cookie = cookies.find(({ name, pair }) => (cookieName ? name === cookieName : /=s(:|%3A)/i.test(pair)))
  if (!cookie) {
    const hint = isHttps ? '' : ' A cookie with secure: true is not set over http.'
    add(
      `${url} answered ${answer.status} and set ${cookies.length} cookies`,
      `None of them is a session's. Give a URL that begins one, such as that of the login form; behind a proxy, look at trust proxy and X-Forwarded-Proto.${hint}`,
    )
    return findings
  }
  const { name, attributes, size } = cookie
  add(
    `${name} of ${size} bytes`,
    size > LARGEST_COOKIE ? `Browsers drop it: they keep ${LARGEST_COOKIE} bytes.` : undefined,
  )
  add(
    attributes.has('secure') ? 'Secure' : 'not Secure',
    attributes.has('secure')
      ? undefined
      : isHttps
        ? 'It is also sent over http, where anybody can read it. Set cookie.secure to true, or to auto with trust proxy: the app may not know that it is behind TLS.'
        : 'Over http it can be read by anybody on the way: use https in production, with cookie.secure.',
  )
  add(
    attributes.has('httponly') ? 'HttpOnly' : 'not HttpOnly',
    attributes.has('httponly') ? undefined : 'A script on the page can read it: set cookie.httpOnly to true.',
  )
  const sameSite = attributes.get('samesite')?.toLowerCase()
  const isNone = sameSite === 'none'
  add(
    `SameSite=${sameSite ?? '(none set)'}`,
    isNone && !attributes.has('secure')
      ? 'Browsers refuse SameSite=None without Secure.'
      : isNone
        ? "Forms of other sites are sent with it: protect them against CSRF, or set cookie.sameSite to 'lax'."
        : sameSite
          ? undefined
          : "Browsers differ in what they do then: set cookie.sameSite to 'lax'.",
  )
  const path = attributes.get('path') ?? '/'
  add(`Path=${path}`, path === '/' ? undefined : `Pages outside of ${path} have no session, and make none.`)
  if (/public|s-maxage/i.test(answer.headers.get('cache-control') ?? '')) {
    add(
      'Cache-Control is public',
      'A shared cache may give the cookie to others: set the option noStore, or Cache-Control: private.',
    )
  }
  await answer.body?.cancel()

  const again = await fetch(url, { redirect: 'manual', headers: { cookie: cookie.pair } })
  await again.body?.cancel()
  const next = again.headers
    .getSetCookie()
    .map(parse)
    .find((one) => one.name === name)
  const isAnother = next !== undefined && idOf(next.pair) !== idOf(cookie.pair)
  add(
    'a second request with the cookie',
    isAnother
      ? 'It got another session: is the store shared by all processes, and the secret the same? Does a proxy drop cookies?'
      : undefined,
  )
  return findings
}

function parse(line: string): SentCookie {
  const [pair = '', ...rest] = line.split(';').map((part) => part.trim())
  const attributes = rest.map((part): [string, string] => {
    const [name = '', ...value] = part.split('=')
    return [name.toLowerCase(), value.join('=')]
  })
  return { name: pair.slice(0, pair.indexOf('=')), pair, size: line.length, attributes: new Map(attributes) }
}

function idOf(pair: string): string {
  return decodeURIComponent(pair.slice(pair.indexOf('=') + 1)).split('.')[0] as string
}
