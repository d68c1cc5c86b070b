import { fork } from 'node:child_process'
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
export function message(child) {
  return new Promise((resolve, reject) => {
    const settle = (settled) => (value) => {
      child.off('message', answered).off('failed', failed)
      settled(value)
    }
    const answered = settle(resolve)
    const failed = settle(reject)
    child.on('message', answered).on('failed', failed)
  })
}

/** Runs a program to its end, for the one message it sends. */
export async function ask(program, args, options) {
  const child = start(program, args, options)
  const answer = await message(child)
  child.disconnect()
  return answer
}
