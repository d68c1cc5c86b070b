import { has, show } from '../base/checks'
import { OptionError, warnOnce } from '../base/errors'
import { isPromise } from '../base/maybe-promise'
import { surviveLostConnections } from './lost-connections'

/** What the store needs of a client, whatever package it comes from. */
export interface Commands {
  /** The prefix that the client is configured with, or `''`. `send` adds it; the pattern of a scan has to include it. */
  readonly keyPrefix: string
  /** Whether the keys of a command have to be in one slot. */
  readonly isCluster: boolean
  /** Whether the client sends a command again by itself whose answer was lost with the connection. */
  readonly sendsAgain: boolean
  /** What is wrong with the settings of the client, a sentence each that says what to do. */
  findings(): string[]
  /** The error of a command, without the key and the data that were sent, and with what to do about a client that is closed. */
  explained(error: unknown): unknown
  /** Sends a command (one word or more before its keys, in lower case) to the master that has the first key. */
  send(command: readonly string[], keys: readonly string[], args: readonly string[]): Promise<unknown>
  /** Every master, in the order of their names. */
  servers(): Promise<Master[]>
}

interface Master {
  readonly name: string
  call(...args: string[]): Promise<unknown>
}

interface IoRedisOptions {
  keyPrefix?: string
  host?: string
  port?: number
  sentinels?: unknown
  autoResendUnfulfilledCommands?: boolean
  socketTimeout?: number
  reconnectOnError?: unknown
}

interface IoRedis {
  readonly isCluster?: boolean
  readonly status: string
  readonly options: IoRedisOptions & { redisOptions?: IoRedisOptions }
  call(...args: string[]): Promise<unknown>
  nodes?(role: 'master'): IoRedis[]
}

interface NodeRedis {
  readonly isOpen?: boolean
  readonly _keyPrefix?: string
  readonly options?: { legacyMode?: boolean }
  readonly v4?: { sendCommand(args: string[]): Promise<unknown> }
  sendCommand(args: string[]): Promise<unknown>
}

interface NodeRedisSentinel extends Omit<NodeRedis, 'sendCommand'> {
  sendCommand(isReadonly: boolean, args: string[]): Promise<unknown>
}

interface NodeRedisCluster extends Omit<NodeRedis, 'sendCommand'> {
  readonly masters: Array<{ address: string }>
  sendCommand(key: string, isReadonly: boolean, args: string[]): Promise<unknown>
  nodeClient(master: object): NodeRedis | Promise<NodeRedis>
}

/** @throws OptionError when it is no client */
export function commandsOf(client: unknown): Commands {
  // A function has a `call`, too, and a pipeline has everything but a connection. The callback interfaces of these packages,
  // and redis before 4, have no method `connect`.
  if (typeof client !== 'object' || !has(client, 'connect')) throw noClient(client)
  if (has(client, 'call')) return ioRedis(client as IoRedis)
  if (!has(client, 'sendCommand')) throw noClient(client)
  surviveLostConnections(client as object, warnOfLostConnection)
  if (has(client, 'nodeClient')) return nodeRedisCluster(client as NodeRedisCluster)
  if (has(client, 'getMasterNode')) return nodeRedisSentinel(client as NodeRedisSentinel)
  return nodeRedis(client as NodeRedis)
}

function noClient(given: unknown): OptionError {
  const what = isPromise(given) ? 'a promise: await it first' : show(given)
  return new OptionError(
    `RedisStore: option client must be a client made by the package redis (4 or later) or ioredis (5 or later); it is ${what}`,
  )
}

function warnOfLostConnection(error: unknown): void {
  warnOnce('SESSION_REDIS', `the Redis client reports: ${String(error)}; listen to its 'error' events to hear of all`)
}

