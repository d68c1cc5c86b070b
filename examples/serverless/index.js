// The function on this machine, without an account: behind an HTTP server, and over dynalite, which speaks DynamoDB's protocol.
const { randomBytes } = require('node:crypto')
const { once } = require('node:events')
const { createServer } = require('node:http')
const { CreateTableCommand, DynamoDBClient } = require('@aws-sdk/client-dynamodb')
const dynalite = require('dynalite')
const { Resources } = require('./template.json')

async function startDynamoDB() {
  const server = dynalite({ createTableMs: 0 }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  process.env.AWS_ENDPOINT_URL_DYNAMODB = `http://127.0.0.1:${server.address().port}`
  process.env.AWS_REGION = 'eu-central-1'
  process.env.AWS_ACCESS_KEY_ID = process.env.AWS_SECRET_ACCESS_KEY = 'local'
}

/** The same table as in AWS. What ends there by its time to live is not deleted here; the store does not find it either way. */
async function makeTable() {
  const { AttributeDefinitions, BillingMode, KeySchema } = Resources.Sessions.Properties
  process.env.TABLE = 'sessions'
  const table = { TableName: process.env.TABLE, AttributeDefinitions, BillingMode, KeySchema }
  await new DynamoDBClient({}).send(new CreateTableCommand(table))
}

async function main() {
  await startDynamoDB()
  await makeTable()
  process.env.SESSION_SECRET ??= randomBytes(32).toString('hex')
  const { app } = require('./function')
  const server = createServer(app)
  server.listen(process.env.PORT ?? 3000, () => console.log(`http://localhost:${server.address().port}/`))
}

main()
