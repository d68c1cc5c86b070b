import { randomBytes } from 'node:crypto'
import type session = require('../index')
import { a, aSerializer, anything, aString, isPositive, optionsOf, unsupported, type Check } from '../base/checks'
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
import { evictionOf, findingsOf } from './redis-check'
import { commandsOf, type Commands } from './redis-clients'
import {
  COMMAND_ONCE,
  LINK,
  LINKED,
  READ,
  REMEMBERED,
  RENEW,
  REPLACE,
  REPLACE_ONCE,
  sha1,
  type Reading,
  type Script,
} from './redis-scripts'

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
 * Sessions in Redis or Valkey, under the keys and in the JSON of connect-redis. A read renews in the same command, where the
 * server lets it; a conditional write is one command, too. No command concerns more than one session.
 */
export class RedisStore extends RecordStore {
  /** The index by user ends with the sessions in it. */
  override readonly linksExpire = true
  readonly #commands: Commands
  readonly #sessions: string
  readonly #users: string
  readonly #changes: string
  readonly #ttlOf: ((session: session.SessionData) => number) | undefined
  readonly #scanCount: number
  #changeCount = 0
  #knowsEviction = false

  /** @throws OptionError when an option cannot be used */
  constructor(options: RedisStoreOptions) {
    super()
    const given = optionsOf(this, RedisStore, options, OPTIONS)
    const { client, prefix = 'sess:', ttl = DEFAULT_TTL / 1000, serializer = JSON, scanCount = 100 } = given
    this.#commands = commandsOf(client)
    this.#sessions = prefix
    // No key of a session begins like another key of ours, so that neither is taken for the other.
    this.#users = (prefix.startsWith('u') ? 'index:' : 'users:') + prefix
    this.#changes = (prefix.startsWith('o') ? 'done:' : 'once:') + prefix
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
    // Where the session itself decides when it ends, it has to be read first.
    const renews = renewTo !== undefined && renewTo > Date.now() && !this.#ttlOf && this.serializer === JSON
    return this.#read(this.#sessions + id, renews ? 'renew' : 'read')
  }

