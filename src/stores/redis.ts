import { createHash } from 'node:crypto'
import { SessionError } from '../errors'
import {
  DEFAULT_TTL,
  RecordStore,
  type RecordPage,
  type Serializer,
  type SessionRecord,
  type WriteCondition,
} from '../record-store'

export interface RedisStoreOptions {
  /**
   * A connected client: of `redis` (4, 5, 6) or `ioredis` (5, 6), for a single server, a pool, Sentinel or Cluster. It
   * stays yours: the store never closes it, and its `error` events are yours to listen to.
   */
  client: object
  /** Begins every key. Default: `'sess:'`. */
  prefix?: string | undefined
  /** Lifetime in seconds of a session whose cookie has no expiry, or a function of the session. Default: 86,400. */
  ttl?: number | ((session: object) => number) | undefined
  /** How sessions become text. Default: JSON. */
  serializer?: Serializer | undefined
  /** How many keys a step of a scan looks at. Default: 100. */
  scanCount?: number | undefined
}

/**
 * Sessions in Redis or Valkey, under the keys and in the JSON of connect-redis. Reading renews in the same command
 * (GETEX); a conditional write is one command, too. No command concerns more than one key.
 */
export class RedisStore extends RecordStore {
  readonly #commands: Commands
  readonly #prefix: string
  readonly #ttlOf: (session: object) => number
  readonly #scanCount: number
  /** Servers before 6.2 do not know GETEX. */
  #hasGetex = true

  /** @throws SessionError when an option cannot be used */
  constructor(options: RedisStoreOptions) {
    super()
    const { client, prefix = 'sess:', ttl = DEFAULT_TTL / 1000, serializer, scanCount = 100 } = options ?? {}
    this.#commands = commandsOf(client)
    this.#prefix = prefix
    this.#scanCount = scanCount
    if (typeof ttl === 'number') {
      if (!(ttl > 0)) throw invalid('ttl', 'a positive number of seconds, or a function of the session')
      this.ttl = ttl * 1000
    }
    this.#ttlOf = typeof ttl === 'function' ? ttl : () => ttl
    if (serializer) this.serializer = serializer
    Object.defineProperty(this, 'linksExpire', { value: true })
  }

  override expiresOf(data: { cookie: { expires?: unknown } }): number {
    return data.cookie.expires ? super.expiresOf(data) : Date.now() + this.#ttlOf(data) * 1000
  }

  async read(id: string, renewTo?: number): Promise<SessionRecord | null> {
    const key = this.#prefix + id
    if (renewTo === undefined) {
      const [text, left] = await Promise.all([
        this.#commands.call(key, 'GET', key),
        this.#commands.call(key, 'PTTL', key),
      ])
      return typeof text === 'string' ? this.#record(text, left as number) : null
    }
    const text = await this.#getAndRenew(key, milliseconds(renewTo))
    return text === null ? null : { text, expires: renewTo, version: text, renewed: true }
  }

  async #getAndRenew(key: string, ttl: string): Promise<string | null> {
    if (this.#hasGetex) {
      try {
        return (await this.#commands.call(key, 'GETEX', key, 'PX', ttl)) as string | null
      } catch (error) {
        if (!/unknown command/i.test(String(error))) throw error
        this.#hasGetex = false
      }
    }
    const [text] = await Promise.all([
      this.#commands.call(key, 'GET', key),
      this.#commands.call(key, 'PEXPIRE', key, ttl),
    ])
    return text as string | null
  }

