// @module-tag slow
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, test } from 'vitest'
import { DynamoDBStore } from '../../src/stores/dynamodb'
import { recordStoreContract, storeContract, type MakeStore } from '../../src/testing'
import { startDynamoDB, type DynamoDB } from '../support/dynamodb'

/** The cases that write a value of 1 MB; dynamodb.test.ts says what becomes of it. */
const TOO_LARGE = /unusual values as they/

describe('DynamoDBStore', () => {
  let dynamodb: DynamoDB
  beforeAll(async () => {
    dynamodb = await startDynamoDB()
  })
  afterAll(() => dynamodb.close())

  const make: MakeStore<DynamoDBStore> = () => {
    const table = 't' + randomBytes(6).toString('hex')
    return new DynamoDBStore({
      client: dynamodb.connect(),
      table,
      createTableIfMissing: true,
      errorLog: () => undefined,
    })
  }
  const facts = { granularity: 1000 }
  for (const [contract, cases] of Object.entries({
    record: recordStoreContract(make, facts),
    classic: storeContract(make, facts),
  })) {
    for (const { group, name, run } of cases) {
      if (!TOO_LARGE.test(name)) test(`${contract}, ${group}: ${name}`, run)
    }
  }
})
