import type { KeyObject } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import type { Request } from 'express'
import cookie = require('cookie')
import type session = require('../index')
import {
  a,
  aBoolean,
  aFlag,
  aFunction,
  aName,
  anything,
  aString,
  demand,
  has,
  milliseconds,
  oneOf,
  show,
  warnOfUnknown,
  type Check,
} from '../base/checks'
import { OptionError, warnOnce } from '../base/errors'
import type { Encryption } from '../features/sealing/envelope'
import { isRecordStore } from '../store/record-store'
import type { HashIds } from '../features/sealing/sealed-store'
import type { CookieOptions } from '../session/cookie-options'

/** What signs the cookie: anything that `crypto.createHmac` takes as a key. */
export type Secret = string | NodeJS.ArrayBufferView | ArrayBuffer | KeyObject

/** Carries the session ID in place of the cookie, for example in a header. Nothing is signed or set besides it. */
export interface Transport {
  /** The ID that the request presents, if any. */
  read(req: Request): string | null | undefined
  /** Gives the ID to the client; called before the headers leave, whenever a cookie would be set. */
  write(req: Request, res: ServerResponse, id: string): void
}

export interface SessionOptions {
  /**
   * The secret that signs the cookie, or a list: the first signs, all verify, and a cookie signed by a later one is
   * sent anew. Required, unless cookie-parser sets `req.secret` (deprecated) or `transport` replaces the cookie: without
   * it every request fails.
   */
  secret?: Secret | Secret[] | undefined
  /** The name of the cookie. Default: `'connect.sid'`. */
  name?: string | undefined
  /** An older name of the option `name`, which comes first if both are given. */
  key?: string | undefined
  /** The cookie's settings, or a function of the request. Default: `{ path: '/', httpOnly: true }`. */
  cookie?: session.CookieOptions | ((req: Request) => session.CookieOptions) | undefined
  /**
   * Makes a new session ID, or a promise of one; it has to be unique, and unguessable (OWASP: at least 64 bits of entropy).
   * Default: 24 random bytes from `uid-safe`.
   */
  genid?: ((req: Request) => string | PromiseLike<string>) | undefined
  /** Whether to trust the header `X-Forwarded-Proto`. Default: Express's setting `trust proxy` decides. */
  proxy?: boolean | undefined
  /** Also saves sessions that did not change. Default: `true`, deprecated; use `false`. */
  resave?: boolean | undefined
  /** Sends the cookie on every response, so that its expiry moves in the browser too. Default: `false`. */
  rolling?: boolean | undefined
  /** Also saves new sessions that nothing was put into. Default: `true`, deprecated; use `false`. */
  saveUninitialized?: boolean | undefined
  /** Where sessions are kept. Default: a new `MemoryStore`. */
  store?: session.Store | undefined
  /**
   * What happens to the stored session when a handler deletes `req.session` or sets it to `null`. `'keep'`: it stays,
   * without the changes of this request. Default: `'keep'`.
   */
  unset?: 'destroy' | 'keep' | undefined

  /** The property of the request that holds the session; the ID and the store go to this name + `ID` and + `Store`. Default: `'session'`. */
  property?: string | undefined
  /** Requests for which this returns true get no session. Default: none. */
  skip?: ((req: Request) => boolean) | undefined
  /** Carries the ID in place of the cookie. Default: the cookie. */
  transport?: Transport | undefined
  /**
   * What the client gets when the session cannot be saved at the end of a response. `'respond'`: the response; the
   * error goes to `next`. `'error'`: what the error handler sends; the headers wait for the save, so that
   * `res.headersSent` is false until then. `'disconnect'`: nothing, the connection is cut. Default: `'respond'`.
   */
  onSaveError?: 'respond' | 'error' | 'disconnect' | undefined
  /**
   * What a request gets when its session cannot be loaded. `'error'`: the store's error through `next`. `'skip'`: no
   * `req.session`. Default: `'error'`.
   */
  onLoadError?: 'error' | 'skip' | undefined
  /**
   * What a request gets when the stored record is not a session. `'error'`: an error through `next`, with the code
   * `ERR_SESSION_INVALID_RECORD` or `ERR_SESSION_SEALED`. `'replace'`: a new session. Default: `'error'`.
   */
  onInvalidRecord?: 'error' | 'replace' | undefined
  /**
   * What happens when two requests change one session at the same time, on a record store. `'merge'`: both changes are
   * kept, key by key. `'overwrite'`: the later one wins, as in express-session. Default: `'merge'`.
   */
  conflict?: 'merge' | 'overwrite' | undefined
  /** Renews the expiry of an unchanged session in the store at most once per this many ms. Default: 0, on every request. */
  touchAfter?: number | undefined
  /** How many ms to wait for each answer of the store, before `ERR_SESSION_STORE_TIMEOUT`. Default: 0, without limit. */
  timeout?: number | undefined

