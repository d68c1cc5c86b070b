import { channel, type Channel } from 'node:diagnostics_channel'
import { EventEmitter } from 'node:events'
import { rescue } from '../../base/maybe-promise'

/** The events of a middleware, by name. They carry whole session IDs, with which a reader of a log could be in a session. */
export interface SessionEventMap {
  /** A new session was stored for the first time. */
  created: { id: string }
  /** A stored session was found for a request. */
  loaded: { id: string }
  /** A session was written to the store. */
  saved: { id: string }
  /** A session lives on: its end was moved at the end of a response, which has not written the session. */
  touched: { id: string }
  /**
   * What becomes of a session at the end of a response, and why; whether its cookie is sent, and why. It is told before it is
   * done, for those who look for the reason: what was done is told by the other events.
   */
  decided: { id: string; action: 'destroy' | 'save' | 'touch' | 'nothing'; why: string; cookie: string | undefined }
  /** The client of a session is given a new token; the session keeps its ID and its data. */
  renewed: { id: string }
  /** A session was destroyed by the application. With `hashIds`, the ID of one that `users` has ended is not known: it is the hash. */
  destroyed: { id: string }
  /** A session was ended by a timeout. */
  expired: { id: string; reason: 'idle' | 'absolute' }
  /** A token was used that a renewal had replaced longer ago than the grace period: perhaps a stolen one. */
  staleId: { id: string }
  /** Another request had changed the session. `merged`: the changes of both are kept, else this one's session. */
  conflict: { id: string; tries: number; merged: boolean }
  /** A stored record was not a session, and the visitor got a new one (`onInvalidRecord: 'replace'`). */
  invalid: { id: string; error: unknown }
  /** The store failed where no error handler is called: after the response was sent, or with `onLoadError: 'skip'`. */
  storeError: { id: string | undefined; error: unknown }
  /** The store failed, whoever is told of the error: each failure, for metrics. `duration` is in ms. */
  failure: { operation: string; id: string | undefined; error: unknown; duration: number }
}

type Name = keyof SessionEventMap
type Listener<N extends Name> = (event: SessionEventMap[N]) => void

const NAMES: readonly Name[] = [
  'created',
  'loaded',
  'saved',
  'touched',
  'decided',
  'renewed',
  'destroyed',
  'expired',
  'staleId',
  'conflict',
  'invalid',
  'storeError',
  'failure',
]

/** Node's diagnostics channels: `sessile:created` and so on, one for each event. */
const CHANNELS = Object.fromEntries(NAMES.map((name) => [name, channel(`sessile:${name}`)])) as Record<Name, Channel>

/**
 * Emits the events of one middleware, each after the fact. None is named `error`, which would end the process when nobody
 * listens. What a listener throws, or rejects with, becomes a process warning: it must not change what was going on, nor end the process.
 */
export class SessionEvents {
  readonly #emitter = new EventEmitter()

  on<N extends Name>(name: N, listener: Listener<N>): this {
    this.#emitter.on(name, listener)
    return this
  }

  once<N extends Name>(name: N, listener: Listener<N>): this {
    this.#emitter.once(name, listener)
    return this
  }

  off<N extends Name>(name: N, listener: Listener<N>): this {
    this.#emitter.off(name, listener)
    return this
  }

  emit<N extends Name>(name: N, event: SessionEventMap[N]): void {
    // Raw, so that one added by `once` removes itself.
    for (const listener of this.#emitter.rawListeners(name)) {
      void rescue(
        () => (listener as Listener<N>).call(this.#emitter, event) as unknown,
        (error) => warnOf(name, error),
      )
    }
    CHANNELS[name].publish(event)
  }

  /** Whether anybody listens: for frequent events, asked before the event object is made. */
  wants(name: Name): boolean {
    return CHANNELS[name].hasSubscribers || this.#emitter.listenerCount(name) > 0
  }
}

function warnOf(name: Name, error: unknown): void {
  const detail = error instanceof Error ? error.stack : undefined
  process.emitWarning(`a listener of the event ${name} of sessions threw: ${String(error)}`, {
    type: 'SessionWarning',
    code: 'SESSION_LISTENER',
    ...(detail !== undefined && { detail }),
  })
}
