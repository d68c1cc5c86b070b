import { rejection, SessionError } from './errors'
import { isPromise, type MaybePromise } from './maybe-promise'

type Method = 'get' | 'set' | 'destroy' | 'touch' | 'regenerate'

/** How long, in ms, to wait for the callback of a method whose promise has resolved with nothing. */
const CALLBACK_GRACE = 1000

/**
 * Calls a method of a classic store, which may throw, call back at once or later, return a promise, or several of these:
 * the first one counts. What the store throws is thrown; every other error rejects.
 */
export function callStore<T = void>(store: object, method: Method, args: readonly unknown[]): MaybePromise<T> {
  const call = (store as unknown as Record<Method, (...args: unknown[]) => unknown>)[method]
  let settle: ((error: unknown, value?: T) => void) | undefined
  let early: { error: unknown; value: T | undefined } | undefined

  const done = (error?: unknown, value?: T): void => {
    if (settle) settle(error, value)
    else early ??= { error, value }
  }
  let returned: unknown
  try {
    returned = call.call(store, ...args, done)
  } catch (error) {
    if (!early) throw error
  }
  if (early) {
    // The promise only repeats the callback, so nobody waits for it: its rejection must not end the process.
    if (isPromise(returned)) returned.then(undefined, () => undefined)
    return early.error ? Promise.reject(early.error) : (early.value as T)
  }

  return new Promise<T>((resolve, reject) => {
    settle = (error, value) => {
      if (error) reject(error)
      else resolve(value as T)
    }
    if (!isPromise(returned)) return
    const ignoresCallback = call.length <= args.length
    returned.then(
      (value) => {
        if (value !== undefined || ignoresCallback) done(null, value as T)
        else setTimeout(done, CALLBACK_GRACE)
      },
      (error: unknown) => done(rejection(error, `the session store's ${method}`)),
    )
  })
}

/** Waits for what the store was asked, and no longer than `timeout` ms (0 or `undefined`: without limit). */
export function within<T>(value: PromiseLike<T>, method: string, timeout: number | undefined): Promise<T>
export function within<T>(value: MaybePromise<T>, method: string, timeout: number | undefined): MaybePromise<T>
export function within<T>(value: MaybePromise<T>, method: string, timeout: number | undefined): MaybePromise<T> {
  if (!isPromise(value)) return value
  return new Promise<T>((resolve, reject) => {
    const timer = timeout ? setTimeout(() => reject(timedOut(method, timeout)), timeout) : undefined
    value.then(
      (result) => {
        clearTimeout(timer)
        resolve(result)
      },
      (error: unknown) => {
        clearTimeout(timer)
        reject(rejection(error, `the session store's ${method}`))
      },
    )
  })
}

function timedOut(what: string, timeout: number): SessionError {
  return new SessionError(
    'ERR_SESSION_STORE_TIMEOUT',
    `the session store did not answer ${what} within ${timeout} ms (option timeout)`,
  )
}
