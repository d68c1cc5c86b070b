import { rejection } from './errors'

/** A value or a promise of it: a store that answers synchronously costs no promise and no turn of the event loop. */
export type MaybePromise<T> = T | PromiseLike<T>

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- callers receive whatever a store rejected with
export type Callback<Result extends unknown[] = []> = (error?: any, ...result: Result) => void

export function isPromise<T>(value: MaybePromise<T>): value is PromiseLike<T> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
}

/** `then` for both: calls `next` synchronously when the value is no promise. */
export function afterwards<T, U>(value: MaybePromise<T>, next: (value: T) => MaybePromise<U>): MaybePromise<U> {
  return isPromise(value) ? value.then(next) : next(value)
}

/**
 * Runs the work and passes its result to the callback, outside of any promise chain, so that what the callback throws is
 * not caught here. Without a result the callback gets no arguments. Without a callback it returns a promise, whose
 * rejection does not end the process if nobody awaits it.
 */
export function answer<T>(callback: Callback<[T]> | undefined, work: () => MaybePromise<T>): Promise<T> | undefined {
  const promise = new Promise<T>((resolve) => resolve(work()))
  if (!callback) {
    promise.catch(() => undefined)
    return promise
  }
  promise.then(
    (value) => (value === undefined ? process.nextTick(callback) : process.nextTick(callback, null, value)),
    (error: unknown) => process.nextTick(callback, rejection(error, 'the session store')),
  )
  return undefined
}
