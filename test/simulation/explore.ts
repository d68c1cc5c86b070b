import { byChance, EveryOrder, type Choose } from './scheduler'
import { literalOf, type Scenario } from './scenario'
import { SerialOrders } from './serial'
import { shrink } from './shrink'
import { isPossible, simulate } from './simulation'
import { byNumber } from './tables'

export interface Failure {
  readonly rule: string
  readonly what: string
  readonly scenario: Scenario
  readonly seed?: number
}

/** What was tried, and what broke; of each rule the first few failures are kept. */
export class Findings {
  schedules = 0
  scenarios = 0
  readonly failures: Failure[] = []
  readonly counts = new Map<string, number>()

  constructor(readonly kept = 1) {}

  async try(scenario: Scenario, choose: Choose, serial: SerialOrders, seed?: number): Promise<void> {
    this.schedules++
    const { schedule, violations } = await simulate(scenario, choose, serial)
    for (const rule of new Set(violations.map((one) => one.rule))) {
      const count = (this.counts.get(rule) ?? 0) + 1
      this.counts.set(rule, count)
      const { what } = violations.find((one) => one.rule === rule) as { what: string }
      const failure = { rule, what, scenario: { ...scenario, schedule }, ...(seed !== undefined && { seed }) }
      if (count <= this.kept) this.failures.push(failure)
    }
  }

  /** As a test may print it, with the smallest scenarios. */
  async report(): Promise<string> {
    const texts: string[] = []
    for (const { rule, scenario, seed, what } of this.failures) {
      const smallest = await shrink(scenario, rule)
      const title = `${rule} (${this.counts.get(rule)} times${seed === undefined ? '' : `; first at seed ${seed}`}): ${what}`
      texts.push(`${title}\n${literalOf(smallest)}`)
    }
    return texts.join('\n\n')
  }
}

/** Tries every order of each scenario, up to so many of one. */
export async function tryEveryOrder(scenarios: Iterable<Scenario>, findings: Findings, most = Infinity): Promise<void> {
  for (const scenario of scenarios) {
    if (!isPossible(scenario)) continue
    findings.scenarios++
    const serial = new SerialOrders(scenario)
    const every = new EveryOrder()
    let count = 0
    do await findings.try(scenario, every.choose, serial)
    while (every.next() && ++count < most)
  }
}

/** Tries schedules by chance: the seeds from `first` on. */
export async function tryByChance(first: number, count: number, findings: Findings): Promise<void> {
  let last = ''
  let serial: SerialOrders | undefined
  for (let seed = first; seed < first + count; seed++) {
    const { random, rate, scenario } = byNumber(seed)
    if (!isPossible(scenario)) continue
    const text = JSON.stringify(scenario)
    if (!serial || text !== last) {
      serial = new SerialOrders(scenario)
      findings.scenarios++
      last = text
    }
    await findings.try(scenario, byChance(random, rate), serial, seed)
  }
}
