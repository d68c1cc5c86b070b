import type { KeyObject } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import type { Request } from 'express'
import cookie = require('cookie')
import type session = require('./index')
import { warnOnce } from './errors'
import type { Encryption } from './envelope'
import type { HashIds } from './sealed-store'

/** The settings of the session cookie. */
export interface CookieOptions {
  /** Lifetime in ms, renewed by every request. Default: none, the cookie ends with the browser. */
  maxAge?: number | undefined
  /** When the cookie ends. Use `maxAge`. */
  expires?: Date | null | undefined
  /** The path below which the browser sends the cookie and the middleware works. Default: `'/'`. */
  path?: string | undefined
  /** The domain the browser sends the cookie to. Default: the host that set it, and no other. */
  domain?: string | undefined
  /** Keeps the cookie from scripts in the page. Default: `true`. */
  httpOnly?: boolean | undefined
  /** Sends the cookie over HTTPS only; `'auto'`: when this connection is secure. Default: `false`. */
  secure?: boolean | 'auto' | undefined
  /**
   * Whether the cookie comes along from other sites; `true` is `'strict'`; `'auto'`: `'none'` on a secure connection,
   * else `'lax'`. Default: the browser's.
   */
  sameSite?: boolean | 'lax' | 'strict' | 'none' | 'auto' | undefined
  /** Keeps a cookie of an embedded site apart for each embedding site (CHIPS). Default: `false`. */
  partitioned?: boolean | undefined
  /** How readily the browser keeps the cookie when it has too many. Default: the browser's. */
  priority?: 'low' | 'medium' | 'high' | undefined
  /** Taken for the sake of older types; session cookies are always signed. */
  signed?: boolean | undefined
  /** Taken for the sake of older types; has no effect. */
  encode?: ((value: string) => string) | undefined
}

/** What signs the cookie: anything that `crypto.createHmac` takes as a key. */
export type Secret = string | NodeJS.ArrayBufferView | ArrayBuffer | KeyObject

/** Carries the session ID in place of the cookie, for example in a header. Nothing is signed or set besides it. */
export interface Transport {
  /** The ID that the request brings, if any. */
  read(req: Request): string | null | undefined
  /** Gives the ID to the client; called before the headers leave, whenever a cookie would be set. */
  write(req: Request, res: ServerResponse, id: string): void
}

export interface SessionOptions {
  /**
   * The secret that signs the cookie, or a list: the first signs, all verify, and a cookie signed by a later one is
   * sent anew. Default: `req.secret`, deprecated.
   */
  secret?: Secret | Secret[] | undefined
  /** The name of the cookie. Default: `'connect.sid'`. */
  name?: string | undefined
  /** An older name of `name`. */
  key?: string | undefined
  /** The cookie's settings, or a function of the request. Default: `{ path: '/', httpOnly: true }`. */
  cookie?: CookieOptions | ((req: Request) => CookieOptions) | undefined
  /** Makes a new ID, or a promise of one. Default: 24 random bytes from `uid-safe`. */
  genid?: ((req: Request) => string | PromiseLike<string>) | undefined
  /** Whether `X-Forwarded-Proto` is trusted. Default: Express's `trust proxy` decides. */
  proxy?: boolean | undefined
  /** Saves sessions that did not change. Default: `true`, deprecated; use `false`. */
  resave?: boolean | undefined
  /** Sends the cookie on every response, so that its expiry moves in the browser too. Default: `false`. */
  rolling?: boolean | undefined
  /** Saves new sessions that nothing was put into. Default: `true`, deprecated; use `false`. */
  saveUninitialized?: boolean | undefined
  /** Where sessions are kept. Default: a new `MemoryStore`. */
  store?: session.Store | undefined
  /** What happens to the stored session when a handler unsets `req.session`. Default: `'keep'`. */
  unset?: 'destroy' | 'keep' | undefined

