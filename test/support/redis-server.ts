import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'

/** Whether this machine can start servers of its own. */
export const hasRedisServer = spawnSync('redis-server', ['--version']).status === 0 || Boolean(process.env['CI'])

export interface RedisServer {
  readonly port: number
  /** Runs redis-cli on it. */
  cli(...args: string[]): string
  kill(): Promise<void>
  start(): Promise<void>
  close(): Promise<void>
}

export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

async function untilUp(port: number): Promise<void> {
  for (;;) {
    const up = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1')
      socket.on('connect', () => (socket.destroy(), resolve(true)))
      socket.on('error', () => resolve(false))
    })
    if (up) return
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Starts a Redis of the test's own. Its data is kept on disk, so that it survives a kill. */
export async function startRedis(...settings: string[]): Promise<RedisServer> {
  const folder = mkdtempSync(path.join(tmpdir(), 'sessile-redis-'))
  // A cluster's bus takes the port 10,000 above.
  let port = await freePort()
  while (port > 55_000) port = await freePort()
  let child: ChildProcess | undefined
  const server: RedisServer = {
    port,
    cli: (...args) => spawnSync('redis-cli', ['-p', String(port), ...args], { encoding: 'utf8' }).stdout.trim(),
    async start() {
      const files = ['--dir', folder, '--save', '', '--appendonly', 'yes', '--appendfsync', 'always']
      child = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', ...files, ...settings], {
        stdio: 'ignore',
      })
      await untilUp(port)
    },
    kill: () =>
      new Promise((resolve) => {
        if (!child || child.exitCode !== null || child.signalCode !== null) return resolve()
        child.once('exit', () => resolve())
        child.kill('SIGKILL')
      }),
    async close() {
      await server.kill()
      rmSync(folder, { recursive: true, force: true })
    },
  }
  await server.start()
  return server
}

/** Three servers with a third of the slots each. */
export async function startCluster(): Promise<{ ports: number[]; close(): Promise<void> }> {
  const servers = await Promise.all(
    [0, 1, 2].map(() => startRedis('--cluster-enabled', 'yes', '--cluster-config-file', 'nodes.conf')),
  )
  const nodes = servers.map(({ port }) => `127.0.0.1:${port}`)
  spawnSync('redis-cli', ['--cluster', 'create', ...nodes, '--cluster-yes'])
  for (const { cli } of servers) {
    while (!cli('cluster', 'info').includes('cluster_state:ok')) await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return {
    ports: servers.map(({ port }) => port),
    async close() {
      await Promise.all(servers.map((server) => server.close()))
    },
  }
}
