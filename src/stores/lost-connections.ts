import type { EventEmitter } from 'node:events'

const heard = new WeakSet<object>()

/**
 * Keeps the loss of an idle connection from ending the process, as an `error` event without a listener does. Calls `tell`
 * with it, unless the application has a listener of its own.
 */
export function surviveLostConnections(client: object, tell: (error: unknown) => void): void {
  const emitter = client as Partial<EventEmitter>
  if (typeof emitter.on !== 'function' || heard.has(client)) return
  heard.add(client)
  emitter.on('error', (error: unknown) => {
    if (emitter.listenerCount?.('error') === 1) tell(error)
  })
}
