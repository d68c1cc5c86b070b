import { randomBytes } from 'node:crypto'
import {
  BatchGetItemCommand,
  DeleteItemCommand,
  DynamoDBClient,
  GetItemCommand,
  QueryCommand,
  ScanCommand,
  UpdateItemCommand,
  type AttributeValue,
} from '@aws-sdk/client-dynamodb'
import {
  a,
  aFlag,
  aFunction,
  aName,
  aSerializer,
  aString,
  has,
  isPositive,
  optionsOf,
  unsupported,
} from '../base/checks'
import type { Check } from '../base/checks'
import { shortened } from '../base/errors'
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
import { ANYTHING, conditionFor, expressions, filters, LIVE, now, ofVersion, versionOf } from './dynamodb-expressions'
import type { Condition, Item } from './dynamodb-expressions'
import { isNamed, Table } from './dynamodb-table'

export interface DynamoDBStoreOptions {
  /**
   * A `DynamoDBClient`, or a `DynamoDBDocumentClient`. It stays yours: its region, credentials, retries and timeouts are
   * those that you gave it. Default: one by the environment, which the store closes.
   */
  client?: object | undefined
  /** The name of the table. Default: `'sessions'`. The option `user` needs a second one, with `_user` after this name. */
  table?: string | undefined
  /** The name of the table's partition key, a string. Default: `'id'`. */
  hashKey?: string | undefined
  /** Begins the key of every session. Default: `'sess:'`. */
  prefix?: string | undefined
  /** Makes a missing table when it is first used, paid by request, and waits for it. Default: `false`. */
  createTableIfMissing?: boolean | undefined
  /** Lifetime, in ms, of a session whose cookie has no expiry. Default: one day. */
  ttl?: number | undefined
  /** Called with what fails while a table is made. Default: `console.error`. */
  errorLog?: ((...message: unknown[]) => void) | undefined
  /** How sessions become text. Default: JSON. */
  serializer?: Serializer | undefined
}

const byRequest = unsupported('; a table that the store makes is paid by request')

const OPTIONS: Record<
  keyof DynamoDBStoreOptions | 'specialKeys' | 'reapInterval' | 'readCapacityUnits' | 'writeCapacityUnits',
  Check
> = {
  client: a('a DynamoDBClient of @aws-sdk/client-dynamodb, version 3', (value) => has(value, 'send')),
  table: aName,
  hashKey: aName,
  prefix: aString,
  createTableIfMissing: aFlag,
  ttl: a('a positive number of ms', isPositive),
  errorLog: aFunction,
  serializer: aSerializer,
  specialKeys: unsupported("; sessions of a user are found by the middleware's option user"),
  reapInterval: unsupported(": set the table's time to live to the attribute expires, and DynamoDB deletes"),
  readCapacityUnits: byRequest,
  writeCapacityUnits: byRequest,
}

/** The most keys that BatchGetItem takes. */
const LARGEST_BATCH = 100
/** How many items are deleted at once. */
const DELETIONS = 25

/**
 * Sessions in DynamoDB, in the table of connect-dynamodb, where `expires` (in seconds) serves as time to live. Reads are
 * consistent, and those of one turn of the event loop go together. The version of a record is a random attribute; an item
 * without it, as connect-dynamodb leaves it, is known by its text. A read never renews, as a write costs five reads.
 */
export class DynamoDBStore extends RecordStore {
  /** Links are deleted by DynamoDB, which knows nothing of their sessions. */
  override readonly linksExpire = true
  readonly #client: DynamoDBClient
  readonly #ownsClient: boolean
  readonly #sessions: Table
  readonly #users: Table
  readonly #prefix: string
  readonly #reads: Batches<string, PromiseSettledResult<SessionRecord | null>>
  /** False once it is known that there is no right to BatchGetItem, which connect-dynamodb does not need. */
  #mayBatch = true