  /**
   * Ends a session that has had no request for this many ms (up to 5 % longer, so that not every request has to write).
   * Default: 0, never.
   */
  idleTimeout?: number | undefined
  /** Ends a session this many ms after it was created, however busy it is. Default: 0, never. */
  absoluteTimeout?: number | undefined
  /** Gives a session a new ID every this many ms. Needs a record store. Default: 0, never. */
  renewalTimeout?: number | undefined
  /** How many ms after a renewal requests already under way may still use the old ID. Default: 10,000. */
  renewalGrace?: number | undefined
  /**
   * What happens when a replaced ID is used after its grace period, which may mean that it was stolen. `'ignore'`: the
   * event `staleId`, and a new session. `'destroy'`: also, the session that now has the newer ID is destroyed. Default:
   * `'ignore'`.
   */
  onStaleId?: 'ignore' | 'destroy' | undefined
  /**
   * Stores sessions under a hash of their IDs, so that a leaked database contains no cookie. `key` makes it an HMAC;
   * `migrate` also finds sessions that are still stored under their plain IDs, and moves them. Needs a record store.
   * Default: `false`.
   */
  hashIds?: HashIds | undefined
  /**
   * Encrypts what is stored (AES-256-GCM): a key of 32 bytes, or a list, of which the first encrypts and all decrypt. Needs
   * a record store. Default: none.
   */
  encryption?: Encryption | undefined
  /**
   * Returns the ID of the user that the session belongs to, or `undefined` for nobody: for lists of a user's sessions,
   * "log out everywhere" and `maxSessionsPerUser`. Called whenever a session is stored. Needs a record store. Default:
   * nobody.
   */
  user?: ((session: session.Session & Partial<session.SessionData>) => string | number | null | undefined) | undefined
  /** What to record of the request that logged a user in, such as address and user agent. Default: nothing. */
  describe?: ((req: Request) => unknown) | undefined
  /** How many sessions a user may have at once. Default: 0, any number. */
  maxSessionsPerUser?: number | undefined
  /**
   * What happens beyond `maxSessionsPerUser`: the oldest session ends, or the new one is refused: its `save` fails with
   * `ERR_SESSION_LIMIT`. Default: `'endOldest'`.
   */
  onSessionLimit?: 'endOldest' | 'refuse' | undefined
  /** Warns once of each common mistake. Default: `true`, but `false` when `NODE_ENV` is `production`. */
  hints?: boolean | undefined
  /** Removes the cookie of a destroyed session from the browser. Default: `false`; in the short form `true`. */
  clearCookie?: boolean | undefined
  /** Sends `Cache-Control: no-store` with every session cookie, so that no cache keeps it. Default: `false`. */
  noStore?: boolean | undefined
}

/** The options, checked, with the defaults filled in; one that has no default is `undefined`. */
export type ResolvedOptions = {
  readonly [Name in Exclude<keyof SessionOptions, 'secret' | 'key' | Optional>]: NonNullable<SessionOptions[Name]>
} & Readonly<Pick<SessionOptions, Optional>> & { readonly secrets: readonly Secret[] | undefined }

type Optional = 'genid' | 'proxy' | 'store' | 'skip' | 'transport' | 'hashIds' | 'encryption' | 'user' | 'describe'

/** In ms. Node fires longer timers after 1 ms, so a longer timeout counts as none. */
const LONGEST_TIMER = 2 ** 31 - 1

/** To express-session, a falsy option is one that is not given. `NaN` is checked nevertheless: it is always a mistake. */
const given =
  (check: Check): Check =>
  (value, option) =>
    value || Number.isNaN(value) ? check(value, option) : undefined

const CHECKS: Record<keyof SessionOptions, Check> = {
  secret: anything,
  name: given(aString),
  key: given(aString),
  cookie: given(
    a('an object of cookie settings, or a function of the request', (value) =>
      ['object', 'function'].includes(typeof value),
    ),
  ),
  genid: anything,
  proxy: given((value, option) => {
    const ignored = `${show(value)} is ignored`
    if (value !== true) warnOnce('SESSION_OPTION', `${option} must be true or false; ${ignored}`, option)
    return undefined
  }),
  resave: aFlag,
  rolling: aFlag,
  saveUninitialized: aFlag,
  store: given(aStore),
  unset: anything,
  property: aName,
  skip: aFunction,
  transport: a('an object with the functions read and write', (value) => has(value, 'read', 'write')),
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
  hashIds: anything,
  encryption: anything,
  user: aFunction,
  describe: aFunction,
  maxSessionsPerUser: a('a whole number, not below 0', (value) => Number.isInteger(value) && (value as number) >= 0),
  onSessionLimit: oneOf('endOldest', 'refuse'),
  hints: aBoolean,
  clearCookie: aBoolean,
  noStore: aBoolean,
}

