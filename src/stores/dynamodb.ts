import { randomBytes } from 'node:crypto'
import {
  BatchGetItemCommand,
  CreateTableCommand,
  DeleteItemCommand,
  DescribeTableCommand,
  DescribeTimeToLiveCommand,
  DynamoDBClient,
  GetItemCommand,
  QueryCommand,
  ScanCommand,
  UpdateItemCommand,
  UpdateTimeToLiveCommand,
  waitUntilTableExists,
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
import { OptionError, shortened } from '../base/errors'
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

type Item = Record<string, AttributeValue>

/** The most keys that BatchGetItem takes. */
const LARGEST_BATCH = 100
/** How many items are deleted at once. */
const DELETIONS = 25
/** How long, in seconds, a table may take to be made. */
const MAKING = 120

/** The names of attributes are given apart from expressions, as many are reserved words. */
const NAMES = { '#sess': 'sess', '#expires': 'expires', '#version': 'version', '#type': 'type' }
const LIVE = 'attribute_exists(#sess) AND (attribute_not_exists(#expires) OR #expires > :now)'
/** connect-dynamodb leaves an item without `sess` when it touches a session that is gone. */
const ABSENT = '(attribute_not_exists(#sess) OR #expires <= :now)'

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
  readonly #createTable: boolean
  readonly #errorLog: (...message: unknown[]) => void
  readonly #reads: Batches<string, PromiseSettledResult<SessionRecord | null>>
  /** False once it is known that there is no right to BatchGetItem, which connect-dynamodb does not need. */
  #mayBatch = true
  /** Tables being made, by name. */
  readonly #making = new Map<string, Promise<void>>()

  /** @throws OptionError when an option cannot be used */
  constructor(options?: DynamoDBStoreOptions) {
    super()
    const given = optionsOf(this, DynamoDBStore, options, OPTIONS)
    const { client, table = 'sessions', hashKey = 'id', prefix = 'sess:', ttl, serializer } = given
    this.#ownsClient = !client
    this.#client = (client as DynamoDBClient | undefined) ?? new DynamoDBClient({})
    this.#sessions = { name: table, keys: [hashKey] }
    this.#users = { name: `${table}_user`, keys: ['user', 'id'] }
    this.#prefix = prefix
    this.#createTable = given.createTableIfMissing ?? false
    this.#errorLog = given.errorLog ?? console.error
    this.ttl = ttl ?? DEFAULT_TTL
    if (serializer) this.serializer = serializer
    this.#reads = new Batches({
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
    return (await this.#using(this.#sessions, () => this.#client.send(get))).Item ?? null
  }

  /** Items by ID, `null` for those that are not there; none of those that have not been looked at. */
  async #getMany(ids: string[]): Promise<Map<string, Item | null>> {
    const { name } = this.#sessions
    const keys = ids.map((id) => this.#keyOf(id))
    const get = new BatchGetItemCommand({ RequestItems: { [name]: { Keys: keys, ConsistentRead: true } } })
    const found = new Map<string, Item | null>()
    try {
      const { Responses, UnprocessedKeys } = await this.#using(this.#sessions, () => this.#client.send(get))
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
      const { Attributes } = await this.#using(this.#sessions, () => this.#client.send(remove))
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
    const { Items = [], LastEvaluatedKey } = await this.#using(this.#sessions, () => this.#client.send(scan))
    const records = Items.flatMap((item) => {
      const record = this.#toRecord(item)
      return record ? [{ id: this.#idOf(item), ...record }] : []
    })
    return { records, cursor: LastEvaluatedKey ? this.#idOf(LastEvaluatedKey) : null }
  }

  override count(): Promise<number> {
    return this.#using(this.#sessions, async () => {
      let count = 0
      const pages = this.#pages(this.#sessions, { ...filters(this.#ofThisStore(LIVE)), Select: 'COUNT' })
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
    await this.#using(this.#sessions, () => this.#removeAllOf(this.#sessions))
  }

  async #removeAllOf(table: Table): Promise<void> {
    const { keys, name } = table
    for await (const { Items = [] } of this.#pages(table, filters(this.#ofThisStore(undefined, keys[0])))) {
      for (let n = 0; n < Items.length; n += DELETIONS) {
        const deletions = Items.slice(n, n + DELETIONS).map((item) => {
          const Key = Object.fromEntries(keys.map((key) => [key, item[key] as AttributeValue]))
          return this.#client.send(new DeleteItemCommand({ TableName: name, Key }))
        })
        await Promise.all(deletions)
      }
    }
  }

  async *#pages(table: Table, input: object) {
    let from: Item | undefined
    do {
      const start = from && { ExclusiveStartKey: from }
      const scan = new ScanCommand({ TableName: table.name, ConsistentRead: true, ...input, ...start })
      const page = await this.#client.send(scan)
      yield page
      from = page.LastEvaluatedKey
    } while (from)
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
      await this.#using(this.#users, () => this.#client.send(link))
    } catch (error) {
      if (!isRefused(error)) throw error
    }
  }

  override async unlink(user: string, id: string): Promise<void> {
    const unlink = new DeleteItemCommand({ TableName: this.#users.name, Key: this.#linkOf(user, id) })
    await this.#using(this.#users, () => this.#client.send(unlink))
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
      const { Items = [], LastEvaluatedKey } = await this.#using(this.#users, () => this.#client.send(query))
      for (const { id } of Items) if (id?.S !== undefined) ids.push(id.S)
      from = LastEvaluatedKey
    } while (from)
    return ids
  }

  override async check(): Promise<string[]> {
    const findings = [...(await this.#check(this.#sessions)), ...(await this.#check(this.#users))]
    if (!this.#mayBatch) {
      findings.push('There is no right to BatchGetItem, so sessions are read one by one: grant dynamodb:BatchGetItem.')
    }
    return findings
  }

  async #check(table: Table): Promise<string[]> {
    const { name, keys } = table
    try {
      const { Table: found } = await this.#client.send(new DescribeTableCommand({ TableName: name }))
      const its = found?.KeySchema?.map(({ AttributeName }) => AttributeName).join(', ')
      if (its !== keys.join(', ')) {
        return [`The key of the table ${name} is ${its}, not ${keys.join(', ')}: make it anew.\n${creation(table)}`]
      }
      const ttl = await this.#client.send(new DescribeTimeToLiveCommand({ TableName: name }))
      const { TimeToLiveStatus: status, AttributeName: attribute } = ttl.TimeToLiveDescription ?? {}
      if (/^ENABL/.test(status ?? '') && attribute === 'expires') return []
      return [`Nothing is deleted from the table ${name}: switch on its time to live.\n${timeToLive(table)}`]
    } catch (error) {
      if (!isNamed(error, 'ResourceNotFoundException')) throw error
      if (table === this.#users || this.#createTable) return []
      return [`The table ${name} is missing: make it.\n${creation(table)}`]
    }
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
    await this.#using(this.#sessions, () => this.#client.send(command))
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

  /** Makes a missing table only after an error: there may be no right to anything but items. */
  async #using<T>(table: Table, send: () => Promise<T>): Promise<T> {
    try {
      return await send()
    } catch (error) {
      if (!isNamed(error, 'ResourceNotFoundException')) throw error
      if (!this.#createTable) throw missing(table, error)
    }
    await this.#made(table)
    return send()
  }

  /** All callers share one attempt, and after a failure the next one tries again. */
  #made(table: Table): Promise<void> {
    let making = this.#making.get(table.name)
    if (!making) {
      making = this.#make(table).finally(() => this.#making.delete(table.name))
      this.#making.set(table.name, making)
    }
    return making
  }

  async #make(table: Table): Promise<void> {
    const { name: TableName, keys } = table
    const create = new CreateTableCommand({
      TableName,
      BillingMode: 'PAY_PER_REQUEST',
      AttributeDefinitions: keys.map((AttributeName) => ({ AttributeName, AttributeType: 'S' })),
      KeySchema: keys.map((AttributeName, n) => ({ AttributeName, KeyType: n === 0 ? 'HASH' : 'RANGE' })),
    })
    let isMadeHere = true
    try {
      await this.#client.send(create)
    } catch (error) {
      // Another process has been faster.
      if (!isNamed(error, 'ResourceInUseException')) throw error
      isMadeHere = false
    }
    await waitUntilTableExists({ client: this.#client, maxWaitTime: MAKING, minDelay: 1, maxDelay: 5 }, { TableName })
    if (!isMadeHere) return
    const TimeToLiveSpecification = { Enabled: true, AttributeName: 'expires' }
    try {
      await this.#client.send(new UpdateTimeToLiveCommand({ TableName, TimeToLiveSpecification }))
    } catch (error) {
      this.#errorLog(`sessile/dynamodb: the time to live of the table ${TableName} could not be switched on:`, error)
    }
  }
}

interface Table {
  readonly name: string
  /** The partition key and, if there is one, the sort key: both are strings. */
  readonly keys: readonly [string, ...string[]]
}

interface Condition {
  expression: string
  readonly values: Item
  /** The attribute that is called `#key` in it. */
  readonly key?: string
}

const ANYTHING: Condition = { expression: '', values: {} }

function conditionFor(condition: WriteCondition): Condition {
  if (condition === 'always') return ANYTHING
  const values = { ':now': now() }
  if (condition === 'absent') return { expression: ABSENT, values }
  if (condition === 'present') return { expression: LIVE, values }
  const same = ofVersion(condition.version)
  return { expression: `${LIVE} AND ${same.expression}`, values: { ...values, ...same.values } }
}

const BY_TEXT = 'text:'

function versionOf(item: Item | null): string | undefined {
  return item?.['version']?.S ?? (item?.['sess']?.S === undefined ? undefined : BY_TEXT + item['sess'].S)
}

function ofVersion(version: Version): Condition {
  const known = String(version)
  return known.startsWith(BY_TEXT)
    ? {
        expression: 'attribute_not_exists(#version) AND #sess = :known',
        values: { ':known': { S: known.slice(BY_TEXT.length) } },
      }
    : { expression: '#version = :known', values: { ':known': { S: known } } }
}

/** Expressions as commands take them, with those names and values that are in them: DynamoDB refuses others. */
function expressions(update: string, condition: Condition) {
  return {
    ...(update && { UpdateExpression: update }),
    ...(condition.expression && { ConditionExpression: condition.expression }),
    ...namesAndValues(`${update} ${condition.expression}`, condition),
  }
}

function filters(condition: Condition) {
  const { expression } = condition
  return expression ? { FilterExpression: expression, ...namesAndValues(expression, condition) } : {}
}

function namesAndValues(text: string, { key, values }: Condition) {
  const mentioned = new Set(text.match(/[#:]\w+/g))
  const only = <T>(all: Record<string, T>): Record<string, T> | undefined => {
    const found = Object.entries(all).filter(([name]) => mentioned.has(name))
    return found.length > 0 ? Object.fromEntries(found) : undefined
  }
  const names = only(key === undefined ? NAMES : { ...NAMES, '#key': key })
  const its = only(values)
  return { ...(names && { ExpressionAttributeNames: names }), ...(its && { ExpressionAttributeValues: its }) }
}

function now(): AttributeValue {
  return { N: String(Date.now() / 1000) }
}

function isNamed(error: unknown, name: string): boolean {
  return (error as { name?: unknown } | null)?.name === name
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

function creation(table: Table): string {
  const { name, keys } = table
  const definitions = keys.map((key) => `AttributeName=${key},AttributeType=S`).join(' ')
  const schema = keys.map((key, n) => `AttributeName=${key},KeyType=${n === 0 ? 'HASH' : 'RANGE'}`).join(' ')
  return (
    `aws dynamodb create-table --table-name ${name} --billing-mode PAY_PER_REQUEST ` +
    `--attribute-definitions ${definitions} --key-schema ${schema}\n${timeToLive(table)}`
  )
}

function timeToLive({ name }: Table): string {
  return `aws dynamodb update-time-to-live --table-name ${name} --time-to-live-specification Enabled=true,AttributeName=expires`
}

function missing(table: Table, cause: unknown): OptionError {
  const what = `a table is missing; set the option createTableIfMissing, or run:\n${creation(table)}`
  return new OptionError(`DynamoDBStore: ${what}`, { cause })
}
