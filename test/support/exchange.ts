import { IncomingMessage, ServerResponse, type IncomingHttpHeaders } from 'node:http'
import type { Socket } from 'node:net'
import { Writable } from 'node:stream'

export interface Sent {
  method?: string
  url?: string
  headers?: IncomingHttpHeaders
}

export interface Received {
  status: number
  /** Without `Date`; names in lower case, in the order sent. */
  headers: [name: string, value: string][]
  body: string
}

/**
 * One request and its response with Node's own objects and without a network: fast, and each write to the socket can
 * be seen. What is written by one call of the socket's `write` or `writev` is one element of `writes`.
 */
export class Exchange {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly writes: Buffer[] = []
  readonly finished: Promise<void>

  constructor({ method = 'GET', url = '/', headers = {} }: Sent = {}) {
    const { writes } = this
    const socket = new Writable({
      write(chunk: Buffer, _encoding, done) {
        writes.push(chunk)
        done()
      },
      writev(chunks, done) {
        writes.push(Buffer.concat(chunks.map(({ chunk, encoding }) => toBuffer(chunk, encoding))))
        done()
      },
    }) as unknown as Socket
    this.req = Object.assign(new IncomingMessage(socket), { method, url, headers })
    this.req.httpVersionMajor = this.req.httpVersionMinor = 1
    this.req.httpVersion = '1.1'
    this.req.push(null)
    this.res = new ServerResponse(this.req)
    this.res.assignSocket(socket)
    this.finished = new Promise((resolve) => this.res.once('finish', resolve))
  }

  get received(): Received {
    return parse(Buffer.concat(this.writes))
  }
}

/** Sends one request through a handler and waits for its response. */
export async function exchange(
  handler: (req: IncomingMessage, res: ServerResponse) => void,
  sent?: Sent,
): Promise<Received> {
  const one = new Exchange(sent)
  handler(one.req, one.res)
  await one.finished
  return one.received
}

function toBuffer(chunk: Buffer | string, encoding: string): Buffer {
  return typeof chunk === 'string' ? Buffer.from(chunk, encoding as BufferEncoding) : chunk
}

function parse(bytes: Buffer): Received {
  const text = bytes.toString('latin1')
  const end = text.indexOf('\r\n\r\n')
  const [statusLine = '', ...lines] = text.slice(0, end).split('\r\n')
  const headers = lines
    .map((line): [string, string] => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
    })
    .filter(([name]) => name !== 'date')
  const chunked = headers.some(([name, value]) => name === 'transfer-encoding' && value === 'chunked')
  const body = text.slice(end + 4)
  return {
    status: Number(statusLine.split(' ')[1]),
    headers,
    body: Buffer.from(chunked ? dechunk(body) : body, 'latin1').toString(),
  }
}

function dechunk(body: string): string {
  let text = ''
  for (let at = 0; ;) {
    const lineEnd = body.indexOf('\r\n', at)
    const size = parseInt(body.slice(at, lineEnd), 16)
    if (lineEnd === -1 || !(size > 0)) return text
    text += body.slice(lineEnd + 2, lineEnd + 2 + size)
    at = lineEnd + 2 + size + 2
  }
}
