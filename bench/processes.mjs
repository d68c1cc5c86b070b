import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const ENV = { ...process.env, NODE_ENV: 'production', NO_DEPRECATION: 'express-session' }

/** Starts a program of this folder that answers by messages; it is quiet unless it fails. */
export function start(program, args = [], { execArgv = [], env = {} } = {}) {
  const child = fork(fileURLToPath(program), args, {
    execArgv,
    env: { ...ENV, ...env },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  let complaints = ''
  child.stderr.on('data', (chunk) => (complaints += chunk))
  child.on('exit', (code) => {
    if (code) child.emit('failed', new Error(`${args.join(' ')} ended with ${code}:\n${complaints}`))
  })
  return child
}

/** Waits for the next message of a program. */
export async function message(child) {
  const failure = once(child, 'failed').then(([error]) => Promise.reject(error))
  const [answer] = await Promise.race([once(child, 'message'), failure])
  return answer
}

/** Runs a program to its end, for the one message it sends. */
export async function ask(program, args, options) {
  const child = start(program, args, options)
  const answer = await message(child)
  child.disconnect()
  return answer
}
