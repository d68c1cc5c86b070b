import { createHash } from 'node:crypto'
import type session = require('../index')
import { a, aSerializer, anything, aString, has, isPositive, optionsOf, unsupported, type Check } from '../base/checks'
import { OptionError, warnOnce } from '../base/errors'
import {
  DEFAULT_TTL,
  RecordStore,
  type RecordPage,
  type Serializer,
  type SessionRecord,
  type WriteCondition,
  type Version,
} from '../store/record-store'
import { surviveLostConnections } from './lost-connections'

export interface RedisStoreOptions {
  /**
   * A connected client: of `redis` (4, 5, 6) or `ioredis` (5, 6), for a single server, a pool, Sentinel or Cluster. It
   * stays yours: the store never closes it, and its `error` events are yours to listen to.
   */
  client: object
  /** Begins every key. Default: `'sess:'`. */
  prefix?: string | undefined
  /**
   * Lifetime in seconds of a session whose cookie has no expiry; a function of the session decides for every session.
   * Default: 86,400.
   */
  ttl?: number | ((session: session.SessionData) => number) | undefined
  /** How sessions become text. Default: JSON. */
  serializer?: Serializer | undefined
  /** How many keys a step of a scan looks at. Default: 100. */
  scanCount?: number | undefined
}

const OPTIONS: Record<keyof RedisStoreOptions | 'disableTTL' | 'disableTouch', Check> = {
  client: anything,
  prefix: aString,
  ttl: a(
    'a positive number of seconds, or a function of the session that returns one',
    (value) => typeof value === 'function' || (isPositive(value) && Number.isFinite(value)),
  ),
  serializer: aSerializer,
  scanCount: a('a positive whole number', (value) => isPositive(value) && Number.isInteger(value)),
  disableTTL: unsupported(': a session that never ends is never deleted'),
  disableTouch: unsupported('; give the middleware the option touchAfter: Infinity'),
}

/**
 * Sessions in Redis or Valkey, under the keys and in the JSON of connect-redis. Reading renews in the same command
 * (GETEX); a conditional write is one command, too. No command concerns more than one key.
 */
export class RedisStore extends RecordStore {
  /** The index by user ends with the sessions in it. */
  override readonly linksExpire = true
  readonly #commands: Commands
  readonly #sessions: string
  readonly #users: string
  readonly #ttlOf: ((session: session.SessionData) => number) | undefined
  readonly #scanCount: number
  /** Servers before 6.2 do not know GETEX. */
  #hasGetex = true

  /** @throws OptionError when an option cannot be used */
  constructor(options: RedisStoreOptions) {
    super()
    const given = optionsOf(this, RedisStore, options, OPTIONS)
    const { client, prefix = 'sess:', ttl = DEFAULT_TTL / 1000, serializer = JSON, scanCount = 100 } = given
    this.#commands = commandsOf(client)
    this.#sessions = prefix
    // No key of a session begins like a key of the index, so that neither is taken for the other.
    this.#users = (prefix.startsWith('u') ? 'index:' : 'users:') + prefix
    this.#scanCount = scanCount
    if (typeof ttl === 'number') this.ttl = ttl * 1000
    this.#ttlOf = typeof ttl === 'function' ? ttl : undefined
    this.serializer = serializer
  }