  /** The property of the request that holds the session; the ID and the store go to this name + `ID` and + `Store`. Default: `'session'`. */
  property?: string | undefined
  /** Requests for which this returns true get no session. */
  skip?: ((req: Request) => boolean) | undefined
  /** Carries the ID in place of a cookie. */
  transport?: Transport | undefined
  /**
   * What the client gets when the session cannot be saved at the end of a response. `'respond'`: the response; the
   * error goes to `next`. `'error'`: what the error handler sends; the headers wait for the save, so that
   * `res.headersSent` is false until then. `'disconnect'`: nothing, the connection is cut. Default: `'respond'`.
   */
  onSaveError?: 'respond' | 'error' | 'disconnect' | undefined
  /** What a request gets whose session cannot be loaded: an error through `next`, or no session. Default: `'error'`. */
  onLoadError?: 'error' | 'skip' | undefined
  /** What a request gets whose stored session is none: an error through `next`, or a new session. Default: `'error'`. */
  onInvalidRecord?: 'error' | 'replace' | undefined
  /**
   * What happens when two requests change one session at the same time, on a record store. `'merge'`: both changes are
   * kept, key by key. `'overwrite'`: the later one is, as in express-session. Default: `'merge'`.
   */
  conflict?: 'merge' | 'overwrite' | undefined
  /** The expiry of an unchanged session is renewed in the store at most once in so many ms. Default: 0, on every request. */
  touchAfter?: number | undefined
  /** How many ms a request waits for an answer of the store. Default: 0, without end. */
  timeout?: number | undefined

  /**
   * A session ends when it brings no request for so many ms (up to a twentieth more, so that not every request has to
   * write). Default: 0, never.
   */
  idleTimeout?: number | undefined
  /** A session ends so many ms after it was made, however busy it is. Default: 0, never. */
  absoluteTimeout?: number | undefined
  /** A session gets a new ID every so many ms. Needs a record store. Default: 0, never. */
  renewalTimeout?: number | undefined
  /** For how many ms after a renewal requests that were under way may use the old ID. Default: 10,000. */
  renewalGrace?: number | undefined
  /**
   * What happens when an ID comes back after its grace period, which may mean that it was stolen: nothing but the event
   * `staleId` and a new session, or the session that goes on under the newer ID is destroyed, too. Default: `'ignore'`.
   */
  onStaleId?: 'ignore' | 'destroy' | undefined
  /**
   * Stores sessions under a hash of their IDs, so that a leaked database gives nobody a cookie. `key` makes it an HMAC;
   * `migrate` still finds sessions stored under plain IDs, once. Needs a record store. Default: `false`.
   */
  hashIds?: HashIds | undefined
  /** Encrypts what is stored (AES-256-GCM): a key of 32 bytes, or a list of which the first encrypts. Needs a record store. */
  encryption?: Encryption | undefined
  /**
   * Whose session it is, `undefined` for nobody's: for lists of a user's sessions, "log out everywhere" and
   * `maxSessionsPerUser`. Asked whenever a session is stored. Needs a record store. Default: nobody's.
   */
  user?: ((session: session.Session & Partial<session.SessionData>) => string | number | null | undefined) | undefined
  /** What to record of the request by which a session became a user's, such as address and user agent. Default: nothing. */
  describe?: ((req: Request) => unknown) | undefined
  /** How many sessions a user may have. Default: 0, any number. */
  maxSessionsPerUser?: number | undefined
  /**
   * What happens to one more: the oldest ends, or the new one is refused: its `save` fails with `ERR_SESSION_LIMIT`.
   * Default: `'endOldest'`.
   */
  onSessionLimit?: 'endOldest' | 'refuse' | undefined
  /** Warns once of each common mistake, as far as it can be seen from here. Default: unless `NODE_ENV` is `production`. */
  hints?: boolean | undefined
  /** Has the browser forget the cookie when its session was destroyed. Default: `false`; in the short form `true`. */
  clearCookie?: boolean | undefined
  /** Sends `Cache-Control: no-store` with every session cookie, so that no cache keeps it. Default: `false`. */
  noStore?: boolean | undefined
}

/** The options, checked and completed; where one has no default it is left out. */
export type ResolvedOptions = {
  readonly [Name in Exclude<keyof SessionOptions, 'secret' | 'key' | Optional>]: NonNullable<SessionOptions[Name]>
} & Readonly<Pick<SessionOptions, Optional>> & { readonly secrets: readonly Secret[] | undefined }

type Optional = 'genid' | 'proxy' | 'store' | 'skip' | 'transport' | 'hashIds' | 'encryption' | 'user' | 'describe'