  /** A key without an end was set by software that leaves the end to itself. */
  #record(text: string, left: number): SessionRecord {
    return { text, expires: Date.now() + (left < 0 ? this.ttl : left), version: text }
  }

  async write(id: string, text: string, expires: number, condition: WriteCondition): Promise<string | null> {
    const key = this.#prefix + id
    const ttl = milliseconds(expires)
    if (typeof condition === 'object') {
      const written = await this.#run(REPLACE, key, sha1(String(condition.version)), text, ttl)
      return written === 1 ? text : null
    }
    const only = condition === 'absent' ? ['NX'] : condition === 'present' ? ['XX'] : []
    return (await this.#commands.call(key, 'SET', key, text, 'PX', ttl, ...only)) === null ? null : text
  }

  async renew(id: string, expires: number): Promise<boolean> {
    const key = this.#prefix + id
    return (await this.#commands.call(key, 'PEXPIRE', key, milliseconds(expires))) === 1
  }

  async remove(id: string): Promise<boolean> {
    const key = this.#prefix + id
    return (await this.#commands.call(key, 'UNLINK', key)) === 1
  }

  /** Goes through one server after the other; the cursor is `<server>:<cursor of the server>`. */
  async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    const servers = await this.#commands.servers()
    const [server = 0, from = '0'] = cursor === null ? [] : [Number(cursor.split(':')[0]), cursor.split(':')[1]]
    const ask = servers[server]
    if (!ask) return { records: [], cursor: null }
    const count = String(Math.min(limit, this.#scanCount))
    const pattern = this.#prefix.replace(/[*?[\]\\^-]/g, '\\$&') + '*'
    const [next, keys] = (await ask('SCAN', from, 'MATCH', pattern, 'COUNT', count)) as [string, string[]]
    const ids = keys.filter((key) => !key.startsWith(USERS)).map((key) => key.slice(this.#prefix.length))
    const found = await Promise.all(ids.map(async (id) => ({ id, record: await this.read(id) })))
    const records = found.flatMap(({ id, record }) => (record ? [{ id, ...record }] : []))
    if (String(next) !== '0') return { records, cursor: `${server}:${next}` }
    return { records, cursor: server + 1 < servers.length ? `${server + 1}:0` : null }
  }

  override async link(user: string, id: string, expires: number): Promise<void> {
    await this.#run(LINK, this.#userKey(user), String(expires), id, String(Date.now()))
  }

  override async unlink(user: string, id: string): Promise<void> {
    const key = this.#userKey(user)
    await this.#commands.call(key, 'ZREM', key, id)
  }

  override async linked(user: string): Promise<string[]> {
    const key = this.#userKey(user)
    return (await this.#commands.call(key, 'ZRANGEBYSCORE', key, String(Date.now()), '+inf')) as string[]
  }

  #userKey(user: string): string {
    return `${USERS}${this.#prefix}${user}`
  }

  async #run({ sha, source }: Script, key: string, ...args: string[]): Promise<unknown> {
    try {
      return await this.#commands.call(key, 'EVALSHA', sha, '1', key, ...args)
    } catch (error) {
      if (!String(error).includes('NOSCRIPT')) throw error
      return this.#commands.call(key, 'EVAL', source, '1', key, ...args)
    }
  }
}

/** Begins the keys of the index by user: not with the prefix, so that they are never taken for sessions. */
const USERS = 'users:'

interface Script {
  readonly source: string
  readonly sha: string
}

function script(source: string): Script {
  return { source, sha: sha1(source) }
}

/** The version is the text, so that what other software writes counts, and 40 characters of it are sent. */
const REPLACE = script(`
local was = redis.call('GET', KEYS[1])
if not was or redis.sha1hex(was) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`)

/** The key of a user lives as long as the last of the sessions in it. */
const LINK = script(`
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[3])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if last[2] then redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last[2])) end
return 1`)

function sha1(text: string): string {
  return createHash('sha1').update(text).digest('hex')
}

/** Times are sent as what is left, so that clocks may differ. What has ended already, ends at once. */
function milliseconds(expires: number): string {
  return String(Math.max(1, Math.ceil(expires - Date.now())))
}

type Call = (...args: string[]) => Promise<unknown>

/** What the store asks of a client, whichever package it is of. */
interface Commands {
  /** Sends a command to where the key is. */
  call(key: string, ...args: string[]): Promise<unknown>
  /** Every server that holds keys. */
  servers(): Promise<Call[]>
}

interface NodeRedis {
  sendCommand(args: string[]): Promise<unknown>
}

interface NodeRedisCluster {
  sendCommand(key: string, isReadonly: boolean, args: string[]): Promise<unknown>
  masters: unknown[]
  nodeClient(master: unknown): NodeRedis | Promise<NodeRedis>
}

interface NodeRedisSentinel {
  sendCommand(isReadonly: boolean, args: string[]): Promise<unknown>
}

interface IoRedis {
  call(...args: string[]): Promise<unknown>
  isCluster?: boolean
  nodes?(role: 'master'): IoRedis[]
}

function commandsOf(client: object | undefined): Commands {
  const has = (name: string): boolean => typeof (client as Record<string, unknown> | undefined)?.[name] === 'function'
  if (has('call') && !has('sendCommandToNode') && !has('executeIsolated')) return ioRedis(client as IoRedis)
  if (has('nodeClient')) return nodeRedisCluster(client as NodeRedisCluster)
  if (has('getMasterNode')) return oneServer((...args) => (client as NodeRedisSentinel).sendCommand(false, args))
  if (has('sendCommand')) return oneServer((...args) => (client as NodeRedis).sendCommand(args))
  throw invalid('client', 'a client made by the package redis or ioredis')
}

function oneServer(call: Call): Commands {
  return { call: (_key, ...args) => call(...args), servers: () => Promise.resolve([call]) }
}

function ioRedis(client: IoRedis): Commands {
  const callOf =
    (node: IoRedis): Call =>
    (...args) =>
      node.call(...args)
  const servers = (): Call[] => (client.isCluster ? (client.nodes?.('master') ?? []).map(callOf) : [callOf(client)])
  return { call: (_key, ...args) => client.call(...args), servers: () => Promise.resolve(servers()) }
}

function nodeRedisCluster(client: NodeRedisCluster): Commands {
  return {
    call: (key, ...args) => client.sendCommand(key, false, args),
    servers: () =>
      Promise.all(
        client.masters.map(async (master): Promise<Call> => {
          const node = await client.nodeClient(master)
          return (...args) => node.sendCommand(args)
        }),
      ),
  }
}

function invalid(option: string, want: string): SessionError {
  return new SessionError('ERR_SESSION_OPTION', `RedisStore: option ${option} must be ${want}`)
}
