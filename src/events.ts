import { channel, type Channel } from 'node:diagnostics_channel'
import { EventEmitter } from 'node:events'

/** What the middleware tells of, by event. */
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
  /** Another request had changed the session; the changes of both are kept. */
  conflict: { id: string; tries: number }
  /** A stored session was none, and the visitor got a new one. */
  invalid: { id: string; error: unknown }
  /** The store failed in a way that no error handler could be told of. */
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

/** The events of one middleware. No event is named `error`: none ends the process for want of a listener. */
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

  /** Whether anybody listens; asked first where the event is frequent. */
  wants(name: Name): boolean {
    return CHANNELS[name].hasSubscribers || this.#emitter.listenerCount(name) > 0
  }
}
