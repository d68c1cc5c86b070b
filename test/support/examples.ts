import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'

let running: ChildProcess | undefined

/** Starts an example and answers the address that it prints. */
export function start(command: string, ...args: string[]): Promise<string> {
  const child = spawn(command, args, {
    cwd: path.join(__dirname, '../..'),
    env: { ...process.env, PORT: '0', NODE_NO_WARNINGS: '1' },
    // In a group of its own: npm does not pass on that it is to end.
    detached: true,
  })
  running = child
  return new Promise((resolve, reject) => {
    let printed = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      printed += chunk
      const [address] = /http:\/\/localhost:\d+/.exec(printed) ?? []
      if (address) resolve(address)
    })
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (printed += chunk))
    child.on('exit', () => reject(new Error(printed)))
  })
}

/** Ends the example that runs. */
export async function stop(): Promise<void> {
  if (!running?.pid || running.exitCode !== null || running.signalCode !== null) return
  process.kill(-running.pid)
  await once(running, 'exit')
}
