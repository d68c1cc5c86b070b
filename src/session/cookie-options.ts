/** The settings of the session cookie. */
export interface CookieOptions {
  /**
   * Lifetime in ms. Every request renews it in the store; the browser learns of it when the session changes, or with
   * every response when `rolling` is on. Default: none, the cookie ends with the browser.
   */
  maxAge?: number | undefined
  /** When the cookie ends. Prefer `maxAge`; of the two, the one given last counts. */
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
   * Whether the browser sends the cookie along from other sites; `true` is `'strict'`; `'auto'`: `'none'` on a secure
   * connection, else `'lax'`. Default: the browser's.
   */
  sameSite?: boolean | 'lax' | 'strict' | 'none' | 'auto' | undefined
  /** Keeps a cookie of an embedded site apart for each embedding site (CHIPS). Default: `false`. */
  partitioned?: boolean | undefined
  /** How readily the browser keeps the cookie when it has too many. Default: the browser's. */
  priority?: 'low' | 'medium' | 'high' | undefined
  /** Accepted for compatibility with older types; session cookies are always signed. */
  signed?: boolean | undefined
  /** Accepted for compatibility with older types; has no effect. */
  encode?: ((value: string) => string) | undefined
}
