/*
 * A simulator of sessions under concurrency. It knows the library by its public face alone.
 *
 * A scenario (`scenario.ts`) is a few requests, each a small program (`programs.ts`), in one process or two (`world.ts`), over
 * one store whose every call waits until it is chosen (`backend.ts`). The time stands still unless it is moved, and chance is
 * the same for the same seed (`clock.ts`), so a scenario with a schedule always goes the same way. When all is quiet, the
 * rules of `invariants.ts` are checked. `search.ts` tries schedules; a failure is shrunk and printed as a call of `replay`.
 */
import { clock } from './clock'
import { Inspection, type Violation } from './invariants'
import { setUp } from './observer'
import type { Scenario } from './scenario'
import { byText, type Choose } from './search'
import { SerialOrders } from './serial'
import { World } from './world'

export interface Outcome {
  readonly violations: readonly Violation[]
  /** The steps that were taken, as a schedule that repeats them. */
  readonly schedule: string
}

/** Lets a scenario happen once, in the order that is chosen, and inspects what came of it. */
export async function simulate(scenario: Scenario, choose: Choose, serial: SerialOrders): Promise<Outcome> {
  const before = await setUp(scenario)
  clock.reset(1)
  const world = new World(scenario, before)
  await world.run(choose)
  const schedule = world.trace.join(' ')
  const violations = await new Inspection(world, serial).violations()
  world.leave()
  return { violations, schedule }
}

/** Repeats what was printed. */
export async function replay(scenario: Scenario): Promise<readonly Violation[]> {
  const choose = byText(scenario.schedule ?? '')
  return atOwnTime(async () => (await simulate(scenario, choose, new SerialOrders(scenario))).violations)
}

/** Does some work while the clock is the simulation's. */
export async function atOwnTime<T>(work: () => Promise<T>): Promise<T> {
  clock.enter()
  try {
    return await work()
  } finally {
    clock.leave()
  }
}