  /** The end is counted from when it was asked for, so that a slow answer never makes it later than it is. */
  async #read(key: string, reading: Reading): Promise<SessionRecord | null> {
    const asked = Date.now()
    let reply: unknown
    try {
      reply = await this.#ask(READ, [key], [reading, String(Math.ceil(this.ttl))])
    } catch (error) {
      if (!isRefusal(error)) throw error
      reply = await this.#readWithoutScripts(key)
    }
    if (!reply) return null
    const [value, left, moved] = reply as [unknown, unknown, unknown]
    const text = textOf(value)
    const record = { text, expires: asked + Number(left), version: text }
    return reading === 'renew' && Number(moved) === 1 ? { ...record, renewed: true } : record
  }

  /** For a server that has none, and a user who may not run them. */
  async #readWithoutScripts(key: string): Promise<unknown> {
    const whenMayNot = (error: unknown): number => {
      if (isRefusal(error)) return ENDLESS
      throw error
    }
    const [text, lifetime] = await Promise.all([
      this.#ask('get', [key], []),
      this.#ask('pttl', [key], []).catch(whenMayNot),
    ])
    return text === null ? null : [text, Number(lifetime) === ENDLESS ? this.ttl : lifetime, 0]
  }

  async write(id: string, text: string, expires: number, condition: WriteCondition): Promise<string | null> {
    const key = this.#sessions + id
    const lifetime = left(expires)
    const made =
      typeof condition === 'object'
        ? this.#replace(key, condition.version, text, lifetime)
        : Number(lifetime) <= 0
          ? this.#writeEnded(key, condition)
          : this.#change('set', key, text, 'px', lifetime, ...FLAGS[condition])
    return (await made) ? text : null
  }

  /** A record that has ended already is not written, but removes the one that it would replace. */
  async #writeEnded(key: string, condition: 'always' | 'absent' | 'present'): Promise<boolean> {
    if (condition === 'absent') return Number(await this.#ask('exists', [key], [])) === 0
    const removed = await this.#change('unlink', key)
    return removed || condition === 'always'
  }

  async renew(id: string, expires: number, from?: number): Promise<boolean> {
    const key = this.#sessions + id
    const renewed =
      from === undefined
        ? this.#send('pexpire', [key], [left(expires)])
        : this.#send(RENEW, [key], [left(expires), left(from)])
    return Number(await renewed) === 1
  }

  remove(id: string, version?: Version): Promise<boolean> {
    const key = this.#sessions + id
    return version === undefined ? this.#change('unlink', key) : this.#replace(key, version, '', '0')
  }

  async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    const { keys, next } = await this.#scanKeys(this.#sessions, cursor, Math.min(limit, this.#scanCount))
    const found = await Promise.all(keys.map((key) => this.#read(key, 'look').catch(nullIfOtherType)))
    const ids = keys.map((key) => key.slice(this.#sessions.length))
    return {
      records: found.flatMap((record, n) => (record ? [{ id: ids[n] as string, ...record }] : [])),
      cursor: next,
    }
  }

  /** The index first, so that a session that is linked and written meanwhile is not left without its entry. */
  override async removeAll(): Promise<void> {
    for (const prefix of [this.#users, this.#sessions]) {
      for await (const keys of this.#allKeys(prefix)) {
        await Promise.all(keys.map((key) => this.#send('unlink', [key], [])))
      }
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
    const [next, found] = (await server.call('scan', from, 'match', pattern, 'count', String(count))) as unknown[]
    const keys = (found as unknown[]).map((key) => String(key).slice(added.length))
    const then = String(next) === '0' ? servers[at + 1] : server
    const isOfSession = (key: string): boolean => !key.startsWith(this.#users) && !key.startsWith(this.#changes)
    return {
      keys: prefix === this.#users ? keys : keys.filter(isOfSession),
      next: then ? `${String(next)} ${then.name}` : null,
    }
  }

  override async link(user: string, id: string, expires: number): Promise<void> {
    if (!this.#knowsEviction) this.#warnOfEviction()
    await this.#send(LINK, [this.#users + user], [id, left(expires)])
  }

  override async unlink(user: string, id: string): Promise<void> {
    await this.#change('zrem', this.#users + user, id)
  }

  override async linked(user: string): Promise<string[]> {
    return ((await this.#ask(LINKED, [this.#users + user], [])) as unknown[]).map(String)
  }

  /**
   * Tries what sessions need of the server: its rights, scripts, memory and clock. Answers what is wrong, a sentence each
   * that says what to do; nothing when all is well. Rejects when the server cannot be reached.
   */
  async check(): Promise<string[]> {
    return findingsOf(this, this.#commands, [this.#sessions, this.#users, this.#changes])
  }

  /** Asks once, beside what is going on: an evicted key of a user hides sessions from "log out everywhere". */
  #warnOfEviction(): void {
    this.#knowsEviction = true
    evictionOf(this.#commands).then(
      (found) => {
        if (found) warnOnce('SESSION_REDIS_EVICTION', found)
      },
      () => undefined, // a user who may not ask
    )
  }

  #replace(key: string, version: Version, text: string, lifetime: string): Promise<boolean> {
    return this.#change(REPLACE, key, sha1(String(version)), text, lifetime)
  }

  /**
   * Changes something under a key, and tells whether that was done. Where the client may send a command twice, as its first
   * answer was lost with the connection, the server notes each change under a key of its own: the second would find what the
   * first has made, and take it for another's.
   */
  async #change(command: 'set' | 'unlink' | 'zrem' | Script, key: string, ...args: string[]): Promise<boolean> {
    const change = this.#commands.sendsAgain ? this.#nameOfChange(key) : undefined
    if (change === undefined) return isDone(await this.#send(command, [key], args))
    const sent = Date.now()
    const reply =
      typeof command === 'string'
        ? this.#send(COMMAND_ONCE, [key, change], [command, ...args])
        : this.#send(REPLACE_ONCE, [key, change], args)
    const done = isDone(await reply)
    if (!done && Date.now() - sent >= REMEMBERED) {
      throw new Error(
        'RedisStore: the server was away for so long that it is not known whether it has made a change; see the option timeout',
      )
    }
    return done
  }

  /** In a Cluster, in the slot of the key; `undefined` for an odd key that has no other in its slot. */
  #nameOfChange(key: string): string | undefined {
    const { isCluster, keyPrefix } = this.#commands
    const name = (CHANGES + ++this.#changeCount).toString()
    if (!isCluster) return this.#changes + name
    const tag = HASH_TAG.exec(keyPrefix + key)?.[1]
    if (tag === undefined && (keyPrefix + key).includes('}')) return undefined
    return `${this.#changes}{${tag ?? keyPrefix + key}}:${name}`
  }

  /** For what may be done twice, as it only reads: it is sent again when the connection was lost before the answer came. */
  #ask(command: string | Script, keys: readonly string[], args: readonly string[]): Promise<unknown> {
    return this.#send(command, keys, args, !this.#commands.sendsAgain)
  }

  async #send(
    command: string | Script,
    keys: readonly string[],
    args: readonly string[],
    again = false,
  ): Promise<unknown> {
    const count = String(keys.length)
    let words = typeof command === 'string' ? [command] : ['evalsha', command.sha, count]
    for (;;) {
      try {
        return await this.#commands.send(words, keys, args)
      } catch (error) {
        if (typeof command !== 'string' && String(error).includes('NOSCRIPT')) words = ['eval', command.source, count]
        else if (again && !isReply(error) && !this.#commands.isClosed()) again = false
        else throw this.#explained(error)
      }
    }
  }

  /** The error of a command, without the key and the data that were sent. */
  #explained(error: unknown): unknown {
    if (!isReply(error)) {
      if (!this.#commands.isClosed()) return error
      return new Error(
        'RedisStore: the client is not connected: `await client.connect()` before the first request, and close it after the last',
        { cause: error },
      )
    }
    const [, unknown] = /^(ERR unknown command .*?),? with args/.exec(error.message) ?? []
    if (unknown !== undefined) return new Error(unknown)
    // That of ioredis.
    if ('command' in error) Object.defineProperty(error, 'command', { enumerable: false })
    return error
  }
}

const FLAGS = { always: [], absent: ['nx'], present: ['xx'] } as const

/** What PTTL answers for a key without an end, as other software may have set it. */
const ENDLESS = -1

/** Begins the names of this process's changes. */
const CHANGES = randomBytes(9).toString('base64url')

/** The part of a key in braces: in a Cluster, it decides where the key is. */
const HASH_TAG = /^[^{]*\{([^}]+)\}/

/** The ms that are left. Redis gets no absolute time, as with connect-redis: its clock may differ, or it may be too old. */
function left(expires: number): string {
  return String(Math.ceil(expires - Date.now()))
}

/** Whether a command did something: `OK`, or a number above 0. */
function isDone(reply: unknown): boolean {
  return reply !== null && Number(reply) !== 0
}

/** A client may be configured to return Buffers. */
function textOf(reply: unknown): string {
  return typeof reply === 'string' ? reply : (reply as Buffer).toString()
}

/** Whether an error is the server's answer, which begins with a word in capitals, and not that of a connection. */
function isReply(error: unknown): error is Error {
  return error instanceof Error && /^[A-Z]{2,}\b/.test(error.message)
}

/** Whether the server does not know a command, or the user may not use it. */
function isRefusal(error: unknown): boolean {
  return /NOPERM|unknown command/i.test(String(error))
}

/** With a short or empty prefix, a key of other software may look like one of ours. */
function nullIfOtherType(error: unknown): null {
  if (String(error).includes('WRONGTYPE')) return null
  throw error
}

function invalid(what: string): OptionError {
  return new OptionError(`RedisStore: ${what}`)
}
