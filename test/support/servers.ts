import { spawnSync } from 'node:child_process'
import { describe } from 'vitest'

const SERVERS = {
  redis: { port: 6379, start: 'redis-server --port 6379' },
  postgres: { port: 5432, start: 'pg_ctlcluster 15 main start (a PostgreSQL on 127.0.0.1:5432 with a database test)' },
  mysql: {
    port: 3306,
    start: 'mariadbd-safe (a MariaDB or MySQL on 127.0.0.1:3306, database test, root without password)',
  },
} as const

function answers(port: number): boolean {
  const knock = `require('net').connect(${port}, '127.0.0.1').on('connect', () => process.exit(0)).on('error', () => process.exit(1))`
  return spawnSync(process.execPath, ['-e', knock]).status === 0
}

/**
 * `describe` for tests that talk to a real server. Without it they are skipped, and it is said how to start it; in CI a
 * missing server is a failure.
 */
export function describeWith(server: keyof typeof SERVERS, name: string, body: () => void): void {
  const { port, start } = SERVERS[server]
  if (process.env['CI'] || answers(port)) return void describe(name, body)
  console.warn(`skipped: ${name}, as nothing answers on port ${port}; start it: ${start}`)
  describe.skip(name, body)
}
