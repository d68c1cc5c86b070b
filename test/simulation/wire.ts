import { EventEmitter } from 'node:events'
import { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** As much of a socket as Node's own request and response ask for; it keeps what is written. */
class Wire extends EventEmitter {
  writable = true
  destroyed = false
  head = ''
  onHead: (() => void) | undefined
  readonly writableLength = 0
  readonly writableHighWaterMark = 65_536
  readonly _writableState = { corked: 0 }

  cork(): void {}
  uncork(): void {}
  setTimeout(): this {
    return this
  }

  write(chunk: string | Buffer, encoding?: unknown, done?: () => void): boolean {
    if (this.head === '') {
      this.head = String(chunk)
      this.onHead?.()
    }
    const callback = typeof encoding === 'function' ? (encoding as () => void) : done
    if (callback) process.nextTick(callback)
    return true
  }

  destroy(): this {
    if (this.destroyed) return this
    this.destroyed = true
    this.writable = false
    process.nextTick(() => this.emit('close'))
    return this
  }
}

/** One request and its response: Node's own objects on a socket that leads nowhere. */
export class Exchange {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly #wire = new Wire()

  /** @param onHead called when the head of the response has left */
  constructor(cookie: string | undefined, onHead?: () => void) {
    const socket = this.#wire as unknown as Socket
    this.req = new IncomingMessage(socket)
    this.req.method = 'GET'
    this.req.url = '/'
    this.req.httpVersionMajor = this.req.httpVersionMinor = 1
    this.req.httpVersion = '1.1'
    this.req.headers = cookie === undefined ? {} : { cookie: `connect.sid=${cookie}` }
    this.res = new ServerResponse(this.req)
    this.res.sendDate = false
    this.res.assignSocket(socket)
    this.#wire.onHead = onHead
  }

  /** The client goes away. */
  cut(): void {
    this.#wire.destroy()
  }

  get hasHead(): boolean {
    return this.#wire.head !== ''
  }

  get isCut(): boolean {
    return this.#wire.destroyed
  }

  get isOver(): boolean {
    return this.res.writableFinished || this.#wire.destroyed
  }

  get status(): number {
    return Number(this.#wire.head.slice(9, 12))
  }

  /** The session cookie that the response sets: '' when it is removed, undefined when it is left alone. */
  get setCookie(): string | undefined {
    const [, value] = /^set-cookie: connect\.sid=([^;\r]*)/im.exec(this.#wire.head) ?? []
    return value
  }
}