type Check = (value: unknown) => string | undefined

const a =
  (what: string, test: (value: unknown) => boolean): Check =>
  (value) =>
    test(value) ? undefined : what

const aBoolean = a('true or false', (value) => typeof value === 'boolean')
const aFunction = a('a function', (value) => typeof value === 'function')
/** Node takes longer timers for ones of 1 ms: what is to wait for longer, waits for ever. */
const LONGEST_TIMER = 2 ** 31 - 1

const milliseconds = a('a number of ms, not below 0', (value) => typeof value === 'number' && value >= 0)
const aString = a('a string that is not empty', (value) => typeof value === 'string' && value !== '')
const oneOf = (...choices: unknown[]): Check =>
  a(`one of ${choices.map((choice) => JSON.stringify(choice)).join(', ')}`, (value) => choices.includes(value))

const CHECKS: Record<keyof SessionOptions, Check> = {
  secret: () => undefined,
  name: aString,
  key: aString,
  cookie: a('an object of cookie settings, or a function of the request', (value) =>
    ['object', 'function'].includes(typeof value),
  ),
  genid: () => undefined,
  proxy: aBoolean,
  resave: aBoolean,
  rolling: aBoolean,
  saveUninitialized: aBoolean,
  store: a('a session store, with the methods get, set and destroy, and the events of an EventEmitter', isStore),
  unset: () => undefined,
  property: aString,
  skip: aFunction,
  transport: a('an object with the functions read and write', isTransport),
  onSaveError: oneOf('respond', 'error', 'disconnect'),
  onLoadError: oneOf('error', 'skip'),
  onInvalidRecord: oneOf('error', 'replace'),
  conflict: oneOf('merge', 'overwrite'),
  touchAfter: milliseconds,
  timeout: milliseconds,
  idleTimeout: milliseconds,
  absoluteTimeout: milliseconds,
  renewalTimeout: milliseconds,
  renewalGrace: milliseconds,
  onStaleId: oneOf('ignore', 'destroy'),
  hashIds: () => undefined,
  encryption: () => undefined,
  user: aFunction,
  describe: aFunction,
  maxSessionsPerUser: a('a whole number, not below 0', (value) => Number.isInteger(value) && (value as number) >= 0),
  onSessionLimit: oneOf('endOldest', 'refuse'),
  hints: aBoolean,
  clearCookie: aBoolean,
  noStore: aBoolean,
}

const COOKIE_CHECKS: Record<keyof CookieOptions, Check> = {
  maxAge: a('a number of ms', (value) => typeof value === 'number' || value instanceof Date),
  expires: () => undefined,
  path: a('a string', (value) => typeof value === 'string'),
  domain: a('a string', (value) => typeof value === 'string'),
  httpOnly: aBoolean,
  secure: oneOf(true, false, 'auto'),
  sameSite: a('true, false, "lax", "strict", "none" or "auto"', (value) =>
    [true, false, 'lax', 'strict', 'none', 'auto'].includes(
      typeof value === 'string' ? value.toLowerCase() : (value as boolean),
    ),
  ),
  partitioned: aBoolean,
  priority: a('"low", "medium" or "high"', (value) => ['low', 'medium', 'high'].includes(String(value).toLowerCase())),
  signed: () => undefined,
  encode: () => undefined,
}

/** What `session()` is called with. */
export type Given = readonly [options?: SessionOptions | Secret | undefined]

/**
 * Checks the options and fills in the defaults. A secret alone stands for the recommended options with that secret.
 * @throws TypeError that names the option which cannot be used
 */