  override expiresOf(data: { cookie: { expires?: unknown } }): number {
    if (!this.#ttlOf) return super.expiresOf(data)
    const ttl: unknown = this.#ttlOf(data as session.SessionData)
    if (Number.isFinite(ttl)) return Date.now() + (ttl as number) * 1000
    throw invalid(`option ttl must return a number of seconds; it returned ${String(ttl)}`)
  }

  async read(id: string, renewTo?: number): Promise<SessionRecord | null> {
    const key = this.#sessions + id
    // Where the session itself decides when it ends, it has to be read first.
    if (renewTo === undefined || this.#ttlOf || renewTo <= Date.now()) return this.#get(key)
    const text = await this.#getAndRenew(key, left(renewTo))
    return text === null ? null : { text, expires: renewTo, version: text, renewed: true }
  }

  /** The end is counted from when it was asked for, so that a slow answer never makes it later than it is. */
  async #get(key: string): Promise<SessionRecord | null> {
    const asked = Date.now()
    const [reply, pttl] = await Promise.all([this.#call('GET', key), this.#call('PTTL', key)])
    const lifetime = Number(pttl)
    const text = textOf(reply)
    if (text === null || lifetime === GONE) return null
    return { text, expires: asked + (lifetime === ENDLESS ? this.ttl : lifetime), version: text }
  }

  async #getAndRenew(key: string, lifetime: string): Promise<string | null> {
    if (this.#hasGetex) {
      try {
        return textOf(await this.#call('GETEX', key, 'PX', lifetime))
      } catch (error) {
        if (!/unknown command/i.test(String(error))) throw error
        this.#hasGetex = false
      }
    }
    const [reply, renewed] = await Promise.all([this.#call('GET', key), this.#call('PEXPIRE', key, lifetime)])
    return Number(renewed) === 1 ? textOf(reply) : null
  }

  async write(id: string, text: string, expires: number, condition: WriteCondition): Promise<string | null> {
    const key = this.#sessions + id
    const lifetime = left(expires)
    if (typeof condition === 'object') {
      const written = await this.#run(REPLACE, key, sha1(String(condition.version)), text, lifetime)
      return Number(written) === 1 ? text : null
    }
    if (Number(lifetime) <= 0) return (await this.#writeEnded(key, condition)) ? text : null
    const only = condition === 'absent' ? ['NX'] : condition === 'present' ? ['XX'] : []
    return (await this.#call('SET', key, text, 'PX', lifetime, ...only)) === null ? null : text
  }

  /** A record that has ended already is not written, but removes the one that it would replace. */
  async #writeEnded(key: string, condition: 'always' | 'absent' | 'present'): Promise<boolean> {
    if (condition === 'absent') return Number(await this.#call('EXISTS', key)) === 0
    const removed = Number(await this.#call('UNLINK', key)) === 1
    return removed || condition === 'always'
  }

  async renew(id: string, expires: number): Promise<boolean> {
    const key = this.#sessions + id
    return Number(await this.#call('PEXPIRE', key, left(expires))) === 1
  }

  async remove(id: string, version?: Version): Promise<boolean> {
    const key = this.#sessions + id
    const removed =
      version === undefined ? this.#call('UNLINK', key) : this.#run(REPLACE, key, sha1(String(version)), '', '0')
    return Number(await removed) === 1
  }

  async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    const { keys, next } = await this.#scanKeys(this.#sessions, cursor, Math.min(limit, this.#scanCount))
    const found = await Promise.all(keys.map((key) => this.#get(key).catch(nullIfOtherType)))
    const ids = keys.map((key) => key.slice(this.#sessions.length))
    return {
      records: found.flatMap((record, n) => (record ? [{ id: ids[n] as string, ...record }] : [])),
      cursor: next,
    }
  }

  /** The index first, so that a session that is linked and written meanwhile is not left without its entry. */
  override async removeAll(): Promise<void> {
    for (const prefix of [this.#users, this.#sessions]) {
      for await (const keys of this.#allKeys(prefix)) await Promise.all(keys.map((key) => this.#call('UNLINK', key)))
    }
  }

  override async count(): Promise<number> {
    const found = new Set<string>()
    for await (const keys of this.#allKeys(this.#sessions)) for (const key of keys) found.add(key)
    return found.size
  }

  async *#allKeys(prefix: string): AsyncGenerator<string[], void, undefined> {
    let cursor: string | null = null
    do {
      const page: { keys: string[]; next: string | null } = await this.#scanKeys(prefix, cursor, this.#scanCount)
      yield page.keys
      cursor = page.next
    } while (cursor !== null)
  }

  /** Goes through the servers in the order of their names; the cursor is `<the server's cursor> <its name>`. */
  async #scanKeys(
    prefix: string,
    cursor: string | null,
    count: number,
  ): Promise<{ keys: string[]; next: string | null }> {
    const servers = await this.#commands.servers()
    const [from = '0', name = servers[0]?.name ?? ''] = cursor?.split(' ') ?? []
    const at = servers.findIndex((server) => server.name === name)
    const server = servers[at]
    if (!server) throw new Error(`RedisStore: scan cannot go on, no master ${name} is connected`)
    const added = this.#commands.keyPrefix
    const pattern = (added + prefix).replace(/[*?[\]\\^-]/g, '\\$&') + '*'
    const [next, found] = (await server.call('SCAN', from, 'MATCH', pattern, 'COUNT', String(count))) as unknown[]
    const keys = (found as unknown[]).map((key) => String(key).slice(added.length))
    const then = String(next) === '0' ? servers[at + 1] : server
    return {
      keys: prefix === this.#users ? keys : keys.filter((key) => !key.startsWith(this.#users)),
      next: then ? `${String(next)} ${then.name}` : null,
    }
  }

  override async link(user: string, id: string, expires: number): Promise<void> {
    await this.#run(LINK, this.#users + user, id, String(expires), String(Date.now()))
  }

  override async unlink(user: string, id: string): Promise<void> {
    const key = this.#users + user
    await this.#call('ZREM', key, id)
  }

  override async linked(user: string): Promise<string[]> {
    const key = this.#users + user
    return ((await this.#call('ZRANGEBYSCORE', key, `(${Date.now()}`, '+inf')) as unknown[]).map(String)
  }

  #call(command: string, key: string, ...args: string[]): Promise<unknown> {
    return this.#commands.send([command], key, args)
  }

  async #run({ sha, source }: Script, key: string, ...args: string[]): Promise<unknown> {
    try {
      return await this.#commands.send(['EVALSHA', sha, '1'], key, args)
    } catch (error) {
      if (!String(error).includes('NOSCRIPT')) throw error
      return this.#commands.send(['EVAL', source, '1'], key, args)
    }
  }
}

/** What PTTL answers for a key that does not exist. */
const GONE = -2
/** And for one without an end, as other software may have set it. */
const ENDLESS = -1

interface Script {
  readonly source: string
  readonly sha: string
}

function script(source: string): Script {
  return { source, sha: sha1(source) }
}

/**
 * The version is the text, so that writes of other software change it, too. Only its digest is sent: the server compares
 * either in the same time, and a session of 100 KB is written in four fifths of the time.
 */
const REPLACE = script(`
local was = redis.call('GET', KEYS[1])
if not was or redis.sha1hex(was) ~= ARGV[1] then return 0 end
if tonumber(ARGV[3]) > 0 then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) else redis.call('DEL', KEYS[1]) end
return 1`)

/** The key of a user lives as long as the last session in it. */
const LINK = script(`
local id, ends, now = ARGV[1], ARGV[2], ARGV[3]
local was = redis.call('ZSCORE', KEYS[1], id)
if not was or tonumber(was) < tonumber(ends) then redis.call('ZADD', KEYS[1], ends, id) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if last[2] then redis.call('PEXPIRE', KEYS[1], string.format('%.0f', last[2] - now)) end
return 1`)

function sha1(text: string): string {
  return createHash('sha1').update(text).digest('hex')
}

/** The ms that are left. Redis gets no absolute time, as with connect-redis: its clock may differ, or it may be too old. */
function left(expires: number): string {
  return String(Math.ceil(expires - Date.now()))
}

/** A client may be configured to return Buffers. */
function textOf(reply: unknown): string | null {
  return reply === null || typeof reply === 'string' ? reply : (reply as Buffer).toString()
}

/** With a short or empty prefix, a key of other software may look like one of ours. */
function nullIfOtherType(error: unknown): null {
  if (String(error).includes('WRONGTYPE')) return null
  throw error
}

/** What the store needs of a client, whatever package it comes from. */
interface Commands {
  /** The prefix that the client is configured with, or `''`. `send` adds it; the pattern of a scan has to include it. */
  readonly keyPrefix: string
  /** Sends a command (one word or more before the key) to the master that has the key. */
  send(command: string[], key: string, args: string[]): Promise<unknown>
  /** Every master, in the order of their names. */
  servers(): Promise<Server[]>
}

interface Server {
  readonly name: string
  call(...args: string[]): Promise<unknown>
}

interface IoRedis {
  readonly isCluster?: boolean
  readonly status: string
  readonly options: { keyPrefix?: string; host?: string; port?: number }
  call(...args: string[]): Promise<unknown>
  nodes?(role: 'master'): IoRedis[]
}

interface NodeRedis {
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

function commandsOf(client: unknown): Commands {
  if (has(client, 'call')) return ioRedis(client as IoRedis)
  // The callback interfaces of these packages, and redis before 4, have no method `connect`.
  if (!has(client, 'sendCommand', 'connect')) {
    throw invalid('option client must be a client made by the package redis (4 or later) or ioredis (5 or later)')
  }
  surviveLostConnections(client as object, warnOfLostConnection)
  if (has(client, 'nodeClient')) return nodeRedisCluster(client as NodeRedisCluster)
  if (has(client, 'getMasterNode')) return nodeRedisSentinel(client as NodeRedisSentinel)
  return nodeRedis(client as NodeRedis)
}

function warnOfLostConnection(error: unknown): void {
  warnOnce('SESSION_REDIS', `the Redis client reports: ${String(error)}; listen to its 'error' events to hear of all`)
}

function ioRedis(client: IoRedis): Commands {
  const serverOf = (node: IoRedis): Server => ({
    name: client.isCluster ? `${node.options.host}:${node.options.port}` : '',
    call: (...args) => node.call(...args),
  })
  return {
    keyPrefix: client.options.keyPrefix ?? '',
    send: (command, key, args) => client.call(...command, key, ...args),
    async servers() {
      if (!client.isCluster || !client.nodes) return [serverOf(client)]
      // Before it is connected, the client knows only the nodes that it was configured with.
      if (client.status !== 'ready') await client.call('PING')
      return client.nodes('master').map(serverOf).sort(byName)
    },
  }
}

function nodeRedis(client: NodeRedis): Commands {
  // In the legacy mode of redis 4, the client takes callbacks, and its `v4` returns promises.
  const sender = (client.options?.legacyMode && client.v4) || client
  return oneServer((...args) => sender.sendCommand(args), client._keyPrefix)
}

function nodeRedisSentinel(client: NodeRedisSentinel): Commands {
  return oneServer((...args) => client.sendCommand(false, args), client._keyPrefix)
}

function oneServer(call: Server['call'], keyPrefix = ''): Commands {
  return {
    keyPrefix,
    send: (command, key, args) => call(...command, keyPrefix + key, ...args),
    servers: () => Promise.resolve([{ name: '', call }]),
  }
}

function nodeRedisCluster(client: NodeRedisCluster): Commands {
  const { _keyPrefix: keyPrefix = '' } = client
  return {
    keyPrefix,
    send: (command, key, args) => client.sendCommand(keyPrefix + key, false, [...command, keyPrefix + key, ...args]),
    async servers() {
      const serverOf = async (master: { address: string }): Promise<Server> => {
        const node = await client.nodeClient(master)
        return { name: master.address, call: (...args) => node.sendCommand(args) }
      }
      return (await Promise.all(client.masters.map(serverOf))).sort(byName)
    },
  }
}

function byName(a: Server, b: Server): number {
  return a.name < b.name ? -1 : 1
}

function invalid(what: string): OptionError {
  return new OptionError(`RedisStore: ${what}`)
}