function ioRedis(client: IoRedis): Commands {
  const isCluster = client.isCluster === true
  const serverOf = (node: IoRedis): Master => ({
    name: isCluster ? `${node.options.host}:${node.options.port}` : '',
    call: (...args) => node.call(...args),
  })
  return {
    keyPrefix: client.options.keyPrefix ?? '',
    isCluster,
    sendsAgain: isCluster || client.options.autoResendUnfulfilledCommands !== false,
    findings: () => findingsOf(client),
    explained: (error) => (client.status === 'end' ? notConnected(error) : withoutWords(error)),
    send: (command, keys, args) => client.call(...command, ...keys, ...args),
    async servers() {
      if (!isCluster || !client.nodes) return [serverOf(client)]
      // Before it is connected, the client knows only the nodes that it was configured with.
      if (client.status !== 'ready') await client.call('ping')
      return client.nodes('master').map(serverOf).sort(byName)
    },
  }
}

/** What keeps ioredis from working again after a failure, however long one waits. */
function findingsOf({ isCluster, options }: IoRedis): string[] {
  const { autoResendUnfulfilledCommands, socketTimeout } = isCluster ? (options.redisOptions ?? {}) : options
  const findings: string[] = []
  if (!socketTimeout) {
    findings.push(
      'the client waits for ever on a connection whose other end is gone; give ioredis `socketTimeout: 5000`' +
        (isCluster ? ' (in redisOptions)' : ''),
    )
  }
  if (!isCluster && !options.sentinels && !options.reconnectOnError) {
    findings.push(
      'the client stays with a master that has become a replica; give ioredis ' +
        "`reconnectOnError: (error) => (error.message.includes('READONLY') ? 2 : false)`",
    )
  }
  if (autoResendUnfulfilledCommands === false) {
    findings.push(
      'the client never answers a command whose connection was lost; leave out autoResendUnfulfilledCommands: ' +
        'RedisStore makes each change once, however often it is sent',
    )
  }
  return findings
}

function nodeRedis(client: NodeRedis): Commands {
  // In the legacy mode of redis 4, the client takes callbacks, and its `v4` returns promises.
  const sender = (client.options?.legacyMode && client.v4) || client
  return oneServer(client, false, (...args) => sender.sendCommand(args))
}

/** Looks for the master again when a command fails, and sends it there. */
function nodeRedisSentinel(client: NodeRedisSentinel): Commands {
  return oneServer(client, true, (...args) => client.sendCommand(false, args))
}

function oneServer(client: Omit<NodeRedis, 'sendCommand'>, sendsAgain: boolean, call: Master['call']): Commands {
  const { _keyPrefix: keyPrefix = '' } = client
  return {
    keyPrefix,
    isCluster: false,
    sendsAgain,
    findings: () => [],
    explained: (error) => (client.isOpen === false ? notConnected(error) : withoutWords(error)),
    send: (command, keys, args) => call(...command, ...withPrefix(keyPrefix, keys), ...args),
    servers: () => Promise.resolve([{ name: '', call }]),
  }
}

function nodeRedisCluster(client: NodeRedisCluster): Commands {
  const { _keyPrefix: keyPrefix = '' } = client
  return {
    keyPrefix,
    isCluster: true,
    sendsAgain: false,
    findings: () => [],
    explained: (error) => (client.isOpen === false ? notConnected(error) : withoutWords(error)),
    send(command, keys, args) {
      const prefixed = withPrefix(keyPrefix, keys)
      return client.sendCommand(prefixed[0] as string, false, [...command, ...prefixed, ...args])
    },
    async servers() {
      const serverOf = async (master: { address: string }): Promise<Master> => {
        const node = await client.nodeClient(master)
        return { name: master.address, call: (...args) => node.sendCommand(args) }
      }
      return (await Promise.all(client.masters.map(serverOf))).sort(byName)
    },
  }
}

function notConnected(cause: unknown): Error {
  return new Error(
    'RedisStore: the client is not connected: `await client.connect()` before the first request, and close it after the last',
    { cause },
  )
}

/** Servers repeat the words of a command that they do not know, and ioredis has those of each one that failed. */
function withoutWords(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const [, unknown] = /^(ERR unknown command .*?),? with args/.exec(error.message) ?? []
  if (unknown !== undefined) return new Error(unknown)
  if ('command' in error) Object.defineProperty(error, 'command', { enumerable: false })
  return error
}

function withPrefix(prefix: string, keys: readonly string[]): readonly string[] {
  return prefix === '' ? keys : keys.map((key) => prefix + key)
}

function byName(a: Master, b: Master): number {
  return a.name < b.name ? -1 : 1
}
