import type { EventEmitter } from 'node:events'
import { ServerResponse, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { isPromise, type MaybePromise } from '../base/maybe-promise'

/** What has to happen at the end of a response. */
export interface EndOfResponse {
  /** Commits the session. What it throws is found before anything is sent: the error goes to `fail`, as if `end` was not called. */
  commit(): MaybePromise<void>
  /** Commits the session, but so that a later `commit` still can: `end` may be called or not. */
  commitSoFar(): MaybePromise<void>
  /** Lets the application answer with an error instead; the response is as if `end` had not been called. */
  fail(error: unknown): void
  /** Reports an error that can no longer change the response. */
  report(error: unknown): void
  /** Whether the header block waits for the commit, too, so that a different answer stays possible. */
  readonly holdsHeaders: boolean
  /** What the client gets when the commit that the response waited for has failed. */
  onFailure(error: unknown): 'respond' | 'error' | 'disconnect'
}

type End = (this: ServerResponse, ...args: unknown[]) => unknown

/** Headers that describe a body: they are removed when another answer takes its place. */
const BODY_HEADERS = ['Content-Length', 'Content-Encoding', 'Content-Range', 'ETag', 'Last-Modified']

/**
 * Holds the end of a response until the session is committed.
 *
 * This is the one place that goes behind Node's back. `end` is replaced on the response, as there is no other way to
 * wait for something between a handler's `res.end()` and the bytes on the wire. When nothing is to be waited for,
 * Node's own `end` is called at once and nothing differs. Else the header block is made, so that `headersSent` is true
 * and headers are fixed as after any `end`, but Node sends it only together with the body, in one write.
 */
export function holdEnd(res: ServerResponse, hooks: EndOfResponse): void {
  if (typeof res.end !== 'function') return
  const end = res.end as End
  let held = false
  /** A commit under way whose response could not be made: the application's next answer waits for it. */
  let pending: PromiseLike<void> | undefined

  function sessionEnd(this: ServerResponse, ...args: unknown[]): unknown {
    if (held) return endAgain(res, args)
    const body = bodyOf(args)
    if (!isWritable(body.chunk)) return end.apply(res, args)

    let committed: MaybePromise<void>
    try {
      committed = pending ?? hooks.commit()
    } catch (error) {
      return callOff(error, args)
    }
    if (!isPromise(committed)) return end.apply(res, args)

    try {
      if (!hooks.holdsHeaders) fixHeaders(res, isLast(end) ? body : undefined)
    } catch (error) {
      pending = committed.then(undefined, (failure: unknown) => hooks.report(failure))
      throw error
    }
    held = true
    const restore = holdResponse(res)
    const release = (): void => {
      held = false
      restore()
    }
    const proceed = (): void => {
      release()
      try {
        end.apply(res, args)
      } catch (error) {
        if (!res.headersSent) return void callOff(error, args)
        hooks.report(error)
        res.destroy?.()
      }
    }
    committed.then(proceed, (error: unknown) => {
      const answer = hooks.onFailure(error)
      if (answer === 'error' && !res.headersSent) {
        release()
        callOff(error, args)
        return
      }
      if (answer !== 'respond') cutOff(res)
      hooks.report(error)
      proceed()
    })
    return res
  }

  function callOff(error: unknown, args: unknown[]): unknown {
    if (res.headersSent) {
      hooks.report(error)
      return end.apply(res, args)
    }
    if (typeof res.removeHeader === 'function') for (const name of BODY_HEADERS) res.removeHeader(name)
    hooks.fail(error)
    return res
  }

  sessionEnd[SESSION_END] = true as const
  res.end = sessionEnd as typeof res.end
  if (res.req?.method === 'HEAD') commitAtClose(res, hooks)
}

/** Of HTTP/2 (RFC 9113, section 7). To load `node:http2` for it takes longer than to load all of this package. */
const INTERNAL_ERROR = 0x2

/** Without a code, the end of an HTTP/2 stream looks like that of a whole answer. */
function cutOff(res: ServerResponse & { stream?: { close?(code: number): void } }): void {
  if (res.stream?.close) res.stream.close(INTERNAL_ERROR)
  else res.destroy?.()
}

/** On HTTP/2 the header block ends the answer to HEAD: piping a body into it fails, and `end` is never called. */
function commitAtClose(res: ServerResponse & { stream?: EventEmitter }, hooks: EndOfResponse): void {
  res.stream?.once('close', () => {
    if (!res.headersSent) return
    try {
      const committed = hooks.commitSoFar()
      if (isPromise(committed)) committed.then(undefined, (error: unknown) => hooks.report(error))
    } catch (error) {
      hooks.report(error)
    }
  })
}

interface Body {
  chunk: unknown
  encoding: BufferEncoding | undefined
}

function bodyOf([chunk, encoding]: unknown[]): Body {
  return {
    chunk: typeof chunk === 'function' ? undefined : chunk,
    encoding: typeof encoding === 'string' ? (encoding as BufferEncoding) : undefined,
  }
}

/** Node's `end` throws at any other chunk, and is left to do so before the session is committed. */
function isWritable(chunk: unknown): chunk is string | Uint8Array | null | undefined {
  return chunk === undefined || chunk === null || typeof chunk === 'string' || chunk instanceof Uint8Array
}

/** Marks an `end` made here. */
const SESSION_END = Symbol('sessile.end')

/** Whether this `end` sends exactly what it is given: one that the application has wrapped may change the body. */
function isLast(end: End & { [SESSION_END]?: true }): boolean {
  return end === ServerResponse.prototype.end || end[SESSION_END] === true
}

/**
 * Makes the header block without sending it. `_contentLength` is what Node's own `end` sets before, for the header
 * `Content-Length`. HTTP/2 has no such step: there the headers wait with the body.
 */
function fixHeaders(res: ServerResponse & { _contentLength?: number | null }, body: Body | undefined): void {
  if (res.headersSent || typeof res.writeHead !== 'function' || res.req?.httpVersionMajor >= 2) return
  if (body) res._contentLength = lengthOf(body)
  res.writeHead(res.statusCode)
}

function lengthOf({ chunk, encoding }: Body): number {
  return typeof chunk === 'string'
    ? Buffer.byteLength(chunk, encoding)
    : ((chunk as Uint8Array | null | undefined)?.byteLength ?? 0)
}

/**
 * Makes a held response look ended, whatever the application still does with it: `writableEnded` is true, `write` refuses,
 * nothing changes its headers. The deprecated `finished` stays false: if it were true, `server.close()` would take the
 * connection for idle and cut it before the answer. Returns a function that undoes this.
 */
function holdResponse(res: ServerResponse): () => void {
  const showAgain = shadow(res, {
    writableEnded: true,
    write: refuseWrite,
    flushHeaders: () => undefined,
    ...(!res.headersSent && { writeHead: () => res }),
  })
  const restoreHead = res.headersSent ? undefined : keepHead(res)
  const releaseSocket = holdSocket(res)
  return () => {
    showAgain()
    restoreHead?.()
    releaseSocket?.()
  }
}

/** Shadows properties of an object. Returns a function that restores them. */
function shadow(object: object, values: Record<string, unknown>): () => void {
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
 * Headers that are not fixed yet could be changed by an application that answers a second time, and would no longer match
 * the body. Returns a function that restores them.
 */
function keepHead(res: ServerResponse & { getRawHeaderNames?(): string[] }): (() => void) | undefined {
  if (typeof res.getHeaderNames !== 'function') return undefined
  const { statusCode, statusMessage } = res
  // HTTP/2 has no raw names: there they are all in lower case.
  const names = res.getRawHeaderNames?.() ?? res.getHeaderNames()
  const headers = names.map((name) => [name, res.getHeader(name) as string | string[]] as const)
  return () => {
    res.statusCode = statusCode
    if (res.req.httpVersionMajor < 2) res.statusMessage = statusMessage
    for (const name of res.getHeaderNames()) res.removeHeader(name)
    for (const [name, value] of headers) res.setHeader(name, value)
  }
}

/**
 * Express destroys the connection of a request that fails after its headers were sent, for example because it was answered
 * twice. Without sessions the first answer has left by then, so here the connection is destroyed after it. Returns a
 * function that undoes this.
 */
function holdSocket(res: ServerResponse): (() => void) | undefined {
  if (!res.headersSent) return undefined
  const shield = shieldSocket(res.req)
  if (!shield) return undefined
  return () => {
    const { destroyed, socket } = shield.remove()
    if (destroyed) res.once('finish', () => socket.destroy())
  }
}

/** Ignores calls of `req.socket.destroy()`: the connection may be about to carry this answer, or the next one. */
export function shieldSocket(
  req: IncomingMessage | undefined,
): { remove(): { destroyed: boolean; socket: Socket } } | undefined {
  if (!req || !Object.hasOwn(req, 'socket')) return undefined
  const { socket } = req
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
      return { destroyed, socket }
    },
  }
}

function refuseWrite(this: ServerResponse, _chunk: unknown, encoding: unknown, callback: unknown): boolean {
  refuse(this, typeof encoding === 'function' ? encoding : callback)
  return false
}

/** Refuses a write after the end as Node does, except that an error without a listener does not end the process. */
function refuse(res: ServerResponse, callback: unknown): void {
  const error = Object.assign(new Error('write after end'), { code: 'ERR_STREAM_WRITE_AFTER_END' })
  process.nextTick(() => {
    if (typeof callback === 'function') (callback as (error: Error) => void)(error)
    if (res.listenerCount?.('error') > 0) res.emit('error', error)
  })
}

/** What Node does at a second call of `end`. */
function endAgain(res: ServerResponse, args: unknown[]): ServerResponse {
  const callback = args.find((arg) => typeof arg === 'function') as (() => void) | undefined
  const { chunk } = bodyOf(args)
  if (chunk !== undefined && chunk !== null) refuse(res, callback)
  else if (callback) res.once?.('finish', callback)
  return res
}
