/** A value that is there already, or will be. A store that answers at once costs no promise and no turn of the loop. */
export type MaybePromise<T> = T | PromiseLike<T>

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- callers receive whatever a store rejected with
export type Callback<Result extends unknown[] = []> = (error?: any, ...result: Result) => void

export function isPromise<T>(value: MaybePromise<T>): value is PromiseLike<T> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
}

/** Goes on with a value, at once when it is there already. */
export function afterwards<T, U>(value: MaybePromise<T>, next: (value: T) => MaybePromise<U>): MaybePromise<U> {
  return isPromise(value) ? value.then(next) : next(value)
}

/**
 * Runs the work and hands its end to the callback, outside of any promise chain, so that what the callback throws is
 * the caller's own; where there is nothing to tell, it is called with nothing. Without a callback it returns a promise; one that nobody awaits does not end the process.
 */
export function answer<T>(callback: Callback<[T]> | undefined, work: () => MaybePromise<T>): Promise<T> | undefined {
  const promise = new Promise<T>((resolve) => resolve(work()))
  if (!callback) {
    promise.catch(() => undefined)
    return promise
  }
  promise.then(
    (value) => (value === undefined ? process.nextTick(callback) : process.nextTick(callback, null, value)),
    (error: unknown) => process.nextTick(callback, error),
  )
  return undefined
}
