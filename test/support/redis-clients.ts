import { once, type EventEmitter } from 'node:events'
import Redis, { Cluster } from 'ioredis'
import Redis5, { Cluster as Cluster5 } from 'ioredis5'
import { createClient, createCluster } from 'redis'
import { createClient as createClient4, createCluster as createCluster4 } from 'redis4'
import { createClient as createClient5, createCluster as createCluster5 } from 'redis5'

/** A client, connected, and how to let go of it. */
export interface Connected {
  client: object
  close(): unknown
}

interface NodeRedis {
  connect(): Promise<unknown>
  disconnect?(): unknown
  destroy?(): unknown
}

export async function connectNodeRedis(client: NodeRedis): Promise<Connected> {
  await client.connect()
  return { client, close: () => (client.destroy ? client.destroy() : client.disconnect?.()) }
}

/** Waits for the connection: until then an ioredis client keeps commands, and what they say of time grows old. */
export async function connectIoRedis(client: EventEmitter & { disconnect(): void }): Promise<Connected> {
  await once(client, 'ready')
  return { client, close: () => client.disconnect() }
}

const url = (port: number): string => `redis://127.0.0.1:${port}`
const rootNodes = (ports: number[]): { url: string }[] => ports.map((port) => ({ url: url(port) }))

/** Every client package, for one server. */
export const CLIENTS: { [name: string]: (port: number) => Promise<Connected> } = {
  'redis 4': (port) => connectNodeRedis(createClient4({ url: url(port) })),
  'redis 5': (port) => connectNodeRedis(createClient5({ url: url(port) })),
  'redis 6': (port) => connectNodeRedis(createClient({ url: url(port) })),
  'ioredis 5': (port) => connectIoRedis(new Redis5(port)),
  'ioredis 6': (port) => connectIoRedis(new Redis(port)),
}

/** Every client package, for a cluster. */
export const CLUSTER_CLIENTS: { [name: string]: (ports: number[]) => Promise<Connected> } = {
  'redis 4': (ports) => connectNodeRedis(createCluster4({ rootNodes: rootNodes(ports) })),
  'redis 5': (ports) => connectNodeRedis(createCluster5({ rootNodes: rootNodes(ports) })),
  'redis 6': (ports) => connectNodeRedis(createCluster({ rootNodes: rootNodes(ports) })),
  'ioredis 5': (ports) => connectIoRedis(new Cluster5(ports)),
  'ioredis 6': (ports) => connectIoRedis(new Cluster(ports)),
}
