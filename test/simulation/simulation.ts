/*
 * A simulator of sessions under concurrency. It knows the library by its public face alone.
 *
 * A scenario is a few requests, each a small program (`programs.ts`), in one process or two (`world.ts`), over one store
 * whose every call waits for the scheduler (`backend.ts`, `scheduler.ts`). The time stands still unless it is moved, and
 * chance is the same for the same seed (`clock.ts`), so a scenario with a schedule always goes the same way. When all is
 * quiet, the rules of `invariants.ts` are checked; a failure is shrunk (`shrink.ts`) and printed as a call of `replay`.
 *
 *   npm run simulate -- 200000           as many schedules by chance, after every order of two requests
 *   npm run simulate -- --seed 4711      that one schedule again
 */
import { clock } from './clock'
import { Inspection, type Violation } from './invariants'
import { byText, type Choose } from './scheduler'
import type { Scenario } from './scenario'
import { SerialOrders } from './serial'
import { middlewareOver, setUp, World } from './world'

export interface Outcome {
  readonly violations: readonly Violation[]
  /** The steps that were taken, as a schedule that repeats them. */
  readonly schedule: string
}

/** Lets a scenario happen once, in the order that is chosen, and inspects what came of it. */
export async function simulate(
  scenario: Scenario,
  choose: Choose,
  serial: SerialOrders = new SerialOrders(scenario),
): Promise<Outcome> {
  const before = await setUp(scenario)
  clock.reset(1)
  const world = new World(scenario, before)
  await world.run(choose)
  const schedule = world.trace.join(' ')
  const violations = await new Inspection(world, serial).violations()
  return { violations, schedule }
}

/** Repeats what was printed. */
export async function replay(scenario: Scenario): Promise<readonly Violation[]> {
  return atOwnTime(async () => (await simulate(scenario, byText(scenario.schedule ?? ''))).violations)
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

/** Whether the library knows these options. */
export function isPossible(scenario: Scenario): boolean {
  try {
    middlewareOver(scenario, undefined as never)
    return true
  } catch (error) {
    if ((error as { code?: string }).code === 'ERR_SESSION_OPTION') return false
    throw error
  }
}
