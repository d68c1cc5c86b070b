import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { DynamoDBClient, type DynamoDBClientConfig } from '@aws-sdk/client-dynamodb'

/** It makes and deletes tables at once, prints its port, and ends when nobody holds its input any more. */
const SERVER = `
  const settings = { createTableMs: 0, deleteTableMs: 0, updateTableMs: 0 }
  const server = require('dynalite')(settings).listen(0, '127.0.0.1', () => console.log(server.address().port))
  process.stdin.on('end', () => process.exit()).resume()`

/** A DynamoDB in a process of its own, and how to talk to it. */
export async function startDynamoDB() {
  const server = spawn(process.execPath, ['-e', SERVER], { cwd: __dirname, stdio: ['pipe', 'pipe', 'inherit'] })
  const [port] = (await once(server.stdout, 'data')) as [Buffer]
  const endpoint = `http://127.0.0.1:${Number(port.toString())}`
  const clients: DynamoDBClient[] = []
  return {
    endpoint,
    connect(config: DynamoDBClientConfig = {}): DynamoDBClient {
      const credentials = { accessKeyId: 'test', secretAccessKey: 'test' }
      const client = new DynamoDBClient({ endpoint, region: 'eu-central-1', credentials, ...config })
      clients.push(client)
      return client
    },
    close(): void {
      for (const client of clients) client.destroy()
      server.stdin.end()
    },
  }
}

export type DynamoDB = Awaited<ReturnType<typeof startDynamoDB>>
