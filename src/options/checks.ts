import {
  a,
  aBoolean,
  aFlag,
  aFunction,
  aName,
  anything,
  aString,
  demandEach,
  given,
  has,
  milliseconds,
  oneOf,
  show,
  type Check,
} from '../base/checks'
import { OptionError, warnOnce } from '../base/errors'
import type { HashIds } from '../features/sealing/sealed-store'
import { isRecordStore } from '../store/record-store'
import { checkCookie, checkName, COOKIE_CHECKS } from './cookie'
import type { SessionOptions } from './options'

const CHECKS: Record<keyof SessionOptions, Check> = {
  secret: anything,
  name: given(aString),
  key: given(aString),
  signName: aBoolean,
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
  transport: a('an object with the functions read and write, such as session.bearer()', (value) =>
    has(value, 'read', 'write'),
  ),
  onSaveError: oneOf('respond', 'error', 'disconnect'),
  onLoadError: oneOf('error', 'skip'),
  onInvalidRecord: oneOf('error', 'replace'),
  conflict: oneOf('merge', 'overwrite', 'error'),
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

/** @throws OptionError that names the option which cannot be used, or not together with another */
export function checkOptions(options: SessionOptions): void {
  demandEach(options, CHECKS, 'session()', '', (name) =>
    Object.hasOwn(COOKIE_CHECKS, name) ? `cookie.${name}` : undefined,
  )
  const { cookie, genid, hashIds, touchAfter, transport, unset } = options
  if ('encryption' in options && (options.encryption ?? undefined) === undefined) {
    throw new OptionError(
      'encryption option is undefined, and nothing would be encrypted; leave it out if that is meant',
    )
  }
  if (typeof hashIds === 'object') demandEach(hashIds, HASH_IDS_CHECKS, 'session()', 'hashIds.')
  // The words of these two are express-session's.
  if (genid && typeof genid !== 'function') throw new OptionError('genid option must be a function')
  if (unset && unset !== 'destroy' && unset !== 'keep') {
    throw new OptionError('unset option must be "destroy" or "keep"')
  }
  for (const name of ['maxSessionsPerUser', 'onSessionLimit', 'describe'] as const) {
    if (options[name] && !options.user) {
      throw new OptionError(`${name} option needs the option user, which tells whose session it is`)
    }
  }
  if (options.signName && transport) {
    throw new OptionError('signName option is for the cookie, which the option transport replaces')
  }
  const name = nameOf(options)
  checkName(name)
  if (typeof cookie === 'function') return
  checkCookie(name, cookie || {})
  warnOfLateTouch(touchAfter, cookie?.maxAge)
}

/** The name of the cookie. */
export function nameOf({ name, key }: SessionOptions): string {
  return name || key || 'connect.sid'
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
