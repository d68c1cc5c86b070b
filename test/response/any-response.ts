import session from '../../src'
import { expect } from 'vitest'
import { classicStore } from '../faults/fault'
import { settled } from '../support/app'

/** Stores that answer at once, in a later turn, and in a later turn by the record contract. */
export const stores: Record<string, () => session.Store> = {
  'a synchronous store': () => new session.MemoryStore(),
  'an asynchronous store': () => classicStore(session),
  'an asynchronous record store': () => new LaterStore(),
}

class LaterStore extends session.MemoryStore {
  override read(...args: Parameters<session.MemoryStore['read']>) {
    return later(() => super.read(...args)) as never
  }
  override write(...args: Parameters<session.MemoryStore['write']>) {
    return later(() => super.write(...args)) as never
  }
  override remove(...args: Parameters<session.MemoryStore['remove']>) {
    return later(() => super.remove(...args)) as never
  }
}

const later = <T>(work: () => T): Promise<T> =>
  new Promise((resolve, reject) =>
    setTimeout(() => {
      try {
        resolve(work())
      } catch (error) {
        reject(error)
      }
    }, 2),
  )

export const BODY = 'Grüße, ' + 'x'.repeat(100)

export interface Received {
  status: number
  body: string
  cookies: string[]
}
export type Client = (cookie?: string) => Promise<Received>

export async function expectSession(client: Client, store: session.Store): Promise<void> {
  const first = await client()
  expect(first).toMatchObject({ status: 200, body: BODY })
  expect(first.cookies).toEqual([expect.stringContaining('connect.sid=')])
  const second = await client(first.cookies[0]?.split(';')[0])
  expect(second).toMatchObject({ status: 200, body: BODY })
  await settled()
  expect(await sessionsIn(store)).toMatchObject([{ views: 2 }])
}

export async function sessionsIn(store: session.Store): Promise<unknown[]> {
  if (!(store instanceof session.MemoryStore)) {
    return [...(store as ReturnType<typeof classicStore>).records.values()].map((text) => JSON.parse(text) as object)
  }
  const all = await new Promise(
    (resolve, reject) => void store.all((error: unknown, sessions) => (error ? reject(error) : resolve(sessions))),
  )
  return Object.values(all as object)
}
