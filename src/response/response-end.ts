import type { ServerResponse } from 'node:http'
import onHeaders = require('on-headers')
import { hiddenSlot } from '../base/hidden-slot'
import { isPromise, type MaybePromise } from '../base/maybe-promise'
import {
  canTakeBack,
  draftHead,
  endAgain,
  fixHeaders,
  lookEnded,
  refuseWrite,
  type HeldResponse,
} from './held-response'

/** What has to happen before a response leaves, and at its end. */
export interface EndOfResponse {
  /**
   * The header block is about to be made: sets the cookie. `streamed` when the response begins before its end, so that
   * nothing can wait for a commit; else the session has been committed. Called once, unless that head could not be made;
   * never if a head had left before. What it throws is reported.
   */
  head(streamed: boolean): void
  /**
   * Commits the session as it is now. What it throws is found before anything is sent. Called at the end; also before the
   * last of a body whose length was announced, and when the client has left a stream: then again at the end, if it comes.
   */
  commit(): MaybePromise<void>
  /** Lets the application answer with an error instead; nothing of the answer before has left. */
  fail(error: unknown): void
  /** Reports an error that can no longer change the response. */
  report(error: unknown): void
  /** What the client gets when the commit that the response waited for has failed. */
  onFailure(error: unknown): 'respond' | 'error' | 'disconnect'
}

/** Holds the end of a response until the session is committed, and makes its head after that. */
export function holdEnd(res: HeldResponse, hooks: EndOfResponse): void {
  if (typeof res.end === 'function') new HeldEnd(res, hooks).hold()
}

/**
 * This is the place that goes behind Node's back. `end` is replaced on the response, as there is no other way to wait for
 * something between a handler's `res.end()` and the bytes on the wire; `writeHead`, as HTTP/1 sends a head with the first
 * of the body only, so that there is time until then; `write` and `flushHeaders`, as they begin a response. When nothing
 * is to be waited for, Node's own `end` is called at once and nothing differs. Else the response looks to everybody as
 * after any `end`, until the commit has ended: then all of that is undone, and the former `end` called.
 */
class HeldEnd {
  readonly #res: HeldResponse
  readonly #hooks: EndOfResponse
  /** The response's methods, as they were. */
  readonly #destroy: HeldResponse['destroy']
  readonly #end: HeldResponse['end']
  readonly #write: HeldResponse['write']
  readonly #flushHeaders: HeldResponse['flushHeaders']
  #writeHead: HeldResponse['writeHead']
  readonly #drafts: boolean

  /** How the response leaves, from when it does. */
  #leaves: 'streamed' | 'whole' | undefined
  #state: 'open' | 'held' | 'ended' = 'open'
  /** A head that was made, so that headers are fixed, and that the real one will replace. */
  #draft: { undo(): void; args?: unknown[] } | undefined
  /** Whether `on-headers` has called: it does so once. */
  #fired = false
  #headSet = false
  /** A commit under way whose response has not waited for it yet. */
  #pending: PromiseLike<void> | undefined
  /** How much is still to come of a body whose length was announced. */
  #left: number | undefined

  constructor(res: HeldResponse, hooks: EndOfResponse) {
    this.#res = res
    this.#hooks = hooks
    this.#destroy = res.destroy
    this.#end = res.end
    this.#write = res.write
    this.#writeHead = res.writeHead
    this.#flushHeaders = res.flushHeaders
    this.#drafts = canTakeBack(res)
  }

