import { tracingChannel } from 'node:diagnostics_channel'
import { isPromise, type MaybePromise } from './maybe-promise'

/** What the subscribers of `tracing:sessile:operation` are told; the same object from the beginning of an operation to its end. */
export interface Operation {
  /** `load`, `save`, `touch`, `destroy`, `reload`, `renew` or `update`. */
  readonly operation: string
  /** The session's ID: a credential. */
  readonly id: string | undefined
  /** The name of the store's class. */
  readonly store: string
  /** What it failed with, as of the event `error`. */
  error?: unknown
  /** True as of the event that is its last: `end` when the store has answered at once, else `asyncEnd`. */
  isOver: boolean
}

const { start, end, asyncStart, asyncEnd, error: failed } = tracingChannel<unknown, Operation>('sessile:operation')

/** Whether anybody watches: asked before anything is made for them. Who watches has to subscribe to `start`. */
export function isWatched(): boolean {
  return start.hasSubscribers
}

/** Does the work, and tells of it as `traceSync` and `tracePromise` of Node's channels do, by whether it has answered at once. */
export function watched<T>(operation: string, id: string | undefined, store: string, work: () => MaybePromise<T>) {
  const message: Operation = { operation, id, store, isOver: false }
  return start.runStores(message, (): MaybePromise<T> => {
    let answer: MaybePromise<T>
    try {
      answer = work()
    } catch (error) {
      message.isOver = true
      fail(message, error)
      end.publish(message)
      throw error
    }
    message.isOver = !isPromise(answer)
    end.publish(message)
    if (!isPromise(answer)) return answer
    return answer.then(
      (value) => {
        over(message)
        return value
      },
      (error: unknown) => {
        fail(message, error)
        over(message)
        throw error
      },
    )
  })
}

function fail(message: Operation, error: unknown): void {
  message.error = error
  failed.publish(message)
}

function over(message: Operation): void {
  message.isOver = true
  asyncStart.publish(message)
  asyncEnd.publish(message)
}
