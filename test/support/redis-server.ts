import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describeWithProgram, freePort, until } from './servers'

/** `describe` for tests that start Redis servers of their own. */
export function describeWithOwnRedis(name: string, body: () => void): void {
  describeWithProgram('redis-server', 'redis-server', name, body)
}

export interface RedisServer {
  readonly port: number
  /** Runs redis-cli on it. */
  cli(...args: string[]): string
  /** The commands that it has run since the last call, but for those of connecting. */
  commands(): Record<string, number>
  kill(): Promise<void>
  start(): Promise<void>
  close(): Promise<void>
}

const CONNECTING = ['info', 'config|resetstat', 'hello', 'client|setinfo', 'select', 'auth', 'command']

/** Starts a Redis of the test's own. Its data is kept on disk, so that it survives a kill. */
export function startRedis(...settings: string[]): Promise<RedisServer> {
  const kept = ['--save', '', '--appendonly', 'yes', '--appendfsync', 'always']
  return startOnFreePort((port) => ['--port', String(port), ...kept, ...settings])
}

/** Starts one on a port that nobody else has meanwhile taken. */
async function startOnFreePort(settingsFor: (port: number) => string[]): Promise<RedisServer> {
  for (;;) {
    const server = redisServer(await freePort(), settingsFor)
    try {
      await server.start()
      return server
    } catch {
      await server.close()
    }
  }
}

function redisServer(port: number, settingsFor: (port: number) => string[]): RedisServer {
  const folder = mkdtempSync(path.join(tmpdir(), 'sessile-redis-'))
  let child: ChildProcess | undefined
  const stop = (): void => void child?.kill('SIGKILL')
  const cli = (...args: string[]): string =>
    spawnSync('redis-cli', ['-p', String(port), ...args], { encoding: 'utf8', timeout: 5000 }).stdout.trim()
  return {
    port,
    cli,
    commands() {
      const calls = [...cli('info', 'commandstats').matchAll(/^cmdstat_([\w|]+):calls=(\d+)/gm)]
      cli('config', 'resetstat')
      const counts = calls.map(([, name, count]) => [name as string, Number(count)] as const)
      return Object.fromEntries(counts.filter(([name]) => !CONNECTING.includes(name)))
    },
    async start() {
      const started = spawn('redis-server', [...settingsFor(port), '--dir', folder, '--bind', '127.0.0.1'], {
        stdio: 'ignore',
      })
      child = started
      process.once('exit', stop)
      await until(() => {
        if (started.exitCode !== null) throw new Error(`redis-server ended with ${started.exitCode}`)
        // While it loads its data it tells of itself, and refuses the rest.
        return cli('info', 'server').includes(`process_id:${started.pid}\r`) && cli('ping') === 'PONG'
      })
    },
    async kill() {
      process.off('exit', stop)
      if (!child || child.exitCode !== null || child.signalCode !== null) return
      stop()
      await once(child, 'exit')
    },
    async close() {
      await this.kill()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Three servers with a third of the slots each. */
export async function startCluster(): Promise<{ servers: RedisServer[]; close(): Promise<void> }> {
  const servers = await Promise.all([1, 2, 3].map(() => startRedis('--cluster-enabled', 'yes')))
  const nodes = servers.map(({ port }) => `127.0.0.1:${port}`)
  spawnSync('redis-cli', ['--cluster', 'create', ...nodes, '--cluster-yes'])
  for (const { cli } of servers) await until(() => cli('cluster', 'info').includes('cluster_state:ok'))
  return {
    servers,
    async close() {
      await Promise.all(servers.map((server) => server.close()))
    },
  }
}

/** A master called `sessile`, its replica, and the Sentinel that watches them. */
export async function startSentinel(): Promise<{
  sentinel: RedisServer
  master: RedisServer
  /** Waits until the replica has all that the master has. */
  replicated(): Promise<void>
  close(): Promise<void>
}> {
  // Unless told otherwise, a master waits five seconds for further replicas before it sends its data to the first.
  const master = await startRedis('--repl-diskless-sync-delay', '0')
  const replica = await startRedis('--replicaof', '127.0.0.1', String(master.port))
  const folder = mkdtempSync(path.join(tmpdir(), 'sessile-sentinel-'))
  // A Sentinel reads its settings from a file, into which it writes what it learns.
  const file = path.join(folder, 'sentinel.conf')
  const sentinel = await startOnFreePort((port) => {
    const monitor = `sentinel monitor sessile 127.0.0.1 ${master.port} 1`
    writeFileSync(file, `port ${port}\n${monitor}\nsentinel down-after-milliseconds sessile 2000\n`)
    return [file, '--sentinel']
  })
  await until(() => sentinel.cli('sentinel', 'replicas', 'sessile').includes(String(replica.port)))
  return {
    sentinel,
    master,
    // WAIT would not do: it waits for what its own connection has written.
    replicated: () =>
      until(() => {
        const { acknowledged, written } =
          /^slave0:.*,offset=(?<acknowledged>\d+)[^]*^master_repl_offset:(?<written>\d+)/m.exec(
            master.cli('info', 'replication'),
          )?.groups ?? {}
        return written !== undefined && acknowledged === written
      }),
    async close() {
      await Promise.all([sentinel, master, replica].map((server) => server.close()))
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