  /** Functions that are bound, and not closures: V8 keeps a response whose properties are closures of its own too long. */
  hold(): void {
    const res = this.#res
    if (typeof this.#writeHead === 'function') {
      const ends = waiting.get(res)
      if (ends) ends.push(this)
      else waiting.set(res, [this])
      onHeaders(res, onHead)
      this.#writeHead = res.writeHead
      res.writeHead = this.#onWriteHead.bind<HeldResponse['writeHead']>(this)
    }
    if (typeof this.#flushHeaders === 'function') res.flushHeaders = this.#onFlush.bind(this)
    if (typeof this.#write === 'function') res.write = this.#onWrite.bind(this)
    res.end = this.#onEnd.bind(this)
  }

  /** The head is made now; listeners of middlewares that come later have been called by `on-headers` before. */
  static headOf(res: HeldResponse): void {
    const end = waiting.get(res)?.pop()
    if (end) end.#onHead()
  }

  #onFlush(): void {
    if (this.#state === 'held') return
    this.#leave('streamed')
    this.#flushHeaders.call(this.#res)
  }

  #onWriteHead(...args: unknown[]): HeldResponse {
    if (!this.#drafts || this.#leaves || this.#isOut()) {
      return Reflect.apply(this.#writeHead, this.#res, args) as HeldResponse
    }
    this.#draft = { undo: draftHead(this.#res, args), args }
    return this.#res
  }

  #onHead(): void {
    this.#fired = true
    if (!this.#leaves && !this.#drafts) this.#leave('streamed')
    if (this.#leaves) this.#setHead()
  }

  #onWrite(...args: unknown[]): boolean {
    const res = this.#res
    if (this.#state === 'held') return refuseWrite(res, args)
    const body = bodyOf(args)
    const isBody = this.#leaves !== 'whole' && body.chunk != null && isWritable(body.chunk)
    if (isBody) this.#leave('streamed')
    if (isBody && this.#isLast(body)) return this.#writeLast(args)
    return Reflect.apply(this.#write, res, args) as boolean
  }

  #onEnd(...args: unknown[]): HeldResponse {
    const res = this.#res
    if (this.#state === 'held') return endAgain(res, args)
    const chunk = typeof args[0] === 'function' ? undefined : args[0]
    if (this.#state === 'ended' || !isWritable(chunk)) return Reflect.apply(this.#end, res, args) as HeldResponse
    let committed: MaybePromise<void>
    try {
      committed = this.#commit()
    } catch (error) {
      return this.#callOff(error, args)
    }
    return isPromise(committed) ? this.#endAfter(committed, args) : this.#finish(args)
  }

  #endAfter(committed: PromiseLike<void>, args: unknown[]): HeldResponse {
    let release: () => void
    try {
      release = this.#lookEnded()
    } catch (error) {
      // A head that Node refuses to make: the answer that comes in its place waits for this commit.
      this.#pending = committed.then(undefined, (failure: unknown) => this.#hooks.report(failure))
      throw error
    }
    committed.then(
      () => {
        release()
        this.#finishLater(args)
      },
      (error: unknown) => {
        const answer = this.#hooks.onFailure(error)
        release()
        if (answer === 'error' && !this.#isOut()) return void this.#callOff(error, args)
        this.#fail(error, answer)
        this.#finishLater(args)
      },
    )
    return this.#res
  }

  /** Whether there is a head that cannot be taken back. On HTTP/1 others redefine `headersSent`: `_header` is the truth. */
  #isOut(): boolean {
    const res = this.#res
    if (this.#drafts) return !this.#draft && Boolean(res._header)
    return this.#leaves === 'streamed' || (res.stream !== undefined && res.headersSent)
  }

  #setHead(): void {
    if (this.#headSet) return
    this.#headSet = true
    try {
      this.#hooks.head(this.#leaves === 'streamed')
    } catch (error) {
      this.#hooks.report(error)
    }
  }

  /** The response begins: its draft gives way to the real head, which is made here or by what is called next. */
  #leave(how: 'streamed' | 'whole'): void {
    if (this.#leaves) return
    const res = this.#res
    /** Whether `end` and `write` make the head by `writeHead`, as Node's do; mocks need not. */
    const makesHead = this.#drafts || res.stream !== undefined
    const needsHead = !this.#isOut() && (this.#fired || !makesHead)
    this.#leaves = how
    const args = this.#draft?.args
    this.#draft?.undo()
    this.#draft = undefined
    if (needsHead) this.#setHead()
    if (args) Reflect.apply(this.#writeHead, res, args)
    // On HTTP/2 the head ends the answer to HEAD: then only the stream is closed.
    if (how === 'streamed') (res.stream ?? res).once?.('close', () => this.#commitAfterAll())
  }

  #commit(): MaybePromise<void> {
    return this.#pending ? this.#pending.then(() => this.#hooks.commit()) : this.#hooks.commit()
  }

  /** The client of a stream has left, and the handler may never come to its end. */
  #commitAfterAll(): void {
    if (this.#state !== 'open') return
    try {
      const committed = this.#commit()
      if (isPromise(committed)) committed.then(undefined, (error: unknown) => this.#hooks.report(error))
    } catch (error) {
      this.#hooks.report(error)
    }
  }

  /** Whether this completes a body whose length was announced. */
  #isLast(body: Body): boolean {
    this.#left ??= Number(this.#res.getHeader?.('Content-Length') ?? NaN)
    this.#left -= lengthOf(body)
    return this.#left <= 0
  }

  /** A client that knows the length takes the answer for complete before `end` is called: the last of it waits. */
  #writeLast(args: unknown[]): boolean {
    const res = this.#res
    let committed: MaybePromise<void> = undefined
    try {
      committed = this.#commit()
    } catch (error) {
      this.#fail(error)
    }
    if (!isPromise(committed)) return Reflect.apply(this.#write, res, args) as boolean
    if (!this.#isOut()) res.writeHead(res.statusCode)
    const proceed = (): void => {
      if (Reflect.apply(this.#write, res, args)) res.emit?.('drain')
    }
    this.#pending = committed.then(proceed, (error: unknown) => {
      this.#fail(error)
      proceed()
    })
    return false
  }

  /** Makes the response look ended. Returns a function that undoes this. */
  #lookEnded(): () => void {
    const res = this.#res
    let unfix: (() => void) | undefined
    if (!this.#isOut()) {
      if (this.#drafts) this.#draft ??= { undo: draftHead(res, [res.statusCode]) }
      else unfix = fixHeaders(res)
    }
    const restore = lookEnded(res)
    this.#state = 'held'
    return () => {
      this.#state = 'open'
      restore()
      unfix?.()
    }
  }

  /** The session of an answer that has begun, or is to be given all the same, is not stored. */
  #fail(error: unknown, answer = this.#hooks.onFailure(error)): void {
    if (answer !== 'respond') this.#cutOff()
    this.#hooks.report(error)
  }

  #cutOff(): void {
    const res = this.#res
    // Without a code, the end of an HTTP/2 stream looks like that of a whole answer.
    if (res.stream?.close) res.stream.close(INTERNAL_ERROR)
    // Not what a response that waits has in its place.
    else if (typeof this.#destroy === 'function') this.#destroy.call(res)
  }

  #finish(args: unknown[]): HeldResponse {
    this.#state = 'ended'
    try {
      // A middleware before the sessions may have collected what was written, and nothing has left.
      if (!this.#isOut()) this.#leaves = undefined
      this.#leave('whole')
      return Reflect.apply(this.#end, this.#res, args) as HeldResponse
    } catch (error) {
      if (!this.#isOut()) this.#reopen()
      throw error
    }
  }

  #finishLater(args: unknown[]): void {
    try {
      this.#finish(args)
    } catch (error) {
      if (!this.#isOut()) return void this.#callOff(error, args)
      this.#hooks.report(error)
      this.#res.destroy?.()
    }
  }

  #reopen(): void {
    this.#state = 'open'
    this.#leaves = undefined
    this.#left = undefined
    this.#draft?.undo()
    this.#draft = undefined
  }

  /** The answer cannot be given: the application gives another one, if nothing has left yet. */
  #callOff(error: unknown, args: unknown[]): HeldResponse {
    if (this.#isOut()) {
      this.#fail(error)
      return this.#finish(args)
    }
    this.#reopen()
    this.#headSet = false
    dropAnswer(this.#res)
    this.#hooks.fail(error)
    return this.#res
  }
}

/** Of each response, those whose head is still to be made: that of the middleware that came last is made first. */
const waiting = hiddenSlot<HeldEnd[]>()

function onHead(this: ServerResponse): void {
  HeldEnd.headOf(this)
}

/** Of HTTP/2 (RFC 9113, section 7). To load `node:http2` for it takes longer than to load all of this package. */
const INTERNAL_ERROR = 0x2

/**
 * What tells of one answer, and would be wrong for the error page in its place: of its body, where to go, for how long to
 * keep it, and its cookies; and what a proxy (`X-Accel-Redirect`) or a script in the browser (`HX-Redirect`) takes from it. What
 * tells of the server and of what browsers may do stays: CORS, security headers, `Vary`, limits of requests, and all that
 * this list does not know.
 */
const OF_ONE_ANSWER =
  /^(?:content-(?:length|type|encoding|language|location|range|disposition|md5|digest)|(?:repr-)?digest|etag|last-modified|accept-ranges|trailer|transfer-encoding|cache-control|(?:cdn|surrogate)-(?:cache-)?control|expires|age|pragma|location|refresh|retry-after|link|set-cookie|clear-site-data|x-accel-.*|x-sendfile|hx-.*)$/i

function dropAnswer(res: HeldResponse): void {
  res.statusCode = 500
  if (!res.stream) (res as { statusMessage: string | undefined }).statusMessage = undefined
  if (typeof res.getHeaderNames !== 'function') return
  for (const name of res.getHeaderNames()) if (OF_ONE_ANSWER.test(name)) res.removeHeader(name)
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

function lengthOf({ chunk, encoding }: Body): number {
  return typeof chunk === 'string' ? Buffer.byteLength(chunk, encoding) : (chunk as Uint8Array).byteLength
}
