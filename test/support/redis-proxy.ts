import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

/** A way to a server that loses answers: what was asked is done, and then the connection breaks. */
export interface LossyProxy {
  readonly port: number
  readonly lost: number
  /** Loses the answer to a request, for each request that this says yes to. */
  loseIf(isLost: (request: string) => boolean): void
  close(): Promise<void>
}

export async function lossyProxy(serverPort: number): Promise<LossyProxy> {
  let lost = 0
  let isLost: (request: string) => boolean = () => false
  const open = new Set<Socket>()
  const server = createServer((client) => {
    const upstream = connect(serverPort, '127.0.0.1')
    let loses = false
    client.on('data', (request) => {
      loses ||= isLost(request.toString())
      upstream.write(request)
    })
    upstream.on('data', (answer) => {
      if (!loses) return void client.write(answer)
      lost++
      client.destroy()
    })
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(one)
      one.on('error', () => undefined)
      one.on('close', () => {
        open.delete(one)
        other.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    get lost() {
      return lost
    },
    loseIf(condition) {
      isLost = condition
    },
    async close() {
      for (const socket of open) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
