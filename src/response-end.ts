import type { EventEmitter } from 'node:events'
import { ServerResponse, type IncomingMessage } from 'node:http'
import { constants } from 'node:http2'
import type { Socket } from 'node:net'
import { isPromise, type MaybePromise } from './maybe-promise'

/** What has to happen at the end of a response. */
export interface EndOfResponse {
  /**
   * Commits the session and answers when that has ended. What it throws is found before anything was sent: the end is
   * called off and the error given to `fail`.
   */
  commit(): MaybePromise<void>
  /** Commits the session of a response that may never be ended, and may yet be. */
  commitSoFar(): MaybePromise<void>
  /** Has the application answer with an error instead; the response is as if `end` had not been called. */
  fail(error: unknown): void
  /** Takes an error when the response can no longer be changed. */
  report(error: unknown): void
  /** Whether the header block, too, waits for the commit, so that another answer stays possible. */
  readonly holdsHeaders: boolean
  /** What the client gets when a commit fails that was waited for. */
  onFailure(error: unknown): 'respond' | 'error' | 'disconnect'
}

type End = (this: ServerResponse, ...args: unknown[]) => unknown

/** The headers that belong to a body and must not outlive it. */
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
  /** A commit whose response could not be made; the application's next one waits for it. */
  let left: PromiseLike<void> | undefined

  function sessionEnd(this: ServerResponse, ...args: unknown[]): unknown {
    if (held) return endAgain(res, args)
    const body = bodyOf(args)
    if (!isWritable(body.chunk)) return end.apply(res, args)

    let committed: MaybePromise<void>
    try {
      committed = left ?? hooks.commit()
    } catch (error) {
      return callOff(error, args)
    }
    if (!isPromise(committed)) return end.apply(res, args)

    try {
      if (!hooks.holdsHeaders) fixHeaders(res, isLast(end) ? body : undefined)
    } catch (error) {
      left = committed.then(undefined, (failure: unknown) => hooks.report(failure))
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

/** Without a code, the end of an HTTP/2 stream looks like that of a whole answer. */
function cutOff(res: ServerResponse & { stream?: { close?(code: number): void } }): void {
  if (res.stream?.close) res.stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  else res.destroy?.()
}

/** On HTTP/2 the header block ends the answer to HEAD: a body that is piped fails, and `end` is never called. */
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

/** Node's `end` throws at anything else, and is left to do so before the session is committed. */
function isWritable(chunk: unknown): chunk is string | Uint8Array | null | undefined {
  return chunk === undefined || chunk === null || typeof chunk === 'string' || chunk instanceof Uint8Array
}

/** Marks an `end` made here. */
const SESSION_END = Symbol('sessile.end')

/** Whether what is given to this `end` is what is sent: one that the application has wrapped may change the body. */
function isLast(end: End & { [SESSION_END]?: true }): boolean {
  return end === ServerResponse.prototype.end || end[SESSION_END] === true
}

/**
 * Makes the header block without sending it. Node's `end` would have noted the length of the body before, for
 * `Content-Length`. HTTP/2 has no such step in between: its headers wait with the body.
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
 * nothing changes its headers. The deprecated `finished` stays false: by it `server.close()` takes a connection for
 * idle, and would cut it before the answer. Returns what takes that back.
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

/** Puts values in front of an object's own or inherited ones. Returns what takes them away again. */
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
 * Headers that are not fixed could be changed by an application that answers a second time, and would no longer be those
 * of the body. Returns what puts them back.
 */
function keepHead(res: ServerResponse & { getRawHeaderNames?(): string[] }): (() => void) | undefined {
  if (typeof res.getHeaderNames !== 'function') return undefined
  const { statusCode, statusMessage } = res
  // HTTP/2 has names in lower case only.
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
 * Express destroys the connection of a request that fails after its headers were sent, as one does that is answered twice.
 * Without sessions the first answer has left by then; so here that waits for it. Returns what takes that back.
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

/** Keeps an application from destroying a request's connection: it may be about to carry an answer, this or the next. */
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

/** As Node answers what is written after the end; but that nobody listens for the error does not end the process. */
function refuse(res: ServerResponse, callback: unknown): void {
  const error = Object.assign(new Error('write after end'), { code: 'ERR_STREAM_WRITE_AFTER_END' })
  process.nextTick(() => {
    if (typeof callback === 'function') (callback as (error: Error) => void)(error)
    if (res.listenerCount?.('error') > 0) res.emit('error', error)
  })
}

/** As Node answers an `end` after the first. */
function endAgain(res: ServerResponse, args: unknown[]): ServerResponse {
  const callback = args.find((arg) => typeof arg === 'function') as (() => void) | undefined
  const { chunk } = bodyOf(args)
  if (chunk !== undefined && chunk !== null) refuse(res, callback)
  else if (callback) res.once?.('finish', callback)
  return res
}
