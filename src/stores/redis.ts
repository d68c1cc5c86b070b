import type { SessionData } from '../session/augmented'
import { a, aSerializer, anything, aString, isPositive, optionsOf, unsupported, type Check } from '../base/checks'
import { OptionError, warnOnce } from '../base/errors'
import { answer, type Callback } from '../base/maybe-promise'
import {
  DEFAULT_TTL,
  RecordStore,
  type RecordPage,
  type Serializer,
  type SessionRecord,
  type WriteCondition,
  type Version,
} from '../store/record-store'
import { Batches } from './batches'
import { evictionOf, findingsOf } from './redis-check'
import { commandsOf, type Commands } from './redis-clients'
import { LINK, LINKED, READ, REMOVE_LINKED, RENEW, sha1, WRITE, type Reading } from './redis-scripts'
import { isRefusal, Server } from './redis-server'

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
  ttl?: number | ((session: SessionData) => number) | undefined
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

/** A record that is to be read. */
interface Request {
  readonly key: string
  readonly reading: Reading
}

/** The most records that are read in one step. */
const LARGEST_BATCH = 100

/**
 * Sessions in Redis or Valkey, under the keys and in the JSON of connect-redis. Reads of one turn of the event loop are one
 * command, which renews, too, where the server lets it; a conditional write is one command. In a Cluster no command concerns
 * more than one session.
 */
