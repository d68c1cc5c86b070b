import { channel, type Channel } from 'node:diagnostics_channel'
import { EventEmitter } from 'node:events'

/** The events of a middleware, by name. They carry whole session IDs, with which a reader of a log could be in a session. */
export interface SessionEventMap {
  /** A new session was stored for the first time. */
  created: { id: string }
  /** A stored session was found for a request. */
  loaded: { id: string }
  /** A session was written to the store. */
  saved: { id: string }
  /** A session got a new ID and keeps its data. */
  renewed: { id: string; oldId: string }
  /** A session was destroyed by the application. */
  destroyed: { id: string }
  /** A session was ended by a timeout. */
  expired: { id: string; reason: 'idle' | 'absolute' }
  /** An ID was used that a renewal had replaced longer ago than the grace period: perhaps a stolen one. */
  staleId: { id: string }
  /** Another request had changed the session; the changes of both are kept. `tries` counts from 1. */
  conflict: { id: string; tries: number }
  /** A stored record was not a session, and the visitor got a new one (`onInvalidRecord: 'replace'`). */
  invalid: { id: string; error: unknown }
  /** The store failed where no error handler is called: after the response was sent, or with `onLoadError: 'skip'`. */
  storeError: { id: string | undefined; error: unknown }
}

type Name = keyof SessionEventMap
type Listener<N extends Name> = (event: SessionEventMap[N]) => void

const NAMES: readonly Name[] = [
  'created',
  'loaded',
  'saved',
  'renewed',
  'destroyed',
  'expired',
  'staleId',
  'conflict',
  'invalid',
  'storeError',
]

/** Node's diagnostics channels: `sessile:created` and so on, one for each event. */
const CHANNELS = Object.fromEntries(NAMES.map((name) => [name, channel(`sessile:${name}`)])) as Record<Name, Channel>

/** Emits the events of one middleware. None is named `error`, which would end the process when nobody listens. */
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
    this.#emitter.emit(name, event)
    CHANNELS[name].publish(event)
  }

  /** Whether anybody listens: for frequent events, asked before the event object is made. */
  wants(name: Name): boolean {
    return CHANNELS[name].hasSubscribers || this.#emitter.listenerCount(name) > 0
  }
}
