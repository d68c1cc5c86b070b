import { fork, type ChildProcess } from 'node:child_process'
import { Agent, get } from 'node:http'
import path from 'node:path'

/** An app in another process. */
export interface Shop {
  readonly process: ChildProcess
  /** Sends a request with this cookie; the answer's status and body, and the cookie from then on. */
  visit(path: string, cookie?: string): Promise<{ status: number; body: string; cookie: string | undefined }>
  close(): void
}

export type Library = 'sessile' | 'express-session'
export type Kind = 'redis' | 'postgres' | 'mysql' | 'sqlite' | 'dynamodb'

/** Starts an app over a store: `name` is the prefix, the table or the file. */
export async function openShop(library: Library, kind: Kind, name: string, settings = {}, env = {}): Promise<Shop> {
  const child = fork(path.join(__dirname, 'shop.cjs'), [library, kind, name, JSON.stringify(settings)], {
    env: { ...process.env, NO_DEPRECATION: 'express-session', NODE_NO_WARNINGS: '1', ...env },
  })
  const port = await new Promise<number>((resolve, reject) => {
    child.once('message', (message) => resolve((message as { port: number }).port))
    child.once('exit', (code) => reject(new Error(`the app ended with ${code}`)))
  })
  const agent = new Agent({ keepAlive: true, maxSockets: 100 })
  return {
    process: child,
    visit: (path, cookie) =>
      new Promise((resolve, reject) => {
        const headers = cookie ? { cookie } : {}
        get({ host: '127.0.0.1', port, path, headers, agent }, (res) => {
          let body = ''
          res.setEncoding('utf8').on('data', (chunk) => (body += chunk))
          res.on('end', () => {
            const set = res.headers['set-cookie']?.[0]?.split(';')[0]
            resolve({ status: res.statusCode ?? 0, body, cookie: set ?? cookie })
          })
        }).on('error', reject)
      }),
    close() {
      agent.destroy()
      child.disconnect()
    },
  }
}

/** The first alone: it may make the table. */
export async function openShops(
  count: number,
  library: Library,
  kind: Kind,
  name: string,
  settings = {},
): Promise<Shop[]> {
  const first = await openShop(library, kind, name, settings)
  const others = Array.from({ length: count - 1 }, () => openShop(library, kind, name, settings))
  return [first, ...(await Promise.all(others))]
}