const HASH_IDS_CHECKS: Record<keyof Exclude<HashIds, boolean>, Check> = { key: anything, migrate: anything }

const COOKIE_CHECKS: Record<keyof CookieOptions, Check> = {
  maxAge: given(a('a number of ms that leads to a date', (value) => value instanceof Date || isInReach(value))),
  expires: given(a('a Date', (value) => value instanceof Date || typeof value === 'number')),
  path: given(a("a string that begins with '/'", (value) => typeof value === 'string' && value.startsWith('/'))),
  domain: given(aString),
  httpOnly: aFlag,
  secure: (value, option) => (value === 'auto' ? undefined : aFlag(value, option)),
  sameSite: given(
    a('true, false, "lax", "strict", "none" or "auto"', (value) =>
      [true, 'lax', 'strict', 'none', 'auto'].includes(
        typeof value === 'string' ? value.toLowerCase() : (value as boolean),
      ),
    ),
  ),
  partitioned: aFlag,
  priority: given(
    a('"low", "medium" or "high"', (value) => ['low', 'medium', 'high'].includes(String(value).toLowerCase())),
  ),
  signed: anything,
  encode: anything,
}

/** What `session()` is called with. */
export type Given = readonly [options?: SessionOptions | Secret | Secret[] | undefined]

/**
 * Checks the options and fills in the defaults. A secret, or a list of them, alone stands for the recommended
 * options with it.
 * @throws OptionError that names the option which cannot be used
 */
