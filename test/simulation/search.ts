import { actionsOf, FAULTS, literalOf, stepsOf, type Fault, type Plan, type Scenario } from './scenario'
import { SerialOrders } from './serial'
import { isPossible } from './observer'
import { simulate } from './simulation'
import { byNumber } from './tables'
import type { Choice, Waiting } from './world'

/** Says what comes next. */
export type Choose = (waiting: readonly Waiting[]) => Choice

/** By a text, as it was printed. A step that its request does not wait for is left out; after the last, as it comes. */
export function byText(schedule: string): Choose {
  const steps = stepsOf(schedule)
  return (waiting) => {
    for (let step = steps.shift(); step; step = steps.shift()) {
      const { actor, fault, place } = step
      const own = waiting.filter((one) => one.actor === actor)
      const one = own[Math.min(place, own.length - 1)]
      if (one) return { at: waiting.indexOf(one), fault }
    }
    return { at: 0 }
  }
}

/** Every order in which things can happen, one after the other. */
class EveryOrder {
  #path: { at: number; of: number }[] = []
  #depth = 0

  readonly choose: Choose = (waiting) => {
    const step = (this.#path[this.#depth++] ??= { at: 0, of: 0 })
    step.of = waiting.length
    return { at: Math.min(step.at, waiting.length - 1) }
  }

  /** Leads to the next order; false when that was the last one. */
  next(): boolean {
    this.#path.length = this.#depth
    this.#depth = 0
    for (let last = this.#path.pop(); last; last = this.#path.pop()) {
      if (last.at + 1 >= last.of) continue
      this.#path.push({ at: last.at + 1, of: last.of })
      return true
    }
    return false
  }
}

const KINDS = Object.keys(FAULTS) as Fault[]

/** By chance; a store call goes wrong as often as `rate` says, and no more than twice. */
function byChance(random: () => number, rate: number): Choose {
  let faults = 0
  return (waiting) => {
    const at = Math.floor(random() * waiting.length)
    const goesWrong = random() < rate && waiting[at]?.kind === 'call' && faults < 2
    if (!goesWrong) return { at }
    faults++
    return { at, fault: KINDS[Math.floor(random() * KINDS.length)] }
  }
}

export interface Failure {
  readonly rule: string
  readonly what: string
  readonly scenario: Scenario
  /** Of a schedule by chance. */
  readonly seed: number | undefined
}

/** What was tried, and what broke; of each rule the first few failures are kept. */
export class Search {
  schedules = 0
  scenarios = 0
  readonly failures: Failure[] = []
  readonly counts = new Map<string, number>()

  constructor(readonly kept = 1) {}

  /** Tries every order of each scenario, up to so many of one. */
  async everyOrder(scenarios: Iterable<Scenario>, most = Infinity): Promise<void> {
    for (const scenario of scenarios) {
      if (!isPossible(scenario)) continue
      this.scenarios++
      const serial = new SerialOrders(scenario)
      const every = new EveryOrder()
      let count = 0
      do await this.#try(scenario, every.choose, serial)
      while (++count < most && every.next())
    }
  }

  /** Tries schedules by chance: the seeds from `first` on. */
  async byChance(first: number, count: number): Promise<void> {
    let last = ''
    let serial: SerialOrders | undefined
    for (let seed = first; seed < first + count; seed++) {
      const { random, rate, scenario } = byNumber(seed)
      const text = JSON.stringify(scenario)
      if (text !== last) {
        last = text
        serial = isPossible(scenario) ? new SerialOrders(scenario) : undefined
        if (serial) this.scenarios++
      }
      if (serial) await this.#try(scenario, byChance(random, rate), serial, seed)
    }
  }

  async #try(scenario: Scenario, choose: Choose, serial: SerialOrders, seed?: number): Promise<void> {
    this.schedules++
    const { schedule, violations } = await simulate(scenario, choose, serial)
    for (const { rule, what } of violations) {
      const count = (this.counts.get(rule) ?? 0) + 1
      this.counts.set(rule, count)
      if (count <= this.kept) this.failures.push({ rule, what, scenario: { ...scenario, schedule }, seed })
    }
  }

  /** As a test may print it, each with the smallest scenario that still breaks the rule. */
  async report(): Promise<string> {
    const texts: string[] = []
    for (const { rule, scenario, seed, what } of this.failures) {
      const title = `${rule} (${this.counts.get(rule)} times${seed === undefined ? '' : `; seed ${seed}`}): ${what}`
      texts.push(`${title}\n${literalOf(await shrink(scenario, rule))}`)
    }
    return texts.join('\n\n')
  }
}

/** The smallest scenario found that still breaks the rule: fewer requests, actions, faults, options and steps. */
async function shrink(scenario: Scenario, rule: string): Promise<Scenario> {
  let smallest = scenario
  for (let isSmaller = true; isSmaller;) {
    isSmaller = false
    for (const smaller of smallerThan(smallest)) {
      if (!isPossible(smaller)) continue
      const { violations } = await simulate(smaller, byText(smaller.schedule ?? ''), new SerialOrders(smaller))
      if (!violations.some((one) => one.rule === rule)) continue
      smallest = smaller
      isSmaller = true
      break
    }
  }
  return smallest
}

function* smallerThan(scenario: Scenario): Generator<Scenario> {
  const { options = {}, requests, schedule = '' } = scenario
  const names = Object.keys(requests)
  if (names.length > 1) for (const name of names) yield { ...scenario, requests: without(requests, name) }
  for (const name of names) {
    const plan = requests[name] as Plan
    const becomes = (smaller: Plan): Scenario => ({ ...scenario, requests: { ...requests, [name]: smaller } })
    const actions = plan.does.split(';').map((action) => action.trim())
    for (let i = 0; i < actions.length && actionsOf(plan).length > 1; i++) {
      yield becomes({ ...plan, does: actions.toSpliced(i, 1).join('; ') })
    }
    if ('in' in plan) yield becomes(without(plan, 'in'))
    if ('from' in plan) yield becomes(without(plan, 'from'))
  }
  for (const name of ['split', 'setup', 'store'] as const) if (name in scenario) yield without(scenario, name)
  for (const name of Object.keys(options)) yield { ...scenario, options: without(options, name as never) }
  if ('options' in scenario && Object.keys(options).length === 0) yield without(scenario, 'options')
  const steps = schedule.split(' ').filter(Boolean)
  for (const [i, step] of steps.entries()) {
    if (step.includes('!')) yield { ...scenario, schedule: steps.with(i, step.replace(/!\w+/, '')).join(' ') }
  }
  if (steps.length > 0) yield { ...scenario, schedule: steps.slice(0, steps.length >> 1).join(' ') }
  for (let i = steps.length - 1; i >= 0; i--) yield { ...scenario, schedule: steps.toSpliced(i, 1).join(' ') }
}

function without<T extends object, K extends keyof T>(object: T, name: K): Omit<T, K> {
  const { [name]: _left, ...rest } = object
  return rest
}