export function resolveOptions(given: Given, deprecate: (message: string) => void): ResolvedOptions {
  const first = given[0] ?? {}
  if ((given.length > 0 && first !== given[0]) || (isSecret(first) && bytesOf(first) === 0)) {
    throw new TypeError(
      'session() was given a secret that is undefined or empty; is the environment variable set that it comes from?',
    )
  }
  const options: SessionOptions = isSecret(first) ? recommended(first) : first
  if (typeof options !== 'object') throw new TypeError('session() takes a secret or an object of options')
  check(options, CHECKS, '')
  const { genid, unset, resave, saveUninitialized } = options
  if ('encryption' in options && (options.encryption ?? undefined) === undefined) {
    throw new TypeError('encryption option is undefined, and nothing would be encrypted; leave it out if that is meant')
  }
  if (genid && typeof genid !== 'function') throw new TypeError('genid option must be a function')
  if (resave === undefined) deprecate('undefined resave option; provide resave option')
  if (saveUninitialized === undefined) {
    deprecate('undefined saveUninitialized option; provide saveUninitialized option')
  }
  if (unset && unset !== 'destroy' && unset !== 'keep') {
    throw new TypeError('unset option must be "destroy" or "keep"')
  }
  const secrets = options.transport ? undefined : resolveSecrets(options.secret)
  if (!secrets && !options.transport) deprecate('req.secret; provide secret option')
  const name = options.name || options.key || 'connect.sid'
  const settings = options.cookie ?? {}
  if (typeof settings !== 'function') checkCookie(name, settings)

  return {
    secrets,
    name,
    cookie: settings,
    resave: resave ?? true,
    saveUninitialized: saveUninitialized ?? true,
    rolling: options.rolling ?? false,
    unset: unset || 'keep',
    genid: genid || undefined,
    proxy: options.proxy ?? undefined,
    store: options.store ?? undefined,
    property: options.property ?? 'session',
    skip: options.skip ?? undefined,
    transport: options.transport ?? undefined,
    onSaveError: options.onSaveError ?? 'respond',
    onLoadError: options.onLoadError ?? 'error',
    onInvalidRecord: options.onInvalidRecord ?? 'error',
    conflict: options.conflict ?? 'merge',
    touchAfter: options.touchAfter ?? 0,
    timeout: (options.timeout ?? 0) > LONGEST_TIMER ? 0 : (options.timeout ?? 0),
    idleTimeout: options.idleTimeout ?? 0,
    absoluteTimeout: options.absoluteTimeout ?? 0,
    renewalTimeout: options.renewalTimeout ?? 0,
    renewalGrace: options.renewalGrace ?? 10_000,
    onStaleId: options.onStaleId ?? 'ignore',
    hashIds: options.hashIds ?? undefined,
    encryption: options.encryption ?? undefined,
    user: options.user ?? undefined,
    describe: options.describe ?? undefined,
    maxSessionsPerUser: options.maxSessionsPerUser ?? 0,
    onSessionLimit: options.onSessionLimit ?? 'endOldest',
    hints: options.hints ?? process.env['NODE_ENV'] !== 'production',
    clearCookie: options.clearCookie ?? false,
    noStore: options.noStore ?? false,
  }
}

/** What the short form stands for. */
function recommended(secret: Secret): SessionOptions {
  const options: SessionOptions = { secret, resave: false, saveUninitialized: false, clearCookie: true }
  const inProduction = process.env['NODE_ENV'] === 'production'
  return inProduction ? { ...options, cookie: { httpOnly: true, secure: 'auto', sameSite: 'lax' } } : options
}

function isSecret(value: unknown): value is Secret {
  return (
    typeof value === 'string' ||
    ArrayBuffer.isView(value) ||
    value instanceof ArrayBuffer ||
    (typeof value === 'object' && value !== null && (value as { type?: unknown }).type === 'secret')
  )
}

function resolveSecrets(secret: SessionOptions['secret']): readonly Secret[] | undefined {
  if (Array.isArray(secret) && secret.length === 0) {
    throw new TypeError('secret option array must contain one or more strings')
  }
  const secrets = Array.isArray(secret) ? secret : secret ? [secret] : undefined
  for (const each of secrets ?? []) {
    if (!isSecret(each) || each === '') {
      throw new TypeError(
        'secret option must be a string, a Buffer, a KeyObject, or a list of these, none of them empty',
      )
    }
    warnOfWeak(each)
  }
  return secrets
}

/** Secrets that stand in tutorials, and so in every list of guesses. */
const WELL_KNOWN =
  /^(keyboard ?cat|secret|your[-_ ]?secret.*|change ?(me|it)|shh+.*|my[-_ ]?secret.*|session[-_ ]?secret|a secret|mysecretkey)$/i

