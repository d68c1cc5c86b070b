import { ServerResponse, type IncomingMessage } from 'node:http'
import { Socket } from 'node:net'

/** A response, with what Node has no public name for. Others' responses may lack any of it. */
export type HeldResponse = ServerResponse & {
  /** The header block as text, of Node's HTTP/1 responses. */
  _header?: string | null
  _hasBody?: boolean
  /** Of Node's HTTP/2 responses. */
  stream?: NodeJS.EventEmitter & { close?(code: number): void }
}

/** What a response looks like while it waits for the commit: as after any `end`. A function that was returned undoes it. */
type Undo = () => void

/** Whether a header block that was made can be taken back: on HTTP/1 of Node and Deno, until the first byte of the body. */
export function canTakeBack(res: HeldResponse): boolean {
  return res instanceof ServerResponse && Object.hasOwn(res, '_header') && areHeadsTakenBack()
}

let takenBack: boolean | undefined

/** Found out by trying: Bun's responses look like Node's, and have another place for what is sent. */
function areHeadsTakenBack(): boolean {
  if (takenBack === undefined) {
    const res = new ServerResponse({} as IncomingMessage)
    draftHead(res, [200])()
    takenBack = !res.headersSent
  }
  return takenBack
}

/**
 * Has Node make a header block that never leaves, so that Node itself checks what it is given, says `headersSent`, and
 * refuses changes. Made by the prototype's method: those who wait for the head (`on-headers`) wait for the real one.
 */
export function draftHead(res: HeldResponse, args: unknown[]): Undo {
  // A head, and what Node derives from it. Adapters start with values of their own.
  const { _hasBody, _header, chunkedEncoding } = res
  Reflect.apply(ServerResponse.prototype.writeHead, res, args)
  return () => void Object.assign(res, { _hasBody, _header, chunkedEncoding })
}

/** Where no draft can be made (HTTP/2 sends a head at once; mocks), changes are refused in the same way. */
export function fixHeaders(res: HeldResponse): Undo {
  const refuse = (): never => {
    const code = res.stream ? 'ERR_HTTP2_HEADERS_SENT' : 'ERR_HTTP_HEADERS_SENT'
    throw Object.assign(new Error('Cannot set headers after they are sent to the client'), { code })
  }
  const methods = ['setHeader', 'setHeaders', 'appendHeader', 'removeHeader', 'writeHead'].filter((name) => name in res)
  return shadow(res, { headersSent: true, ...Object.fromEntries(methods.map((name) => [name, refuse])) })
}

/**
 * The rest of what an ended response looks like, whatever the application still does with it. The deprecated `finished`
 * stays false: if it were true, `server.close()` would take the connection for idle and cut it before the answer.
 */
export function lookEnded(res: HeldResponse): Undo {
  const { statusCode, statusMessage } = res
  let destroyed = false
  const unshadow = shadow(res, {
    // What has ended on a socket of an adapter's making is written: adapters take the body then.
    ...(res.socket instanceof Socket && { writableEnded: true }),
    // It would take back the answer, which without sessions has left by now.
    ...('destroy' in res && { destroy: () => ((destroyed = true), res) }),
  })
  const shield = shieldSocket(res.req)
  return () => {
    unshadow()
    res.statusCode = statusCode
    if (!res.stream) res.statusMessage = statusMessage
    const isShielded = shield?.remove() ?? false
    const { socket } = res
    // On HTTP/2 the end of the answer closes its stream.
    if (!res.stream && (destroyed || isShielded)) res.once('finish', () => socket?.destroy())
  }
}

/** Shadows properties of an object. */
function shadow(object: object, values: Record<string, unknown>): Undo {
  const shadowed = Object.keys(values).map((name) => [name, Object.getOwnPropertyDescriptor(object, name)] as const)
  for (const [name, value] of Object.entries(values)) {
    Object.defineProperty(object, name, { value, configurable: true, writable: true })
  }
  return () => {
    for (const [name, own] of shadowed) {
      if (own) Object.defineProperty(object, name, own)
      else Reflect.deleteProperty(object, name)
    }
  }
}

/**
 * Express destroys the connection of a request that fails after its headers were sent, for example because it was answered
 * twice: calls of `req.socket.destroy()` are ignored, as the connection may be about to carry this answer, or the next
 * one. `remove` tells whether it was to be destroyed.
 */
export function shieldSocket(req: IncomingMessage | undefined): { remove(): boolean } | undefined {
  if (!req || !Object.hasOwn(req, 'socket')) return undefined
  const { socket } = req as { socket: Socket | null }
  // A request that was made up, by a test or an adapter, may have none.
  if (!socket) return undefined
  let destroyed = false
  req.socket = new Proxy(socket, {
    get(target, name, receiver) {
      if (name === 'destroy') return () => ((destroyed = true), receiver as Socket)
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? (value.bind(target) as unknown) : value
    },
  })
  return {
    remove() {
      req.socket = socket
      return destroyed
    },
  }
}

/** What Node does at a `write` after the end, except that an error without a listener does not end the process. */
export function refuseWrite(res: HeldResponse, args: unknown[]): false {
  const error = Object.assign(new Error('write after end'), { code: 'ERR_STREAM_WRITE_AFTER_END' })
  const callback = args.find((arg) => typeof arg === 'function') as ((error: Error) => void) | undefined
  process.nextTick(() => {
    callback?.(error)
    if (res.listenerCount?.('error') > 0) res.emit('error', error)
  })
  return false
}

/** What Node does at a second call of `end`. */
export function endAgain(res: HeldResponse, args: unknown[]): HeldResponse {
  const [chunk] = args
  const callback = args.find((arg) => typeof arg === 'function') as (() => void) | undefined
  if (chunk !== undefined && chunk !== null && chunk !== callback) refuseWrite(res, args)
  else if (callback) res.once?.('finish', callback)
  return res
}
