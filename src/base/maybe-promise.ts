import { OptionError, rejection } from './errors'

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

/** `catch` for both: calls `handle` with what the work throws or its promise rejects with. */
export function rescue<T, U>(work: () => MaybePromise<T>, handle: (error: unknown) => U): MaybePromise<T | U> {
  try {
    const result = work()
    return isPromise(result) ? result.then<T | U, U>(undefined, handle) : result
  } catch (error) {
    return handle(error)
  }
}

/** `Promise.all` for both: the values themselves, when none is a promise. */
export function all<T>(values: ReadonlyArray<MaybePromise<T>>): MaybePromise<readonly T[]> {
  return values.some(isPromise) ? Promise.all(values) : (values as readonly T[])
}

/**
 * What a function of the application's has returned, where that cannot be waited for. A promise's rejection must not end
 * the process besides.
 * @throws OptionError when it is a promise
 */
export function atOnce<T>(value: T, what: string): T {
  if (!isPromise(value)) return value
  value.then(undefined, () => undefined)
  throw new OptionError(`${what}, not a promise`)
}

/** Does the work for each item, one after the other. */
export function oneByOne<T>(items: readonly T[], work: (item: T) => MaybePromise<unknown>): MaybePromise<void> {
  let done: MaybePromise<unknown> = undefined
  for (const item of items) done = afterwards(done, () => work(item))
  return done as MaybePromise<void>
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
