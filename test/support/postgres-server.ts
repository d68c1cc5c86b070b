import { execFileSync, spawn, type ChildProcess, type SpawnOptions } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import pg from 'pg'
import { describeWithProgram, freePort, until } from './servers'

/** Where Debian keeps the programs of its newest PostgreSQL; elsewhere they are in the PATH. */
const DEBIAN = '/usr/lib/postgresql'
const [newest = ''] = existsSync(DEBIAN) ? readdirSync(DEBIAN).sort((a, b) => Number(b) - Number(a)) : []
const program = (name: string): string => (newest ? path.join(DEBIAN, newest, 'bin', name) : name)

/** PostgreSQL refuses to be run by root. */
function unprivileged(): SpawnOptions & { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {}
  const idOf = (flag: string): number => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }))
  return { uid: idOf('-u'), gid: idOf('-g') }
}

/** `describe` for tests that start a PostgreSQL of their own. */
export function describeWithOwnPostgres(name: string, body: () => void): void {
  describeWithProgram(program('initdb'), 'postgresql', name, body)
}

export interface PostgresServer {
  readonly port: number
  kill(): Promise<void>
  start(): Promise<void>
  close(): Promise<void>
}

/** Starts a PostgreSQL of the test's own, with a database `test` and a user `postgres`. It waits for the disk as usual. */
export async function startPostgres(): Promise<PostgresServer> {
  const folder = mkdtempSync(path.join(tmpdir(), 'sessile-postgres-'))
  const user = unprivileged()
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid as number)
  const data = path.join(folder, 'data')
  execFileSync(program('initdb'), ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8'], { ...user, cwd: folder })
  const port = await freePort()
  let child: ChildProcess | undefined
  const stop = (): void => void child?.kill('SIGKILL')

  async function start(): Promise<void> {
    process.once('exit', stop)
    // Where the one before was killed, its last processes may keep the new one from starting for a moment.
    await until(async () => {
      if (!child || child.exitCode !== null || child.signalCode !== null) {
        const settings = ['-D', data, '-p', String(port), '-k', folder, '-c', 'listen_addresses=127.0.0.1']
        child = spawn(program('postgres'), settings, { ...user, cwd: folder, stdio: 'ignore' })
      }
      return answers(port)
    })
  }
  async function kill(): Promise<void> {
    process.off('exit', stop)
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    stop()
    await once(child, 'exit')
  }

  await start()
  await query(port, 'postgres', 'CREATE DATABASE test')
  return {
    port,
    start,
    kill,
    async close() {
      await kill()
      rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
    },
  }
}

async function query(port: number, database: string, sql: string): Promise<void> {
  const client = new pg.Client({ host: '127.0.0.1', port, user: 'postgres', database })
  client.on('error', () => undefined)
  await client.connect()
  await client.query(sql)
  await client.end()
}

function answers(port: number): Promise<boolean> {
  return query(port, 'postgres', 'SELECT').then(
    () => true,
    () => false,
  )
}
