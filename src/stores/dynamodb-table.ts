import {
  CreateTableCommand,
  DescribeTableCommand,
  DescribeTimeToLiveCommand,
  ScanCommand,
  UpdateTimeToLiveCommand,
  waitUntilTableExists,
  type DynamoDBClient,
} from '@aws-sdk/client-dynamodb'
import { OptionError } from '../base/errors'
import type { Item } from './dynamodb-expressions'

/** How long, in seconds, a table may take to be made. */
const MAKING = 120

/** A table whose items end at their attribute `expires`: whether it is there and as it should be, and how it is made. */
export class Table {
  #making: Promise<void> | undefined

  /**
   * @param keys the partition key and, if there is one, the sort key: both are strings
   * @param errorLog where the table may be made, called with what fails then
   */
  constructor(
    private readonly client: DynamoDBClient,
    readonly name: string,
    readonly keys: readonly [string, ...string[]],
    private readonly errorLog: ((...message: unknown[]) => void) | false,
  ) {}

  /** Sends what needs the table. A missing one is made only after an error: there may be no right to anything but items. */
  async using<T>(send: () => Promise<T>): Promise<T> {
    try {
      return await send()
    } catch (error) {
      if (!isNamed(error, 'ResourceNotFoundException')) throw error
      if (!this.errorLog) throw this.#missing(error)
    }
    // All callers share one attempt, and after a failure the next one tries again.
    await (this.#making ??= this.#make(this.errorLog).finally(() => (this.#making = undefined)))
    return send()
  }

  async *pages(input: object) {
    let from: Item | undefined
    do {
      const start = from && { ExclusiveStartKey: from }
      const page = await this.client.send(
        new ScanCommand({ TableName: this.name, ConsistentRead: true, ...input, ...start }),
      )
      yield page
      from = page.LastEvaluatedKey
    } while (from)
  }

  /** What is wrong with the table, and what to do; one that is missing and that is made when it is needed is fine. */
  async check(isNeeded: boolean): Promise<string[]> {
    const { name, keys } = this
    try {
      const { Table: found } = await this.client.send(new DescribeTableCommand({ TableName: name }))
      const its = found?.KeySchema?.map(({ AttributeName }) => AttributeName).join(', ')
      if (its !== keys.join(', ')) {
        return [`The key of the table ${name} is ${its}, not ${keys.join(', ')}: make it anew.\n${this.#creation()}`]
      }
      const ttl = await this.client.send(new DescribeTimeToLiveCommand({ TableName: name }))
      const { TimeToLiveStatus: status, AttributeName: attribute } = ttl.TimeToLiveDescription ?? {}
      if (/^ENABL/.test(status ?? '') && attribute === 'expires') return []
      return [`Nothing is deleted from the table ${name}: switch on its time to live.\n${this.#timeToLive()}`]
    } catch (error) {
      if (!isNamed(error, 'ResourceNotFoundException')) throw error
      if (!isNeeded || this.errorLog) return []
      return [`The table ${name} is missing: make it.\n${this.#creation()}`]
    }
  }

  async #make(errorLog: (...message: unknown[]) => void): Promise<void> {
    const { name: TableName, keys } = this
    const create = new CreateTableCommand({
      TableName,
      BillingMode: 'PAY_PER_REQUEST',
      AttributeDefinitions: keys.map((AttributeName) => ({ AttributeName, AttributeType: 'S' })),
      KeySchema: keys.map((AttributeName, n) => ({ AttributeName, KeyType: n === 0 ? 'HASH' : 'RANGE' })),
    })
    let isMadeHere = true
    try {
      await this.client.send(create)
    } catch (error) {
      // Another process has been faster.
      if (!isNamed(error, 'ResourceInUseException')) throw error
      isMadeHere = false
    }
    await waitUntilTableExists({ client: this.client, maxWaitTime: MAKING, minDelay: 1, maxDelay: 5 }, { TableName })
    if (!isMadeHere) return
    const TimeToLiveSpecification = { Enabled: true, AttributeName: 'expires' }
    try {
      await this.client.send(new UpdateTimeToLiveCommand({ TableName, TimeToLiveSpecification }))
    } catch (error) {
      errorLog(`sessile/dynamodb: the time to live of the table ${TableName} could not be switched on:`, error)
    }
  }

  #missing(cause: unknown): OptionError {
    const what = `a table is missing; set the option createTableIfMissing, or run:\n${this.#creation()}`
    return new OptionError(`DynamoDBStore: ${what}`, { cause })
  }

  #creation(): string {
    const definitions = this.keys.map((key) => `AttributeName=${key},AttributeType=S`).join(' ')
    const schema = this.keys.map((key, n) => `AttributeName=${key},KeyType=${n === 0 ? 'HASH' : 'RANGE'}`).join(' ')
    return (
      `aws dynamodb create-table --table-name ${this.name} --billing-mode PAY_PER_REQUEST ` +
      `--attribute-definitions ${definitions} --key-schema ${schema}\n${this.#timeToLive()}`
    )
  }

  #timeToLive(): string {
    return `aws dynamodb update-time-to-live --table-name ${this.name} --time-to-live-specification Enabled=true,AttributeName=expires`
  }
}

/** Errors of AWS are told apart by their names. */
export function isNamed(error: unknown, name: string): boolean {
  return (error as { name?: unknown } | null)?.name === name
}
