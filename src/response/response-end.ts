import onHeaders = require('on-headers')
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

/**
 * Holds the end of a response until the session is committed, and makes its head after that.
 *
 * This is the place that goes behind Node's back. `end` is replaced on the response, as there is no other way to wait for
 * something between a handler's `res.end()` and the bytes on the wire; `writeHead`, as HTTP/1 sends a head with the first
 * of the body only, so that there is time until then; `write` and `flushHeaders`, as they begin a response. When nothing
 * is to be waited for, Node's own `end` is called at once and nothing differs. Else the response looks to everybody as
 * after any `end`, until the commit has ended: then all of that is undone, and the former `end` called.
 */
export function holdEnd(res: HeldResponse, hooks: EndOfResponse): void {
  if (typeof res.end !== 'function') return
  const { destroy, end, flushHeaders, write, writeHead } = res
  const drafts = canTakeBack(res)
  /** Whether `end` and `write` make the head by `writeHead`, as Node's do; mocks need not. */
  const makesHead = drafts || res.stream !== undefined

  /** How the response leaves, from when it does. */
  let leaves: 'streamed' | 'whole' | undefined
  let state: 'open' | 'held' | 'ended' = 'open'
  /** A head that was made, so that headers are fixed, and that the real one will replace. */
  let draft: { undo(): void; args?: unknown[] } | undefined
  /** Whether `on-headers` has called: it does so once. */
  let fired = false
  let headSet = false
  /** A commit under way whose response has not waited for it yet. */
  let pending: PromiseLike<void> | undefined
  /** How much is still to come of a body whose length was announced. */
  let left: number | undefined

  if (typeof writeHead === 'function') {
    res.writeHead = function (...args: unknown[]) {
      if (leaves || isOut()) return Reflect.apply(writeHead, res, args) as HeldResponse
      draft = { undo: draftHead(res, args), args }
      return res
    }
    // Listeners of middlewares that come later have been called by now: what they do to `Set-Cookie` does not undo ours.
    onHeaders(res, () => {
      fired = true
      if (!leaves && !drafts) leave('streamed')
      if (leaves) setHead()
    })
  }

  if (typeof flushHeaders === 'function') {
    res.flushHeaders = () => {
      if (state === 'held') return
      leave('streamed')
      flushHeaders.call(res)
    }
  }

  if (typeof write === 'function') {
    res.write = (...args: unknown[]): boolean => {
      if (state === 'held') return refuseWrite(res, args)
      const body = bodyOf(args)
      const isBody = leaves !== 'whole' && body.chunk != null && isWritable(body.chunk)
      if (isBody) leave('streamed')
      if (isBody && isLast(body)) return writeLast(args)
      return Reflect.apply(write, res, args) as boolean
    }
  }

  res.end = (...args: unknown[]): HeldResponse => {
    if (state === 'held') return endAgain(res, args)
    if (state === 'ended' || !isWritable(bodyOf(args).chunk)) return Reflect.apply(end, res, args) as HeldResponse
    let committed: MaybePromise<void>
    try {
      committed = commit()
    } catch (error) {
      return callOff(error, args)
    }
    if (!isPromise(committed)) return finish(args)
    let release: () => void
    try {
      release = hold()
    } catch (error) {
      // A head that Node refuses to make: the answer that comes in its place waits for this commit.
      pending = committed.then(undefined, (failure: unknown) => hooks.report(failure))
      throw error
    }
    committed.then(
      () => {
        release()
        finishLater(args)
      },
      (error: unknown) => {
        const answer = hooks.onFailure(error)
        release()
        if (answer === 'error' && !isOut()) return void callOff(error, args)
        fail(error, answer)
        finishLater(args)
      },
    )
    return res
  }

  /** Whether there is a head that cannot be taken back. On HTTP/1 others redefine `headersSent`: `_header` is the truth. */
  function isOut(): boolean {
    if (drafts) return !draft && Boolean(res._header)
    return leaves === 'streamed' || (res.stream !== undefined && res.headersSent)
  }

  function setHead(): void {
    if (headSet) return
    headSet = true
    try {
      hooks.head(leaves === 'streamed')
    } catch (error) {
      hooks.report(error)
    }
  }

  /** The response begins: its draft gives way to the real head, which is made here or by what is called next. */
  function leave(how: 'streamed' | 'whole'): void {
    if (leaves) return
    const needsHead = !isOut() && (fired || !makesHead)
    leaves = how
    const args = draft?.args
    draft?.undo()
    draft = undefined
    if (needsHead) setHead()
    if (args) Reflect.apply(writeHead, res, args)
    // On HTTP/2 the head ends the answer to HEAD: then only the stream is closed.
    if (how === 'streamed') (res.stream ?? res).once?.('close', commitAfterAll)
  }

  function commit(): MaybePromise<void> {
    return pending ? pending.then(() => hooks.commit()) : hooks.commit()
  }

  /** The client of a stream has left, and the handler may never come to its end. */
  function commitAfterAll(): void {
    if (state !== 'open') return
    try {
      const committed = commit()
      if (isPromise(committed)) committed.then(undefined, (error: unknown) => hooks.report(error))
    } catch (error) {
      hooks.report(error)
    }
  }

  /** Whether this completes a body whose length was announced. */
  function isLast(body: Body): boolean {
    left ??= Number(res.getHeader?.('Content-Length') ?? NaN)
    left -= lengthOf(body)
    return left <= 0
  }

  /** A client that knows the length takes the answer for complete before `end` is called: the last of it waits. */
  function writeLast(args: unknown[]): boolean {
    let committed: MaybePromise<void> = undefined
    try {
      committed = commit()
    } catch (error) {
      fail(error)
    }
    if (!isPromise(committed)) return Reflect.apply(write, res, args) as boolean
    if (!isOut()) res.writeHead(res.statusCode)
    const proceed = (): void => {
      if (Reflect.apply(write, res, args)) res.emit?.('drain')
    }
    pending = committed.then(proceed, (error: unknown) => {
      fail(error)
      proceed()
    })
    return false
  }

  /** Makes the response look ended. Returns a function that undoes this. */
  function hold(): () => void {
    let unfix: (() => void) | undefined
    if (!isOut()) {
      if (drafts) draft ??= { undo: draftHead(res, [res.statusCode]) }
      else unfix = fixHeaders(res)
    }
    const restore = lookEnded(res)
    state = 'held'
    return () => {
      state = 'open'
      restore()
      unfix?.()
    }
  }

  /** The session of an answer that has begun, or is to be given all the same, is not stored. */
  function fail(error: unknown, answer = hooks.onFailure(error)): void {
    if (answer !== 'respond') cutOff()
    hooks.report(error)
  }

  function cutOff(): void {
    // Without a code, the end of an HTTP/2 stream looks like that of a whole answer.
    if (res.stream?.close) res.stream.close(INTERNAL_ERROR)
    // Not what a response that waits has in its place.
    else if (typeof destroy === 'function') destroy.call(res)
  }

  function finish(args: unknown[]): HeldResponse {
    state = 'ended'
    try {
      // A middleware before the sessions may have collected what was written, and nothing has left.
      if (!isOut()) leaves = undefined
      leave('whole')
      return Reflect.apply(end, res, args) as HeldResponse
    } catch (error) {
      if (!isOut()) reopen()
      throw error
    }
  }

  function finishLater(args: unknown[]): void {
    try {
      finish(args)
    } catch (error) {
      if (!isOut()) return void callOff(error, args)
      hooks.report(error)
      res.destroy?.()
    }
  }

  function reopen(): void {
    state = 'open'
    leaves = undefined
    left = undefined
    draft?.undo()
    draft = undefined
  }

  /** The answer cannot be given: the application gives another one, if nothing has left yet. */
  function callOff(error: unknown, args: unknown[]): HeldResponse {
    if (isOut()) {
      fail(error)
      return finish(args)
    }
    reopen()
    headSet = false
    dropAnswer(res)
    hooks.fail(error)
    return res
  }
}

/** Of HTTP/2 (RFC 9113, section 7). To load `node:http2` for it takes longer than to load all of this package. */
const INTERNAL_ERROR = 0x2

/**
 * What tells of one answer, and would be wrong for the error page in its place: of its body, where to go, for how long to
 * keep it, and its cookies; and what
 * a proxy (`X-Accel-Redirect`) or a script in the browser (`HX-Redirect`) takes from it. What tells of the server and of what browsers may do stays: CORS, security headers,
 * `Vary`, limits of requests, and all that this list does not know.
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
