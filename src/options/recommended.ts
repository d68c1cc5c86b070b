import { OptionError } from '../base/errors'
import { isPromise } from '../base/maybe-promise'
import { show } from '../base/checks'
import type { CookieOptions } from '../session/cookie-options'
import type { FurtherOptions, SessionOptions } from './options'
import { bytesOf, isSecret, type Secret } from './secrets'

/** How long, in ms, a request waits for the store: far longer than a store takes, and less than a visitor or a proxy waits. */
export const STORE_TIMEOUT = 30_000

/** What `session()` is called with: anything, until `optionsOfCall` has looked at it. */
export type Given = readonly unknown[]

/**
 * The options that a call of `session()` means: those given alone, or after a secret the recommended ones with those given.
 * @throws OptionError when it is called with anything else
 */
export function optionsOfCall(given: Given): SessionOptions {
  if (given.length === 0) return {}
  const [first, further] = given as readonly [SessionOptions | Secret | Secret[], unknown?]
  if ((first ?? '') === '' || (isSecret(first) && bytesOf(first) === 0)) {
    throw new OptionError(
      'session() was given a secret that is undefined or empty; is the environment variable set that it comes from?',
    )
  }
  if (given.length > 2) {
    throw new OptionError(
      'session() takes a secret and an object of options, and nothing more; is it app.use(session) in place of app.use(session(secret))?',
    )
  }
  if (isSecret(first) || Array.isArray(first)) {
    return given.length === 1 ? recommended(first) : withRecommended(first, further)
  }
  if (typeof first !== 'object') {
    throw new OptionError('session() takes a secret, a list of secrets, or an object of options')
  }
  if (given.length === 1) return first
  throw new OptionError('session() takes options after a secret, and only there; put them all into one object')
}

/** What a secret alone stands for. */
function recommended(secret: Secret | Secret[]): SessionOptions & { cookie?: CookieOptions } {
  const options = { secret, resave: false, saveUninitialized: false, clearCookie: true, timeout: STORE_TIMEOUT }
  const inProduction = process.env['NODE_ENV'] === 'production'
  return inProduction ? { ...options, cookie: { httpOnly: true, secure: 'auto', sameSite: 'lax' } } : options
}

/** What is given wins; an option that is `undefined` is not given. */
function withRecommended(secret: Secret | Secret[], further: unknown): SessionOptions {
  if (typeof further !== 'object' || further === null || Array.isArray(further) || isSecret(further)) {
    throw new OptionError(`what follows the secret in session() must be an object of options; it is ${show(further)}`)
  }
  if ('secret' in further) throw new OptionError('session() was given two secrets: leave the option secret out')
  const { cookie: recommendedCookie, ...options } = recommended(secret)
  const { cookie } = further as FurtherOptions
  return {
    ...options,
    ...further,
    ...givenOf(options, further),
    cookie: cookie === undefined ? recommendedCookie : withCookie(recommendedCookie, cookie),
  }
}

/** Of some options, those that are given, else as they are. */
function givenOf<T extends object>(options: T, given: object): T {
  const entries = Object.entries(options) as [string, unknown][]
  return Object.fromEntries(
    entries.map(([name, value]) => [name, (given as Record<string, unknown>)[name] ?? value]),
  ) as T
}

function withCookie(
  recommendedCookie: CookieOptions | undefined,
  cookie: NonNullable<SessionOptions['cookie']>,
): NonNullable<SessionOptions['cookie']> {
  if (!recommendedCookie) return cookie
  if (typeof cookie !== 'function') return typeof cookie === 'object' ? { ...recommendedCookie, ...cookie } : cookie
  return (req) => {
    const settings = cookie(req)
    // A promise is refused by the middleware, and has to stay one for that.
    return isPromise(settings) ? settings : { ...recommendedCookie, ...settings }
  }
}
