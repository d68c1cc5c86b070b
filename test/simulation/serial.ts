import type { Data } from './backend'
import { clock } from './clock'
import { outdated, partsOf } from './programs'
import { actionsOf, type Scenario } from './scenario'
import { setUp } from './observer'
import { World, type Actor } from './world'

/** More orders than this are not tried: then nothing is said. */
const MANY = 2000

/** What is stored by the orders of whole requests, or of their parts, one after the other. Made when it is asked for. */
export class SerialOrders {
  readonly #scenario: Scenario
  readonly #stored = new Map<string, string | undefined>()
  /** How many parts each request has. */
  readonly #parts: Readonly<Record<string, number>>

  constructor(scenario: Scenario) {
    this.#scenario = scenario
    const plans = Object.entries(scenario.requests)
    this.#parts = Object.fromEntries(plans.map(([name, plan]) => [name, partsOf(actionsOf(plan)).length]))
  }

  /**
   * Whether some order of these requests stores this; parts of those that are `unsure` may be left out. A request presents
   * the cookie that its browser has by then, or that of the same source as in the simulation: it may have begun long before.
   * @param mayLack whether a session need not be there, as a request has ended it
   */
  async allows(
    stored: string,
    unsure: readonly string[],
    sources: Sources,
    mayLack: (data: Data) => boolean,
  ): Promise<boolean> {
    const isSame = (text: string | undefined): boolean => text !== undefined && isStored(text, stored, mayLack)
    const parts = this.#partsOf(unsure)
    if (parts.length > 10) return true
    const unready = this.#unready(sources)
    let tried = 0
    for (const left of subsets(parts)) {
      for (const order of orders(this.#parts, left)) {
        if (++tried > MANY) return true
        if (isSame(await this.#after(order))) return true
        if (isSame(await this.#after(order, sources))) return true
        if (unready && isSame(await this.#after(order, unready))) return true
      }
    }
    return false
  }

  /** A stream's cookie leaves before the store has its session: who presents it may have found none. */
  #unready(sources: Sources): Sources | undefined {
    const { requests } = this.#scenario
    const streams = (source: string | undefined): boolean => / ?stream/.test(requests[source ?? '']?.does ?? '')
    if (!Object.values(sources).some(streams)) return undefined
    return Object.fromEntries(
      Object.entries(sources).map(([name, source]) => [name, streams(source) ? NOBODY : source]),
    )
  }

  #partsOf(names: readonly string[]): string[] {
    return names.flatMap((name) => Array.from({ length: this.#parts[name] as number }, (_, i) => name + i))
  }

  /** `undefined` where a part cannot be in this place. */
  async #after(order: readonly string[], sources?: Sources): Promise<string | undefined> {
    const key = JSON.stringify([order, sources])
    if (!this.#stored.has(key)) this.#stored.set(key, await this.#run(order, sources))
    return this.#stored.get(key)
  }

  async #run(order: readonly string[], sources: Sources | undefined): Promise<string | undefined> {
    const parts: Record<string, number[]> = {}
    for (const part of order) (parts[part[0] as string] ??= []).push(Number(part.slice(1)))
    const plans = Object.entries(this.#scenario.requests).filter(([name]) => name in parts)
    const before = await setUp(this.#scenario)
    clock.reset(2)
    const world = new World({ ...this.#scenario, requests: Object.fromEntries(plans), split: false }, before, parts)
    for (const part of order) {
      const name = part[0] as string
      const { client } = world.actors.get(name) as Actor
      const source = sources?.[name]
      if (sources) {
        const isThere = source === undefined || source === NOBODY
        const given = isThere
          ? before.jars[source ? 'stranger' : client]
          : world.given.findLast(({ actor }) => actor === source)?.cookie
        if (!isThere && given === undefined) return undefined
        world.jars[client] = given
      }
      const isTurn = (kind: string): boolean => kind === 'start' || kind === 'turn'
      let at = world.waiting.findIndex(({ actor, kind }) => actor === name && isTurn(kind))
      while (at !== -1) {
        await world.step({ at })
        at = world.waiting.findIndex(
          ({ actor, kind }) => actor === name && !isTurn(kind) && !(sources && kind === 'arrival'),
        )
      }
    }
    await world.becomeQuiet()
    clock.takeThrown()
    world.leave()
    return world.told.some(({ error }) => error === outdated) ? undefined : world.backend.text
  }
}

/** Whether this is what an order has stored, but for sessions that may be lacking. */
function isStored(byOrder: string, stored: string, mayLack: (data: Data) => boolean): boolean {
  if (byOrder === stored) return true
  const there = stored === '' ? [] : stored.split('\n')
  const wanted = byOrder.split('\n')
  const isLacking = (text: string): boolean => !there.includes(text)
  const mayBeLacking = (text: string): boolean => mayLack(Object.fromEntries(JSON.parse(text) as [string, unknown][]))
  return there.every((text) => wanted.includes(text)) && wanted.filter(isLacking).every(mayBeLacking)
}

/** In place of a source: no cookie that opens anything. */
const NOBODY = 'nobody'

/** Whose answer brings each request its cookie. */
type Sources = World['sources']

/** The smallest first: mostly nothing is left out. */
function subsets(parts: readonly string[]): Set<string>[] {
  const all = parts.reduce<string[][]>((sets, part) => sets.flatMap((set) => [set, [...set, part]]), [[]])
  return all.sort((a, b) => a.length - b.length).map((set) => new Set(set))
}

/** Every order of the parts, but those left out, where the parts of one request stay in their order. */
function* orders(parts: Readonly<Record<string, number>>, left: ReadonlySet<string>): Generator<string[]> {
  const next = new Map(Object.keys(parts).map((name) => [name, 0]))
  const order: string[] = []
  function* goOn(): Generator<string[]> {
    let isOver = true
    for (const [name, i] of next) {
      if (i === parts[name]) continue
      isOver = false
      next.set(name, i + 1)
      const isLeft = left.has(name + i)
      if (!isLeft) order.push(name + i)
      yield* goOn()
      if (!isLeft) order.pop()
      next.set(name, i)
      // The order of what is left out makes no difference.
      if (isLeft) break
    }
    if (isOver) yield [...order]
  }
  yield* goOn()
}
