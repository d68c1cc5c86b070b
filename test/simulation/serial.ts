import { clock } from './clock'
import { beginningsOf } from './programs'
import { actionsOf, type Scenario } from './scenario'
import { setUp, World } from './world'

/** What is stored by each order of whole requests, or of those of their parts that begin anew: made when it is asked for. */
export class SerialOrders {
  readonly #scenario: Scenario
  readonly #stored = new Map<string, string>()
  readonly #parts: Readonly<Record<string, number>>
  /** Whether an order of whole requests can tell what may be stored. */
  readonly canTell: boolean
  readonly #changesCookies: boolean

  constructor(scenario: Scenario) {
    this.#scenario = scenario
    const parts: Record<string, number> = {}
    let canTell = true
    let changesCookies = false
    for (const [name, plan] of Object.entries(scenario.requests)) {
      const beginnings = beginningsOf(actionsOf(plan))
      if (!beginnings) canTell = false
      parts[name] = 1 + (beginnings?.length ?? 0)
      if (/renew|regenerate|destroy|end(All|Others)|login/.test(plan.does)) changesCookies = true
    }
    this.#parts = parts
    this.canTell = canTell
    this.#changesCookies = changesCookies
  }

  /** Whether some order of these requests stores this; those that are `unsure` may be left out. */
  async allows(stored: string, names: readonly string[], unsure: readonly string[]): Promise<boolean> {
    const sure = names.filter((name) => !unsure.includes(name))
    for (const extra of subsets(unsure)) {
      for (const order of orders([...sure, ...extra], this.#parts)) {
        if ((await this.#after(order, false)) === stored) return true
        if (this.#changesCookies && (await this.#after(order, true)) === stored) return true
      }
    }
    return false
  }

  async #after(order: readonly string[], arrivesLast: boolean): Promise<string> {
    const key = `${order.join('')}${arrivesLast ? ' last' : ''}`
    let stored = this.#stored.get(key)
    if (stored === undefined) this.#stored.set(key, (stored = await this.#run(order, arrivesLast)))
    return stored
  }

  async #run(order: readonly string[], arrivesLast: boolean): Promise<string> {
    const requests = Object.fromEntries(
      Object.entries(this.#scenario.requests).filter(([name]) => order.includes(name)),
    )
    const before = await setUp(this.#scenario)
    clock.reset(2)
    const world = new World({ ...this.#scenario, requests, split: false }, before)
    world.stopsAtBeginnings = true
    for (const name of order) {
      const isBeginning = (kind: string): boolean => kind === 'start' || kind === 'beginning'
      let at = world.waiting.findIndex(({ actor, kind }) => actor === name && isBeginning(kind))
      while (at !== -1) {
        await world.step({ at })
        at = world.waiting.findIndex(
          ({ actor, kind }) => actor === name && !isBeginning(kind) && !(arrivesLast && kind === 'arrival'),
        )
      }
    }
    await world.becomeQuiet()
    clock.takeThrown()
    return world.stored
  }
}

/** All of them first. */
function subsets(names: readonly string[]): string[][] {
  const all = names.reduce<string[][]>((sets, name) => sets.flatMap((set) => [[...set, name], set]), [[]])
  return all.sort((a, b) => b.length - a.length)
}

/** Every order of the parts of these requests, where the parts of one stay in their order. */
function* orders(names: readonly string[], parts: Readonly<Record<string, number>>): Generator<string[]> {
  const left = new Map(names.map((name) => [name, parts[name] as number]))
  const order: string[] = []
  function* goOn(): Generator<string[]> {
    let isOver = true
    for (const [name, count] of left) {
      if (count === 0) continue
      isOver = false
      left.set(name, count - 1)
      order.push(name)
      yield* goOn()
      order.pop()
      left.set(name, count)
    }
    if (isOver) yield [...order]
  }
  yield* goOn()
}
