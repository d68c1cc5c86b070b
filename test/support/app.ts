import { once } from 'node:events'
import { createServer, request, type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import type { RequestHandler } from 'express'
import sessile from '../../src'

export type SessionFactory = typeof sessile

/** express-session, the oracle. Loaded without its types, which would declare `req.session` a second time. */
export const original = createRequire(__filename)('express-session') as SessionFactory

/** The two implementations, by the names that tests print. */
export const implementations = { 'express-session': original, sessile }

export const SECRET = 'a secret for tests only, 3f9c2a7d51'

export interface Answer {
  status: number
  headers: IncomingHttpHeaders
  body: string
}

export interface RunningServer {
  server: Server
  port: number
  url: string
  get(path: string, headers?: Record<string, string>): Promise<Answer>
  close(): Promise<void>
}

/** Serves a handler (an Express app is one) on a free port. */
async function serve(handler: RequestListener): Promise<RunningServer> {
  return listen(createServer(handler))
}

export async function listen(server: Server): Promise<RunningServer> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    server,
    port,
    url: `http://127.0.0.1:${port}`,
    get: (path, headers) => get(port, path, headers),
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

export function get(port: number, path: string, headers: Record<string, string> = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const req = request({ host: '127.0.0.1', port, path, headers, agent: false }, (res) => {
      let body = ''
      res.setEncoding('utf8')
      res.on('data', (text: string) => (body += text))
      res.on('end', () => resolve({ status: res.statusCode ?? 0, headers: res.headers, body }))
      res.on('error', reject)
    })
    req.on('error', reject)
    req.end()
  })
}

/** Serves a handler while `use` runs. */
export async function withServer<T>(handler: RequestListener, use: (server: RunningServer) => Promise<T>): Promise<T> {
  const server = await serve(handler)
  try {
    return await use(server)
  } finally {
    await server.close()
  }
}

/** Lets everything happen that needs no waiting for the outside: promises, ticks, immediates. */
export async function settled(turns = 20): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve))
}

/** Hands the error of an asynchronous handler to the error handler, as Express 5 does by itself and Express 4 does not. */
export function caught(handler: RequestHandler<Record<string, string>>): RequestHandler<Record<string, string>> {
  return (req, res, next) => {
    const handled: unknown = handler(req, res, next)
    if (handled instanceof Promise) handled.catch(next)
  }
}

/** Something that a test waits for, and something that waits for the test. */
export const stop = () => ({ reached: gate(), goOn: gate() })

/** A door that a test opens by hand. */
export function gate(): { opened: Promise<void>; open: () => void } {
  let open!: () => void
  const opened = new Promise<void>((resolve) => (open = resolve))
  return { opened, open }
}
