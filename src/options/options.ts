import type { ServerResponse } from 'node:http'
import type { Request } from 'express'
import type { Encryption } from '../features/sealing/envelope'
import type { HashIds } from '../features/sealing/sealed-store'
import type { CookieOptions, SessionData, SessionOptions as Augmented } from '../session/augmented'
import type { Session } from '../session/session'
import type { Store } from '../store/store'
import type { Secret } from './secrets'

/** Carries the session ID in place of the cookie, for example in a header. Nothing is set besides it. */
export interface Transport {
  /**
   * Whether the client is given the ID with a signature, by the option `secret`, and is in a session only with both: one
   * that is not signed is as good as any guess. Default: `false`.
   */
  signed?: boolean | undefined
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
  /**
   * Makes the signature cover the cookie's name, so that a cookie counts under that name only, though another middleware
   * signs with the same secret. Cookies of express-session, whose signatures cover the ID alone, count no more then.
   * Default: `false`, express-session's format.
   */
  signName?: boolean | undefined
  /** An older name of the option `name`, which comes first if both are given. */
  key?: string | undefined
  /** The cookie's settings, or a function of the request. Default: `{ path: '/', httpOnly: true }`. */
  cookie?: CookieOptions | ((req: Request) => CookieOptions) | undefined
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
  store?: Store | undefined
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
   * What happens when two requests change one session at the same time, on a record store. Where neither looked at what the
   * other one wrote, both changes are kept: the session is as if one request had come after the other. Where one did,
   * `'merge'`: its whole session is stored, as express-session does; `'error'`: its save fails with
   * `ERR_SESSION_CONFLICT`. `'overwrite'`: nothing is merged, the later save wins. Default: `'merge'`.
   */
  conflict?: 'merge' | 'overwrite' | 'error' | undefined
  /** Renews the expiry of an unchanged session in the store at most once per this many ms. Default: 0, on every request. */
  touchAfter?: number | undefined
  /**
   * How many ms a request waits for the store, before `ERR_SESSION_STORE_TIMEOUT`; 0: without limit. Default: 30,000 for a
   * record store and in the short form, 0 for a classic store.
   */
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
   * `migrate` also finds sessions that are stored under their plain IDs; they stay there until they end. Needs a record store.
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
  user?: ((session: Session & Partial<SessionData>) => string | number | null | undefined) | undefined
  /** What to record of the request that logged a user in, such as address and user agent. Default: nothing. */
  describe?: ((req: Request) => unknown) | undefined
  /** How many sessions a user may have at once. Default: 0, any number. */
  maxSessionsPerUser?: number | undefined
  /**
   * What happens beyond `maxSessionsPerUser`: the oldest session ends, or the new one is refused: its `save` fails with
   * `ERR_SESSION_LIMIT`. Default: `'endOldest'`.
   */
  onSessionLimit?: 'endOldest' | 'refuse' | undefined
  /**
   * Warns once of each common mistake. Default: `true`; where `NODE_ENV` is `production`, only of a Secure cookie that no
   * browser gets, as the proxy in front is not trusted.
   */
  hints?: boolean | undefined
  /** Removes the cookie of a destroyed session from the browser. Default: `false`; in the short form `true`. */
  clearCookie?: boolean | undefined
  /** Sends `Cache-Control: no-store` with every session cookie, so that no cache keeps it. Default: `false`. */
  noStore?: boolean | undefined
}

/** What may follow the secret in the short form: all options but the secret. */
export type FurtherOptions = Omit<Augmented, 'secret'>