export function resolveOptions(given: Given, deprecate: (message: string) => void): ResolvedOptions {
  const first = given[0] ?? {}
  if ((given.length > 0 && first !== given[0]) || (isSecret(first) && bytesOf(first) === 0)) {
    throw new OptionError(
      'session() was given a secret that is undefined or empty; is the environment variable set that it comes from?',
    )
  }
  const options: SessionOptions = isSecret(first) || Array.isArray(first) ? recommended(first) : first
  if (typeof options !== 'object') {
    throw new OptionError('session() takes a secret, a list of secrets, or an object of options')
  }
  check(options, CHECKS)
  const { genid, unset, resave, saveUninitialized, hashIds } = options
  if ('encryption' in options && (options.encryption ?? undefined) === undefined) {
    throw new OptionError(
      'encryption option is undefined, and nothing would be encrypted; leave it out if that is meant',
    )
  }
  if (typeof hashIds === 'object') check(hashIds, HASH_IDS_CHECKS, 'hashIds.')
  if (genid && typeof genid !== 'function') throw new OptionError('genid option must be a function')
  if (resave === undefined) deprecate('undefined resave option; provide resave option')
  if (saveUninitialized === undefined) {
    deprecate('undefined saveUninitialized option; provide saveUninitialized option')
  }
  if (unset && unset !== 'destroy' && unset !== 'keep') {
    throw new OptionError('unset option must be "destroy" or "keep"')
  }
  for (const name of ['maxSessionsPerUser', 'onSessionLimit', 'describe'] as const) {
    if (options[name] && !options.user) {
      throw new OptionError(`${name} option needs the option user, which tells whose session it is`)
    }
  }
  const secrets = options.transport ? undefined : resolveSecrets(options.secret)
  if (!secrets && !options.transport) deprecate('req.secret; provide secret option')
  const name = options.name || options.key || 'connect.sid'
  const settings = options.cookie || {}
  checkName(name)
  if (typeof settings !== 'function') {
    checkCookie(name, settings)
    warnOfLateTouch(options.touchAfter, settings.maxAge)
  }

  return {
    secrets,
    name,
    cookie: settings,
    resave: resave === undefined || Boolean(resave),
    saveUninitialized: saveUninitialized === undefined || Boolean(saveUninitialized),
    rolling: Boolean(options.rolling),
    unset: unset || 'keep',
    genid: genid || undefined,
    proxy: typeof options.proxy === 'boolean' ? options.proxy : undefined,
    store: options.store || undefined,
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
    hashIds: hashIds ?? undefined,
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
function recommended(secret: Secret | Secret[]): SessionOptions {
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
    throw new OptionError('secret option array must contain one or more strings')
  }
  const secrets = Array.isArray(secret) ? secret : secret ? [secret] : undefined
  for (const each of secrets ?? []) {
    if (!isSecret(each) || bytesOf(each) === 0) {
      throw new OptionError(
        'secret option must be a string, a Buffer, a KeyObject, or a list of these, none of them empty',
      )
    }
    warnOfWeak(each)
  }
  return secrets
}

/** Secrets from tutorials, which are in every list of guesses. */
const WELL_KNOWN =
  /^(keyboard ?cat|secret|your[-_ ]?secret.*|change ?(me|it)|shh+.*|my[-_ ]?secret.*|session[-_ ]?secret|a secret|mysecretkey|set session_secret.*|undefined|null)$/i

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

function check(options: object, checks: Record<string, Check>, prefix = ''): void {
  const inCookie = (name: string): string | undefined =>
    checks === CHECKS && Object.hasOwn(COOKIE_CHECKS, name) ? `cookie.${name}` : undefined
  warnOfUnknown(options, checks, 'session()', prefix, inCookie)
  for (const [name, test] of Object.entries(checks)) {
    demand((options as Record<string, unknown>)[name], test, `${prefix}${name} option`)
  }
}

function checkName(name: string): void {
  if (canSet(name, {})) return
  throw new OptionError(`name option has a character that cookies cannot have; it is ${show(name)}`)
}

/** What the `cookie` package, or the browser by RFC 6265bis, section 4.1.3, would refuse at the first response. */
function checkCookie(name: string, settings: CookieOptions): void {
  check(settings, COOKIE_CHECKS, 'cookie.')
  const { domain, secure, httpOnly } = settings
  const path = settings.path || '/'
  if (!canSet(name, { path })) {
    throw new OptionError(`cookie.path option has a character that cookies cannot have; it is ${show(path)}`)
  }
  if (domain && !canSet(name, { domain })) {
    throw new OptionError(
      `cookie.domain option must be a domain such as "example.com", without scheme and port; it is ${show(domain)}`,
    )
  }
  if (settings.expires instanceof Date && Number.isNaN(settings.expires.getTime())) {
    warnOnce('SESSION_COOKIE', 'cookie.expires option is an invalid Date; no cookie can be set with it', 'expires')
  }
  if (String(settings.sameSite).toLowerCase() === 'none' && !secure) warnOfInsecure("sameSite option 'none'")
  if (settings.partitioned && !secure) warnOfInsecure('partitioned option')
  if (/^__(host|secure)-/i.test(name) && !secure) {
    throw new OptionError(`a cookie named ${name} needs the option cookie.secure: browsers refuse it otherwise`)
  }
  if (/^__host-/i.test(name) && (domain || path !== '/')) {
    throw new OptionError(
      `a cookie named ${name} must have the cookie.path '/' and no cookie.domain: otherwise browsers refuse it`,
    )
  }
  if (/^__host-http-|^__http-/i.test(name) && httpOnly === false) {
    throw new OptionError(`a cookie named ${name} needs the option cookie.httpOnly: browsers refuse it otherwise`)
  }
}

function warnOfInsecure(setting: string): void {
  warnOnce('SESSION_COOKIE', `cookie.${setting} without cookie.secure: browsers refuse such a cookie`, setting)
}

function canSet(name: string, settings: { path?: string; domain?: string }): boolean {
  try {
    return cookie.serialize(name, 'id', settings) !== ''
  } catch {
    return false
  }
}

/** `touchAfter: Infinity` is deliberate: sessions then end some time after their last change. */
function warnOfLateTouch(touchAfter: number | undefined, maxAge: number | undefined): void {
  if (!touchAfter || !maxAge || touchAfter < maxAge || touchAfter === Infinity) return
  warnOnce(
    'SESSION_OPTION',
    'touchAfter option is not below cookie.maxAge: sessions end in the middle of their use, before they are renewed',
    'touchAfter',
  )
}

function isInReach(maxAge: unknown): boolean {
  return typeof maxAge === 'number' && !Number.isNaN(new Date(Date.now() + maxAge).getTime())
}

function aStore(value: unknown): string | undefined {
  if (has(value, 'sendCommand') && !has(value, 'createSession')) {
    return 'a session store, such as new RedisStore({ client }), and not the client itself'
  }
  if (!has(value, 'get', 'set', 'destroy', 'on')) {
    return 'a session store, with the methods get, set and destroy, and the events of an EventEmitter'
  }
  const missing = ['read', 'write', 'renew', 'remove', 'scan'].find((method) => !has(value, method))
  return missing && isRecordStore(value as object)
    ? `a store with all methods of RecordStore, ${missing} too`
    : undefined
}
