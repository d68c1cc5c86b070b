import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/** A connection to a local server that gives the bytes as they came. */
export class RawConnection {
  readonly socket: Socket
  text = ''
  #awaited: { what: string; resolve: () => void } | undefined

  constructor(port: number) {
    this.socket = connect(port, '127.0.0.1')
    this.socket.setEncoding('latin1')
    this.socket.on('error', () => undefined)
    this.socket.on('data', (chunk: string) => {
      this.text += chunk
      if (this.#awaited && this.text.includes(this.#awaited.what)) this.#awaited.resolve()
    })
  }

  send(text: string): this {
    this.socket.write(text)
    return this
  }

  /** Waits until this text has come. */
  async until(what: string): Promise<void> {
    if (this.text.includes(what)) return
    await new Promise<void>((resolve) => (this.#awaited = { what, resolve }))
  }

  /** Waits until the server closes the connection. */
  async ended(): Promise<string> {
    if (!this.socket.closed) await once(this.socket, 'close')
    return this.text
  }
}

export function rawGet(path = '/', method = 'GET', headers = 'Connection: close'): string {
  return `${method} ${path} HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n\r\n`
}

/** The response to one request, as it came. */
export function rawResponse(port: number, path?: string, method?: string): Promise<string> {
  return new RawConnection(port).send(rawGet(path, method)).ended()
}

/** Without what differs from one response to the next, and without the cookies. */
export function comparable(response: string): string {
  return response.replace(/^(date|set-cookie):.*\r\n/gim, '')
}
