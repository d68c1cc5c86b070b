import { EventEmitter } from 'node:events'

/** What the middleware tells of, by event. */
export interface SessionEventMap {
  /** Another request had changed the session; both changes are kept. */
  conflict: { id: string; tries: number }
  /** A store failed after the response had gone, so that the error handler could no longer be told. */
  storeError: { error: unknown; id: string | undefined }
  /** A stored session was none, and the visitor got a new one. */
  invalid: { error: unknown; id: string }
}

/** The events of one middleware. */
export class SessionEvents {
  readonly #emitter = new EventEmitter()

  on<Name extends keyof SessionEventMap>(name: Name, listener: (event: SessionEventMap[Name]) => void): this {
    this.#emitter.on(name, listener)
    return this
  }

  off<Name extends keyof SessionEventMap>(name: Name, listener: (event: SessionEventMap[Name]) => void): this {
    this.#emitter.off(name, listener)
    return this
  }

  /** True when somebody listened. */
  emit<Name extends keyof SessionEventMap>(name: Name, event: SessionEventMap[Name]): boolean {
    return this.#emitter.emit(name, event)
  }
}
