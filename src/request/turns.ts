import { AsyncLocalStorage } from 'node:async_hooks'
import { SessionError } from '../base/errors'
import { isPromise, type MaybePromise } from '../base/maybe-promise'
import { isWatched, watched } from '../base/operations'
import { within } from '../base/store-call'
import { Turns } from '../base/turns'
import type { Settings } from './settings'

/** The saves, reloads, renewals, updates and destructions of each request. */
const turns = new Turns<object>(new WeakMap())

/** A function given to `update` that is running, and the one that it was begun in. */
interface Updating {
  readonly key: string
  readonly within: Updating | undefined
  isOver: boolean
}

const updating = new AsyncLocalStorage<Updating>()

/** Runs the function that an application gives to `update`, for the session with this key. */
export async function duringUpdate(key: string, work: () => unknown): Promise<unknown> {
  const current: Updating = { key, within: updating.getStore(), isOver: false }
  try {
    return await updating.run(current, work)
  } finally {
    current.isOver = true
  }
}

/**
 * Runs one after the other what loads and stores a request's session: at the same time, one would undo what another has
 * stored.
 * @throws TypeError within the function of an `update` of the same session, for which that waits
 */
export function inTurn<T>(visit: object, key: string | undefined, work: () => MaybePromise<T>): MaybePromise<T> {
  for (let one = updating.getStore(); one; one = one.within) {
    if (one.isOver || one.key !== key) continue
    throw new TypeError(
      'the function that sessions.update calls must change the session it is given, and nothing else: what it began ' +
        'here would wait for itself. Call save, update, renew or flash before sessions.update, or after it',
    )
  }
  return turns.take(visit, work)
}

/** The end of what a handler has begun and not waited for. */
export function underWay(visit: object): PromiseLike<void> | undefined {
  return turns.underWay(visit)
}

/** Waits for the store no longer than the option `timeout` says, and tells those who want to know of it, or of its failure. */
export function bounded<T>(
  settings: Settings,
  operation: string,
  key: string | undefined,
  work: () => MaybePromise<T>,
): MaybePromise<T> {
  if (!isWatched()) return waited(settings, operation, key, work)
  return watched(operation, key, settings.storeName, () => waited(settings, operation, key, work))
}

function waited<T>(
  settings: Settings,
  operation: string,
  key: string | undefined,
  work: () => MaybePromise<T>,
): MaybePromise<T> {
  const began = Date.now()
  let answer: MaybePromise<T>
  try {
    answer = work()
  } catch (error) {
    throw told(settings, operation, key, error, began)
  }
  if (!isPromise(answer)) return answer
  return within(answer, operation, settings.timeout).then(undefined, (error: unknown) => {
    throw told(settings, operation, key, error, began)
  })
}

function told(
  { events }: Settings,
  operation: string,
  key: string | undefined,
  error: unknown,
  began: number,
): unknown {
  if (isFailure(error) && events.wants('failure')) {
    events.emit('failure', { operation, id: key, error, duration: Date.now() - began })
  }
  return error
}

/** Whether an error is the store's, and not about the session. */
function isFailure(error: unknown): boolean {
  return !(error instanceof SessionError) || error.code === 'ERR_SESSION_STORE_TIMEOUT'
}