export class RedisStore extends RecordStore {
  /** The index by user ends with the sessions in it. */
  override readonly linksExpire = true
  readonly #commands: Commands
  readonly #server: Server
  readonly #sessions: string
  readonly #users: string
  readonly #notes: string
  readonly #ttlOf: ((session: SessionData) => number) | undefined
  readonly #scanCount: number
  readonly #reads = new Batches<Request, SessionRecord | null>({
    of: { store: 'RedisStore', kind: 'read' },
    send: (requests) => this.#readEach(requests),
    limit: LARGEST_BATCH,
    join: (waiting, later) => (waiting.reading === 'renew' ? waiting : later),
  })
  /** Whether the keys of sessions may be on different servers, behind a proxy too, so that no command may have several. */
  #isSpread: boolean
  #knowsEviction = false

  /** @throws OptionError when an option cannot be used */
  constructor(options: RedisStoreOptions) {
    super()
    const given = optionsOf(this, RedisStore, options, OPTIONS)
    const { client, prefix = 'sess:', ttl = DEFAULT_TTL / 1000, serializer = JSON, scanCount = 100 } = given
    this.#commands = commandsOf(client)
    this.#isSpread = this.#commands.isCluster
    this.#sessions = prefix
    // No key of a session begins like another key of ours, so that neither is taken for the other.
    this.#users = (prefix.startsWith('u') ? 'index:' : 'users:') + prefix
    this.#notes = (prefix.startsWith('o') ? 'done:' : 'once:') + prefix
    this.#server = new Server(this.#commands, this.#notes)
    this.#scanCount = scanCount
    if (typeof ttl === 'number') this.ttl = ttl * 1000
    this.#ttlOf = typeof ttl === 'function' ? ttl : undefined
    this.serializer = serializer
  }

  override expiresOf(data: { cookie: { expires?: unknown } }): number {
    if (!this.#ttlOf) return super.expiresOf(data)
    const ttl: unknown = this.#ttlOf(data as SessionData)
    if (Number.isFinite(ttl)) return Date.now() + (ttl as number) * 1000
    throw invalid(`option ttl must return a number of seconds; it returned ${String(ttl)}`)
  }

  async read(id: string, renewTo?: number): Promise<SessionRecord | null> {
    const key = this.#sessions + id
    // Where the session itself decides when it ends, it has to be read first.
    const renews = renewTo !== undefined && renewTo > Date.now() && !this.#ttlOf
    return this.#reads.ask(key, { key, reading: renews ? 'renew' : 'read' })
  }

  override readMany(ids: readonly string[]): Promise<ReadonlyArray<SessionRecord | null>> {
    return this.#look(ids.map((id) => this.#sessions + id))
  }

  #look(keys: readonly string[]): Promise<ReadonlyArray<SessionRecord | null>> {
    return this.#readEach(keys.map((key) => ({ key, reading: 'look' })))
  }

  /** The end is counted from when it was asked for, so that a slow answer never makes it later than it is. */
  async #readEach(requests: readonly Request[]): Promise<ReadonlyArray<SessionRecord | null>> {
    if (requests.length === 0) return []
    if (this.#isSpread && requests.length > 1) {
      return (await Promise.all(requests.map((request) => this.#readEach([request])))).flat()
    }
    const asked = Date.now()
    const keys = requests.map(({ key }) => key)
    let found: readonly unknown[]
    try {
      const readings = requests.map(({ reading }) => reading)
      found = (await this.#server.ask(READ, keys, [String(Math.ceil(this.ttl)), ...readings])) as unknown[]
    } catch (error) {
      if (this.#noticesSpread(error)) return this.#readEach(requests)
      if (!isRefusal(error)) throw error
      found = (await Promise.all(keys.map((key) => this.#readWithoutScripts(key)))).flat()
    }
    return keys.map((_, n) => {
      const text = textOf(found[3 * n])
      if (text === null) return null
      const record = { text, expires: asked + Number(found[3 * n + 1]), version: text }
      return Number(found[3 * n + 2]) === 1 ? { ...record, renewed: true } : record
    })
  }

  /** For a server that has none, and a user who may not run them. */
  async #readWithoutScripts(key: string): Promise<[text: unknown, left: number, moved: 0]> {
    const whenMayNot = (error: unknown): number => {
      if (isRefusal(error)) return ENDLESS
      throw error
    }
    const [text, left] = await Promise.all([
      this.#server.ask('get', [key], []),
      this.#server.ask('pttl', [key], []).catch(whenMayNot),
    ])
    return [text, Number(left) === ENDLESS ? this.ttl : Number(left), 0]
  }

  /** Whether an error says that the keys of one command may not be on different servers. */
  #noticesSpread(error: unknown): boolean {
    if (this.#isSpread || !String(error).includes('CROSSSLOT')) return false
    return (this.#isSpread = true)
  }

  async write(id: string, text: string, expires: number, condition: WriteCondition): Promise<string | null> {
    return (await this.#write(id, condition, left(expires), text)) ? text : null
  }

  async renew(id: string, expires: number, from?: number): Promise<boolean> {
    const ends = from === undefined ? [expires] : [expires, from]
    return Number(await this.#server.send(RENEW, [this.#sessions + id], ends.map(left))) === 1
  }

  remove(id: string, version?: Version): Promise<boolean> {
    return this.#write(id, version === undefined ? 'present' : { version }, '0', '')
  }

  async #write(id: string, condition: WriteCondition, lifetime: string, text: string): Promise<boolean> {
    const wanted = typeof condition === 'object' ? sha1(String(condition.version)) : condition
    return (await this.#server.change(WRITE, [this.#sessions + id], [wanted, lifetime, text])) === '1'
  }

  /** A server may hold much that is no session: a page goes on until there is one. */
  async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    const count = Math.min(limit, this.#scanCount)
    let page = await this.#scanKeys(this.#sessions, cursor, count)
    while (page.keys.length === 0 && page.next !== null) {
      page = await this.#scanKeys(this.#sessions, page.next, this.#scanCount)
    }
    const found = await this.#look(page.keys)
    const ids = page.keys.map((key) => key.slice(this.#sessions.length))
    return {
      records: found.flatMap((record, n) => (record ? [{ id: ids[n] as string, ...record }] : [])),
      cursor: page.next,
    }
  }

  /** The index first, so that a session that is linked and written meanwhile is not left without its entry. */
  override async removeAll(): Promise<void> {
    for (const prefix of [this.#users, this.#sessions]) {
      for await (const keys of this.#allKeys(prefix)) {
        await Promise.all(keys.map((key) => this.#server.send('unlink', [key], [])))
      }
    }
  }

  override async count(): Promise<number> {
    return (await this.#ids()).size
  }

  /** The IDs of all sessions, without the sessions, as connect-redis has it. */
  ids(): Promise<string[]>
  ids(callback: Callback<[ids?: string[]]>): void
  ids(callback?: Callback<[ids?: string[]]>): Promise<string[]> | undefined {
    return answer(callback, async () => [...(await this.#ids())])
  }

  async #ids(): Promise<ReadonlySet<string>> {
    const ids = new Set<string>()
    for await (const keys of this.#allKeys(this.#sessions))
      for (const key of keys) ids.add(key.slice(this.#sessions.length))
    return ids
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
    const keys = [...new Set((found as unknown[]).map((key) => String(key).slice(added.length)))]
    const then = String(next) === '0' ? servers[at + 1] : server
    const isOfSession = (key: string): boolean => !key.startsWith(this.#users) && !key.startsWith(this.#notes)
    return {
      keys: prefix === this.#users ? keys : keys.filter(isOfSession),
      next: then ? `${String(next)} ${then.name}` : null,
    }
  }

  override async link(user: string, id: string, expires: number): Promise<void> {
    if (!this.#knowsEviction) this.#warnOfEviction()
    await this.#server.send(LINK, [this.#users + user], [id, left(expires)])
  }

  override async unlink(user: string, id: string): Promise<void> {
    await this.#server.send('zrem', [this.#users + user], [id])
  }

  override async linked(user: string): Promise<string[]> {
    return ((await this.#server.ask(LINKED, [this.#users + user], [])) as unknown[]).map(String)
  }

  override async removeLinked(user: string, ids: readonly string[]): Promise<readonly boolean[]> {
    if (this.#isSpread) return Promise.all(ids.map((id) => this.#removeOne(user, id)))
    const keys = [this.#users + user, ...ids.map((id) => this.#sessions + id)]
    try {
      const removed = await this.#server.change(REMOVE_LINKED, keys, ids)
      return ids.map((_, n) => removed[n] === '1')
    } catch (error) {
      if (this.#noticesSpread(error)) return this.removeLinked(user, ids)
      throw error
    }
  }

  async #removeOne(user: string, id: string): Promise<boolean> {
    const removed = await this.remove(id)
    if (removed) await this.unlink(user, id)
    return removed
  }

  /**
   * Looks whether the server lets sessions be all that they need: rights, scripts, memory, clock, and settings of the client.
   * Each finding is a sentence that says what to do; none when all is well. Rejects when the server cannot be reached.
   */
  override async check(): Promise<string[]> {
    this.#knowsEviction = true
    return findingsOf(this, this.#commands, [this.#sessions, this.#users, this.#notes])
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
}

/** What PTTL answers for a key without an end, as other software may have set it. */
const ENDLESS = -1

/** The longest lifetime, in ms, that fits into the server's times. */
const LONGEST = 1e15

/** The ms that are left. Redis gets no absolute time, as with connect-redis: its clock may differ, or it may be too old. */
function left(expires: number): string {
  return String(Math.min(Math.ceil(expires - Date.now()), LONGEST))
}

/** A client may be configured to return Buffers. */
function textOf(reply: unknown): string | null {
  return reply === null || typeof reply === 'string' ? reply : (reply as Buffer).toString()
}

function invalid(what: string): OptionError {
  return new OptionError(`RedisStore: ${what}`)
}
