/** The codes of the errors that sessile itself raises; docs/errors.md has a heading for each. */
export type SessionErrorCode =
  | 'ERR_SESSION_CONFLICT'
  | 'ERR_SESSION_CROSS_ORIGIN'
  | 'ERR_SESSION_DESTROYED'
  | 'ERR_SESSION_EXPIRED'
  | 'ERR_SESSION_ID_TAKEN'
  | 'ERR_SESSION_INVALID_RECORD'
  | 'ERR_SESSION_LIMIT'
  | 'ERR_SESSION_MISSING'
  | 'ERR_SESSION_OPTION'
  | 'ERR_SESSION_SEALED'
  | 'ERR_SESSION_SERIALIZE'
  | 'ERR_SESSION_STORE_TIMEOUT'

/** An error that sessile raises itself. What a store raises is passed on as it is. */
export class SessionError extends Error {
  readonly code: SessionErrorCode

  // The type is spelt out, as declarations that name `ErrorOptions` need the library of ES2022.
  constructor(code: SessionErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'SessionError'
    this.code = code
  }
}

/** An option that cannot be used, of `session()` or of a store: a TypeError, as express-session throws for its own. */
export class OptionError extends TypeError {
  readonly code: SessionErrorCode = 'ERR_SESSION_OPTION'
}

/** The beginning of an ID, for errors and warnings: a whole ID in a log would let its readers into the session. */
export function shortened(id: string): string {
  return `${id.slice(0, 8)}…`
}

/** The error of a save that would bring a destroyed session back. */
export function destroyed(id: string): SessionError {
  return new SessionError(
    'ERR_SESSION_DESTROYED',
    `session ${shortened(id)} was destroyed by another request and is not saved`,
  )
}

/** The same, when it was this very request that destroyed it, or whose client has been given a new token meanwhile. */
export function destroyedHere(id: string, isReplaced: boolean): SessionError {
  return new SessionError(
    'ERR_SESSION_DESTROYED',
    isReplaced
      ? `the client of this request has been given a new token meanwhile; what the request changes in its empty session ${shortened(id)} is not saved`
      : `session ${shortened(id)} was destroyed by this request and is not saved`,
  )
}

/** Whether an error is one of ours with this code. Stores reject with anything, also with nothing. */
export function isSessionError(error: unknown, ...codes: SessionErrorCode[]): boolean {
  return error instanceof SessionError && codes.includes(error.code)
}

/** Whether an error says that a record is no session or cannot be decrypted: from whichever copy of this library. */
export function isUnreadable(error: unknown): boolean {
  const { code } = error as SessionError
  return code === 'ERR_SESSION_INVALID_RECORD' || code === 'ERR_SESSION_SEALED'
}

/** A rejection to pass on: one with nothing would be taken for success, by `next` and by every callback. */
export function rejection(error: unknown, what: string): unknown {
  return error || new Error(`${what} rejected with nothing`)
}

const warned = new Set<string>()

/** Emits a process warning with this code, once in a process for each `key` (default: the code). */
export function warnOnce(code: string, message: string, key = code): void {
  if (warned.has(key)) return
  warned.add(key)
  process.emitWarning(message, { type: 'SessionWarning', code })
}
