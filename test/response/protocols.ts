import { once } from 'node:events'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import http2 from 'node:http2'
import type { AddressInfo } from 'node:net'
import session from '../../src'
import { classicStore, OPTIONS, type AnySession } from '../faults/fault'
import { gate, get, withServer, type Answer } from '../support/app'

/** A store whose saves wait until the test lets them succeed or fail; `saves` are the texts that came. */
export function slowStore() {
  const { opened, open } = gate()
  const began = gate()
  const store = classicStore(session)
  const { set } = store
  let error: Error | undefined
  const saves: string[] = []
  store.set = (id, data, callback) => {
    saves.push(JSON.stringify(data))
    began.open()
    return void opened.then(() => (error ? callback?.(error) : set.call(store, id, data, callback)))
  }
  return {
    store,
    saves,
    began: began.opened,
    release: open,
    fail: () => ((error = new Error('the store is full')), open()),
  }
}

export type HeldRequest = IncomingMessage & { session: AnySession }

/** Plain `http` with sessions; errors that reach `next` are told, and answered while that is possible. */
export function plain(options: session.SessionOptions, handler: (req: HeldRequest, res: ServerResponse) => unknown) {
  const sessions = session({ ...OPTIONS, hints: false, ...options })
  const told: string[] = []
  const listener: RequestListener = (req, res) =>
    sessions(req as never, res as never, (error?: unknown) => {
      if (!error) return void handler(req as HeldRequest, res)
      told.push((error as Error).message)
      if (!res.headersSent) res.end('the error page')
    })
  return { listener, told }
}

export interface Client {
  get(path: string, headers?: Record<string, string>): Promise<Answer>
  method(method: string, path: string): Promise<Answer>
}

/** Both protocols, by the same API on the server. */
export const protocols: Record<
  string,
  (listener: RequestListener, use: (client: Client) => Promise<void>) => Promise<void>
> = {
  'HTTP/1': (listener, use) =>
    withServer(listener, ({ port }) =>
      use({
        get: (path, headers) => get(port, path, headers),
        method: async (method, path) => {
          const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method })
          return { status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text() }
        },
      }),
    ),
  'HTTP/2': async (listener, use) => {
    const server = http2.createServer(listener as never).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const client = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    const ask = async (method: string, path: string, headers: Record<string, string> = {}): Promise<Answer> => {
      const stream = client.request({ ':path': path, ':method': method, ...headers })
      const [answer] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders]
      let body = ''
      for await (const chunk of stream.setEncoding('utf8')) body += String(chunk)
      return { status: Number(answer[':status']), headers: answer, body }
    }
    try {
      await use({ get: (path, headers) => ask('GET', path, headers), method: ask })
    } finally {
      client.destroy()
      server.close()
      await once(server, 'close')
    }
  },
}
