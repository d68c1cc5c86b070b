import { randomBytes } from 'node:crypto'
import type { Commands } from './redis-clients'
import { ONCE, REMEMBERED, type Script } from './redis-scripts'

/** Begins the names of this process's changes. */
const CHANGES = randomBytes(9).toString('base64url')

/** The part of a key in braces: in a Cluster, it decides where the key is. */
const HASH_TAG = /^[^{]*\{([^}]+)\}/

/** What is asked of the server, and asked again where an answer was lost: whatever the client does, each change is made once. */
export class Server {
  readonly #commands: Commands
  readonly #notes: string
  #changeCount = 0

  /** @param notes begins the keys under which the server notes what it has done */
  constructor(commands: Commands, notes: string) {
    this.#commands = commands
    this.#notes = notes
  }

  /** Makes a change once, though the client may send it twice, as its first answer was lost with the connection. */
  async change(script: Script, keys: readonly string[], args: readonly string[]): Promise<string> {
    const note = this.#commands.sendsAgain ? this.#noteFor(keys[0] as string) : undefined
    if (note === undefined) return String(await this.send(script, keys, args))
    const sent = Date.now()
    const reply = String(await this.send(ONCE.get(script) as Script, [...keys, note], args))
    if (Date.now() - sent < REMEMBERED || !reply.includes('0')) return reply
    throw new Error(
      'RedisStore: the server was away for so long that it is not known whether it has made a change; see the option timeout',
    )
  }

  /** The key of a change: in a Cluster in the slot of the key that it concerns, or none if that is too odd to have another in it. */
  #noteFor(key: string): string | undefined {
    const whole = this.#commands.keyPrefix + key
    const tag = HASH_TAG.exec(whole)?.[1]
    if (tag === undefined && whole.includes('}') && this.#commands.isCluster) return undefined
    return `${this.#notes}{${tag ?? whole}}:${CHANGES}${++this.#changeCount}`
  }

  /** Reads; so it does no harm to ask again when the connection was lost before the answer came. */
  async ask(command: string | Script, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    try {
      return await this.send(command, keys, args)
    } catch (error) {
      if (!isLostConnection(error)) throw error
      return this.send(command, keys, args)
    }
  }

  async send(command: string | Script, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    const { send } = this.#commands
    try {
      if (typeof command === 'string') return await send([command], keys, args)
      try {
        return await send(['evalsha', command.sha, String(keys.length)], keys, args)
      } catch (error) {
        if (!String(error).includes('NOSCRIPT')) throw error
        return await send(['eval', command.source, String(keys.length)], keys, args)
      }
    } catch (error) {
      throw this.#commands.explained(error)
    }
  }
}

function isLostConnection(error: unknown): boolean {
  return /socket closed|ECONNRESET|EPIPE/i.test(String(error))
}
