// @module-tag server
import { expect, test } from 'vitest'
import { describeWithOwnPostgres, startPostgres } from '../support/postgres-server'
import { until } from '../support/servers'
import { openShop, type Shop } from '../support/shops'

const VISITORS = 12
const WRITES_BEFORE_KILL = 200

/** Sets one key after the other in a session, and remembers which of them were acknowledged. */
class Visitor {
  readonly acknowledged: string[] = []
  readonly failures: string[] = []
  #stopped = false
  #done: Promise<void> | undefined

  constructor(
    readonly shop: Shop,
    readonly cookie: string,
  ) {}

  start(): void {
    this.#done = this.#writeOn()
  }

  async #writeOn(): Promise<void> {
    for (let n = 0; !this.#stopped; n++) {
      const { status, body } = await this.shop.visit(`/set/key${n}`, this.cookie)
      if (status === 200) this.acknowledged.push(`key${n}`)
      else this.failures.push(`${status} ${body}`)
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#done
  }
}

describeWithOwnPostgres('a PostgreSQL that is killed under load', () => {
  test('the app lives, requests get errors until it is back, and no acknowledged write is lost', async () => {
    const server = await startPostgres()
    const settings = { timeout: 2000, onSaveError: 'error' }
    const shop = await openShop('sessile', 'postgres', 'session', settings, { PGPORT: String(server.port) })
    const visitors = await Promise.all(
      Array.from({ length: VISITORS }, async () => new Visitor(shop, (await shop.visit('/login')).cookie as string)),
    )
    const count = (of: 'acknowledged' | 'failures'): number =>
      visitors.reduce((sum, visitor) => sum + visitor[of].length, 0)
    for (const visitor of visitors) visitor.start()
    for (let kills = 0; kills < 3; kills++) {
      const before = count('acknowledged')
      await until(() => count('acknowledged') >= before + WRITES_BEFORE_KILL)
      await server.kill()
      const failures = count('failures')
      await until(() => count('failures') >= failures + VISITORS)
      await server.start()
    }
    const atLast = visitors.map(({ acknowledged }) => acknowledged.length)
    await until(() => visitors.every(({ acknowledged }, n) => acknowledged.length > (atLast[n] as number)))
    await Promise.all(visitors.map((visitor) => visitor.stop()))

    for (const { acknowledged, failures, cookie } of visitors) {
      expect(failures.filter((failure) => !failure.startsWith('503 '))).toEqual([])
      const { status, body } = await shop.visit('/me', cookie)
      expect(status).toBe(200)
      const kept = JSON.parse(body) as object
      expect(acknowledged.filter((key) => !(key in kept))).toEqual([])
    }
    const kinds = new Set(visitors.flatMap(({ failures }) => failures))
    console.log(`${count('acknowledged')} writes acknowledged, ${count('failures')} failed: ${[...kinds].join(', ')}`)
    expect(shop.process.exitCode).toBeNull()
    shop.close()
    await server.close()
  }, 120_000)
})
