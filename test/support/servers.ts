import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import { describe } from 'vitest'

const SERVERS = {
  redis: { port: 6379, start: 'redis-server --port 6379' },
  postgres: { port: 5432, start: 'pg_ctlcluster 15 main start (a PostgreSQL on 127.0.0.1:5432 with a database test)' },
  mysql: {
    port: 3306,
    start: 'mariadbd-safe (a MariaDB or MySQL on 127.0.0.1:3306, database test, root without password)',
  },
} as const

/**
 * `describe` for tests that talk to a real server. Without it they are skipped, and it is said how to start it; in CI a
 * missing server is a failure.
 */
export function describeWith(server: keyof typeof SERVERS, name: string, body: () => void): void {
  const { port, start } = SERVERS[server]
  describeIf(() => answers(port), name, body, `as nothing answers on port ${port}; start it: ${start}`)
}

/** The same for tests that start a program, which Debian has in the package named. */
export function describeWithProgram(program: string, debianPackage: string, name: string, body: () => void): void {
  const isThere = (): boolean => spawnSync(program, ['--version']).error === undefined
  describeIf(isThere, name, body, `as there is no ${program}; install it: apt-get install ${debianPackage}`)
}

function describeIf(isThere: () => boolean, name: string, body: () => void, why: string): void {
  const tags = ['server']
  // `npm test` leaves them out, and so looks for nothing.
  if (process.env['TEST_MODE'] === 'quick' || process.env['CI'] || isThere()) return void describe(name, { tags }, body)
  console.warn(`skipped: ${name}, ${why}`)
  describe.skip(name, { tags }, body)
}

/** Answered at once, as tests are collected: by another process. */
function answers(port: number): boolean {
  const knock = `require('net').connect(${port}, '127.0.0.1').on('connect', () => process.exit(0)).on('error', () => process.exit(1))`
  return spawnSync(process.execPath, ['-e', knock]).status === 0
}

/** Not too high, as the bus of a Redis Cluster takes the port 10,000 above. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port < 55_000 ? port : freePort()
}

/** Waits until somebody listens on a port. */
export async function untilListening(port: number): Promise<void> {
  await until(async () => {
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
      return true
    } catch {
      return false
    } finally {
      socket.destroy()
    }
  })
}

/** Waits for what cannot be awaited: it is asked for again and again. */
export async function until(condition: () => unknown): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20))
}