/** At least as long as the HMAC's output: RFC 2104, section 3; OWASP ASVS asks for 256 bits, too. */
const SECRET_BYTES = 32

function warnOfWeak(secret: Secret): void {
  if (typeof secret === 'string' && WELL_KNOWN.test(secret)) {
    warnOnce('SESSION_WEAK_SECRET', 'the secret option is a well-known example; make one: openssl rand -base64 32')
  } else if (bytesOf(secret) < SECRET_BYTES) {
    warnOnce(
      'SESSION_WEAK_SECRET',
      `the secret option is shorter than ${SECRET_BYTES} bytes and could be guessed; make one: openssl rand -base64 32`,
    )
  }
}

function bytesOf(secret: Secret): number {
  if (typeof secret === 'string') return Buffer.byteLength(secret)
  return 'byteLength' in secret ? secret.byteLength : (secret.symmetricKeySize ?? 0)
}

function check(options: object, checks: Record<string, Check>, prefix: string): void {
  for (const [name, value] of Object.entries(options)) {
    const test = Object.hasOwn(checks, name) ? checks[name] : undefined
    if (!test) warnUnknown(prefix + name, nearest(name, Object.keys(checks)), prefix)
    else if (value !== undefined && value !== null) {
      const wanted = test(value)
      if (wanted) throw new TypeError(`${prefix}${name} option must be ${wanted}; it is ${show(value)}`)
    }
  }
}

function show(value: unknown): string {
  return typeof value === 'string'
    ? JSON.stringify(value)
    : typeof value === 'number'
      ? String(value)
      : `a ${typeof value}`
}

function warnUnknown(name: string, meant: string | undefined, prefix: string): void {
  const hint = meant ? `; did you mean ${prefix}${meant}?` : ''
  warnOnce('SESSION_UNKNOWN_OPTION', `session() has no option ${name}${hint}`, `option ${name}`)
}

/** The name that differs in the fewest letters, if those are few. */
function nearest(name: string, names: string[]): string | undefined {
  const ranked = names.map((known) => ({ known, distance: distance(name.toLowerCase(), known.toLowerCase()) }))
  ranked.sort((a, b) => a.distance - b.distance)
  const best = ranked[0]
  return best && best.distance <= Math.max(2, name.length / 3) ? best.known : undefined
}

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    row = next
  }
  return row[b.length] as number
}

/** What the `cookie` package, or the browser by RFC 6265bis, section 4.1.3, would refuse at the first response. */
function checkCookie(name: string, settings: CookieOptions): void {
  check(settings, COOKIE_CHECKS, 'cookie.')
  const { domain, path = '/', secure, sameSite, httpOnly } = settings
  try {
    cookie.serialize(name, 'id', { path, ...(domain ? { domain } : {}) })
  } catch (error) {
    throw new TypeError(`the session cookie cannot be set: ${(error as Error).message}`, { cause: error })
  }
  if (settings.expires instanceof Date && Number.isNaN(settings.expires.getTime())) {
    warnOnce('SESSION_COOKIE', 'cookie.expires option is an invalid Date; no cookie can be set with it')
  }
  if (sameSite === 'none' && !secure) {
    warnOnce('SESSION_COOKIE', `cookie.sameSite option 'none' without cookie.secure: browsers refuse such a cookie`)
  }
  if (/^__(host|secure)-/i.test(name) && !secure) {
    throw new TypeError(`a cookie named ${name} needs the option cookie.secure: browsers refuse it without`)
  }
  if (/^__host-/i.test(name) && (domain || path !== '/')) {
    throw new TypeError(
      `a cookie named ${name} must have the cookie.path '/' and no cookie.domain: browsers refuse it else`,
    )
  }
  if (/^__host-http-|^__http-/i.test(name) && httpOnly === false) {
    throw new TypeError(`a cookie named ${name} needs the option cookie.httpOnly: browsers refuse it without`)
  }
}

function isStore(value: unknown): boolean {
  const store = value as Partial<Record<string, unknown>> | null
  return ['get', 'set', 'destroy', 'on'].every((method) => typeof store?.[method] === 'function')
}

function isTransport(value: unknown): boolean {
  const transport = value as Partial<Transport> | null
  return typeof transport?.read === 'function' && typeof transport.write === 'function'
}
