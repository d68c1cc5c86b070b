// @module-tag slow
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { CreateTableCommand, type CreateTableCommandInput } from '@aws-sdk/client-dynamodb'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { DynamoDBStore } from '../../src/stores/dynamodb'
import { startDynamoDB, type DynamoDB } from '../support/dynamodb'
import { sendTo, type LambdaHandler, type SendToLambda } from '../support/lambda'

const folder = path.join(__dirname, '../../examples/serverless')
const template = JSON.parse(readFileSync(path.join(folder, 'template.json'), 'utf8')) as {
  Resources: {
    Sessions: { Properties: Omit<CreateTableCommandInput, 'TableName'> & { TimeToLiveSpecification?: unknown } }
    Function: { Properties: { Handler: string; Policies: { Statement: { Action: string[] }[] }[] } }
  }
}
const { Function: deployed, Sessions: table } = template.Resources

let dynamodb: DynamoDB
beforeAll(async () => {
  dynamodb = await startDynamoDB()
  const { TimeToLiveSpecification: _, ...properties } = table.Properties
  await dynamodb.connect().send(new CreateTableCommand({ ...properties, TableName: 'shop' }))
  const env = {
    ...dynamodb.env,
    TABLE: 'shop',
    SESSION_SECRET: 'a secret for this test, long enough',
    NODE_ENV: 'production',
  }
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
})
afterAll(() => {
  vi.unstubAllEnvs()
  dynamodb.close()
})

/** The function, as it is when AWS has just started a machine for it. */
function coldStart(): SendToLambda {
  const [file = '', name = ''] = deployed.Properties.Handler.split('.')
  const load = createRequire(path.join(folder, 'index.js'))
  for (const key of Object.keys(load.cache)) if (key.startsWith(folder)) delete load.cache[key]
  return sendTo((load(`./${file}`) as Record<string, LambdaHandler>)[name] as LambdaHandler)
}

test('the function of the template finds its sessions in the table of the template, cold-started on every call', async () => {
  const first = await coldStart()('GET', '/')
  expect(first).toMatchObject({ status: 200, body: 'calls: 1' })
  expect(first.cookies[0]).toMatch(/HttpOnly/)
  const [cookie] = first.cookies[0]?.split(';') ?? []
  expect(await coldStart()('GET', '/', cookie)).toMatchObject({ status: 200, body: 'calls: 2' })
  expect(await coldStart()('POST', '/forget', cookie)).toMatchObject({ status: 204 })
  expect(await coldStart()('GET', '/', cookie)).toMatchObject({ status: 200, body: 'calls: 1' })
})

test('the template lets DynamoDB delete what has ended, and gives the function no right that it does not use', async () => {
  const used = new Set<string>()
  const client = dynamodb.connect()
  client.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        used.add(`dynamodb:${String(commandName).replace(/Command$/, '')}`)
        return next(args)
      },
    { step: 'initialize' },
  )
  const store = new DynamoDBStore({ client, table: 'shop' })
  for (const id of ['a', 'b']) await store.set(id, { cookie: { expires: null } } as never)
  await Promise.all(['a', 'b'].map(async (id) => store.get(id)))
  await store.get('a')
  await store.destroy('a')
  const [policy] = deployed.Properties.Policies
  expect([...used].sort()).toEqual(policy?.Statement[0]?.Action.toSorted())
  expect(table.Properties.TimeToLiveSpecification).toEqual({ AttributeName: 'expires', Enabled: true })
})