  /** @throws OptionError when an option cannot be used */
  constructor(options?: DynamoDBStoreOptions) {
    super()
    const given = optionsOf(this, DynamoDBStore, options, OPTIONS)
    const { client, table = 'sessions', hashKey = 'id', prefix = 'sess:', ttl, serializer } = given
    this.#ownsClient = !client
    this.#client = (client as DynamoDBClient | undefined) ?? new DynamoDBClient({})
    const { createTableIfMissing = false, errorLog = console.error } = given
    this.#sessions = new Table(this.#client, table, [hashKey], createTableIfMissing && errorLog)
    this.#users = new Table(this.#client, `${table}_user`, ['user', 'id'], createTableIfMissing && errorLog)
    this.#prefix = prefix
    this.ttl = ttl ?? DEFAULT_TTL
    if (serializer) this.serializer = serializer
    this.#reads = new Batches({
      of: { store: 'DynamoDBStore', kind: 'read' },
      send: (ids) => this.#readTogether(ids),
      limit: LARGEST_BATCH,
      join: (waiting) => waiting,
    })
  }

  async read(id: string): Promise<SessionRecord | null> {
    const answer = await this.#reads.ask(id, id)
    if (answer.status === 'rejected') throw answer.reason
    return answer.value
  }

  /** What a batch leaves out is asked for alone, with the retries and the pauses of the client, and fails alone. */
  async #readTogether(ids: string[]): Promise<PromiseSettledResult<SessionRecord | null>[]> {
    const found = ids.length > 1 && this.#mayBatch ? await this.#getMany(ids) : new Map<string, Item | null>()
    return Promise.allSettled(
      ids.map(async (id) => {
        const item = found.get(id)
        return this.#toRecord(item === undefined ? await this.#get(id) : item)
      }),
    )
  }

  async #get(id: string): Promise<Item | null> {
    const get = new GetItemCommand({ TableName: this.#sessions.name, Key: this.#keyOf(id), ConsistentRead: true })
    return (await this.#sessions.using(() => this.#client.send(get))).Item ?? null
  }

  /** Items by ID, `null` for those that are not there; none of those that have not been looked at. */
  async #getMany(ids: string[]): Promise<Map<string, Item | null>> {
    const { name } = this.#sessions
    const keys = ids.map((id) => this.#keyOf(id))
    const get = new BatchGetItemCommand({ RequestItems: { [name]: { Keys: keys, ConsistentRead: true } } })
    const found = new Map<string, Item | null>()
    try {
      const { Responses, UnprocessedKeys } = await this.#sessions.using(() => this.#client.send(get))
      for (const id of ids) found.set(id, null)
      for (const item of Responses?.[name] ?? []) found.set(this.#idOf(item), item)
      for (const key of UnprocessedKeys?.[name]?.Keys ?? []) found.delete(this.#idOf(key))
    } catch (error) {
      if (!isNamed(error, 'AccessDeniedException')) throw error
      this.#mayBatch = false
    }
    return found
  }

  async write(id: string, text: string, expires: number, condition: WriteCondition): Promise<string | null> {
    const version = randomBytes(12).toString('base64url')
    const values = {
      ':sess': { S: text },
      // DynamoDB does not delete what has ended more than five years ago.
      ':expires': { N: String(Math.max(Math.ceil(expires / 1000), Math.floor(Date.now() / 1000))) },
      ':version': { S: version },
      ':type': { S: 'connect-session' },
    }
    const set = 'SET #sess = :sess, #expires = :expires, #version = :version, #type = :type'
    try {
      await this.#update(id, set, conditionFor(condition), values)
      return version
    } catch (error) {
      if (isTooLarge(error)) throw tooLarge(id, text, error)
      if (!isRefused(error)) throw error
      // The answer to a first attempt may have been lost, and the client's next one refused for what the first has written.
      const isWritten = isRepeated(error) && versionOf(await this.#get(id)) === version
      return isWritten ? version : null
    }
  }

  /** Ends are compared within a ms, as connect-dynamodb's have fractions. */
  async renew(id: string, expires: number, from?: number): Promise<boolean> {
    const when: Condition = { expression: LIVE, values: { ':now': now() } }
    if (from !== undefined) {
      when.expression += ' AND #expires BETWEEN :after AND :before'
      when.values[':after'] = { N: String((from - 0.5) / 1000) }
      when.values[':before'] = { N: String((from + 0.5) / 1000) }
    }
    try {
      await this.#update(id, 'SET #expires = :expires', when, { ':expires': { N: String(Math.ceil(expires / 1000)) } })
      return true
    } catch (error) {
      if (!isRefused(error)) throw error
      return false
    }
  }

  async remove(id: string, version?: Version): Promise<boolean> {
    const when = version === undefined ? ANYTHING : ofVersion(version)
    const remove = new DeleteItemCommand({
      TableName: this.#sessions.name,
      Key: this.#keyOf(id),
      ReturnValues: 'ALL_OLD',
      ...expressions('', when),
    })
    try {
      const { Attributes } = await this.#sessions.using(() => this.#client.send(remove))
      return this.#toRecord(Attributes ?? null) !== null
    } catch (error) {
      if (!isRefused(error)) throw error
      return false
    }
  }

  async scan(cursor: string | null, limit: number): Promise<RecordPage> {
    const when = this.#ofThisStore(LIVE)
    const scan = new ScanCommand({
      TableName: this.#sessions.name,
      ConsistentRead: true,
      Limit: limit,
      ...filters(when),
      ...(cursor !== null && { ExclusiveStartKey: this.#keyOf(cursor) }),
    })
    const { Items = [], LastEvaluatedKey } = await this.#sessions.using(() => this.#client.send(scan))
    const records = Items.flatMap((item) => {
      const record = this.#toRecord(item)
      return record ? [{ id: this.#idOf(item), ...record }] : []
    })
    return { records, cursor: LastEvaluatedKey ? this.#idOf(LastEvaluatedKey) : null }
  }

  override count(): Promise<number> {
    return this.#sessions.using(async () => {
      let count = 0
      const pages = this.#sessions.pages({ ...filters(this.#ofThisStore(LIVE)), Select: 'COUNT' })
      for await (const page of pages) count += page.Count ?? 0
      return count
    })
  }

  /** The index first, so that a session that is linked and written meanwhile is not left without its entry. */
  override async removeAll(): Promise<void> {
    try {
      await this.#removeAllOf(this.#users)
    } catch (error) {
      if (!isNamed(error, 'ResourceNotFoundException')) throw error
    }
    await this.#sessions.using(() => this.#removeAllOf(this.#sessions))
  }

  async #removeAllOf(table: Table): Promise<void> {
    const { keys, name } = table
    for await (const { Items = [] } of table.pages(filters(this.#ofThisStore(undefined, keys[0])))) {
      for (let n = 0; n < Items.length; n += DELETIONS) {
        const deletions = Items.slice(n, n + DELETIONS).map((item) => {
          const Key = Object.fromEntries(keys.map((key) => [key, item[key] as AttributeValue]))
          return this.#client.send(new DeleteItemCommand({ TableName: name, Key }))
        })
        await Promise.all(deletions)
      }
    }
  }

  override async link(user: string, id: string, expires: number): Promise<void> {
    const end = { ':expires': { N: String(Math.ceil(expires / 1000)) } }
    const link = new UpdateItemCommand({
      TableName: this.#users.name,
      Key: this.#linkOf(user, id),
      ...expressions('SET #expires = :expires', {
        expression: 'attribute_not_exists(#expires) OR #expires < :expires',
        values: end,
      }),
    })
    try {
      await this.#users.using(() => this.#client.send(link))
    } catch (error) {
      if (!isRefused(error)) throw error
    }
  }

  override async unlink(user: string, id: string): Promise<void> {
    const unlink = new DeleteItemCommand({ TableName: this.#users.name, Key: this.#linkOf(user, id) })
    await this.#users.using(() => this.#client.send(unlink))
  }

  override async linked(user: string): Promise<string[]> {
    const ids: string[] = []
    let from: Item | undefined
    do {
      const query = new QueryCommand({
        TableName: this.#users.name,
        ConsistentRead: true,
        KeyConditionExpression: '#user = :user',
        FilterExpression: '#expires > :now',
        ExpressionAttributeNames: { '#user': 'user', '#expires': 'expires' },
        ExpressionAttributeValues: { ':user': { S: this.#prefix + user }, ':now': now() },
        ...(from && { ExclusiveStartKey: from }),
      })
      const { Items = [], LastEvaluatedKey } = await this.#users.using(() => this.#client.send(query))
      for (const { id } of Items) if (id?.S !== undefined) ids.push(id.S)
      from = LastEvaluatedKey
    } while (from)
    return ids
  }

  override async check(): Promise<string[]> {
    const findings = [...(await this.#sessions.check(true)), ...(await this.#users.check(false))]
    if (!this.#mayBatch) {
      findings.push('There is no right to BatchGetItem, so sessions are read one by one: grant dynamodb:BatchGetItem.')
    }
    return findings
  }

  override async close(): Promise<void> {
    await this.#reads.flush()
    if (this.#ownsClient) this.#client.destroy()
  }

  async #update(id: string, update: string, when: Condition, values: Item): Promise<void> {
    const command = new UpdateItemCommand({
      TableName: this.#sessions.name,
      Key: this.#keyOf(id),
      ...expressions(update, { ...when, values: { ...when.values, ...values } }),
    })
    await this.#sessions.using(() => this.#client.send(command))
  }

  #keyOf(id: string): Item {
    return { [this.#sessions.keys[0]]: { S: this.#prefix + id } }
  }

  #idOf(item: Item): string {
    return (item[this.#sessions.keys[0]]?.S as string).slice(this.#prefix.length)
  }

  #linkOf(user: string, id: string): Item {
    return { user: { S: this.#prefix + user }, id: { S: id } }
  }

  /** Other stores may have the same table, with other prefixes. */
  #ofThisStore(condition: string | undefined, key = this.#sessions.keys[0]): Condition {
    const isOurs = this.#prefix === '' ? [] : ['begins_with(#key, :prefix)']
    const expression = [...(condition === undefined ? [] : [condition]), ...isOurs].join(' AND ')
    return { expression, key, values: { ':prefix': { S: this.#prefix }, ':now': now() } }
  }

  #toRecord(item: Item | null): SessionRecord | null {
    const text = item?.['sess']?.S
    if (text === undefined) return null
    const end = item?.['expires']?.N
    const expires = end === undefined ? Date.now() + this.ttl : Math.round(Number(end) * 1000)
    return expires <= Date.now() ? null : { text, expires, version: versionOf(item) as string }
  }
}

function isRefused(error: unknown): boolean {
  return isNamed(error, 'ConditionalCheckFailedException')
}

function isRepeated(error: unknown): boolean {
  return ((error as { $metadata?: { attempts?: number } }).$metadata?.attempts ?? 1) > 1
}

function isTooLarge(error: unknown): boolean {
  return isNamed(error, 'ValidationException') && /item size/i.test((error as Error).message)
}

function tooLarge(id: string, text: string, cause: unknown): Error {
  const size = Math.ceil(Buffer.byteLength(text) / 1024)
  return new Error(`DynamoDBStore: session ${shortened(id)} has ${size} KB; DynamoDB takes 400 KB at most`, { cause })
}
