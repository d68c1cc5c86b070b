import { connect } from 'node:net'
import { describe } from 'vitest'

const HOW = {
  redis: { port: 6379, start: 'redis-server --port 6379' },
  postgres: { port: 5432, start: 'pg_ctlcluster 15 main start (any PostgreSQL on 127.0.0.1:5432 with a database test)' },
  mysql: { port: 3306, start: 'mariadbd-safe (any MySQL or MariaDB on 127.0.0.1:3306 with a database test, root without a password)' },
} as const

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.on('connect', () => (socket.destroy(), resolve(true)))
    socket.on('error', () => resolve(false))
  })
}

/**
 * `describe` for tests that talk to a real server. Without it they are skipped, and it is said how to start it; in CI a
 * missing server is a failure.
 */
export async function describeWith(server: keyof typeof HOW, name: string, body: () => void): Promise<void> {
  const { port, start } = HOW[server]
  if ((await answers(port)) || process.env['CI']) return void describe(name, body)
  console.warn(`skipped: ${name}, as nothing answers on port ${port}; start it: ${start}`)
  describe.skip(name, body)
}
