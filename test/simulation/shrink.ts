import { byText } from './scheduler'
import type { Plan, Scenario } from './scenario'
import { isPossible, simulate } from './simulation'

/** Whether a scenario breaks this rule. */
async function breaks(scenario: Scenario, rule: string): Promise<boolean> {
  if (!isPossible(scenario)) return false
  const { violations } = await simulate(scenario, byText(scenario.schedule ?? ''))
  return violations.some((one) => one.rule === rule)
}

/** The smallest scenario found that still breaks the rule: fewer requests, actions, faults, options and steps. */
export async function shrink(scenario: Scenario, rule: string): Promise<Scenario> {
  let smallest = scenario
  for (let isSmaller = true; isSmaller;) {
    isSmaller = false
    for (const smaller of smallerThan(smallest)) {
      if (!(await breaks(smaller, rule))) continue
      smallest = smaller
      isSmaller = true
      break
    }
  }
  return smallest
}

function* smallerThan(scenario: Scenario): Generator<Scenario> {
  const { options = {}, requests, schedule = '', split, store, setup, ...rest } = scenario
  const whole = {
    ...rest,
    ...(store && { store }),
    ...(setup && { setup }),
    ...(split && { split }),
    options,
    requests,
    schedule,
  }
  const names = Object.keys(requests)
  if (names.length > 1) for (const name of names) yield { ...whole, requests: without(requests, name) }
  for (const name of names) {
    const plan = requests[name] as Plan
    const actions = plan.does.split(';').map((action) => action.trim())
    if (actions.length > 1) {
      for (let i = 0; i < actions.length; i++) {
        yield { ...whole, requests: { ...requests, [name]: { ...plan, does: actions.toSpliced(i, 1).join('; ') } } }
      }
    }
    if (plan.in === 2) yield { ...whole, requests: { ...requests, [name]: without(plan, 'in') } }
    if (plan.from) yield { ...whole, requests: { ...requests, [name]: without(plan, 'from') } }
  }
  if (split) yield { ...whole, split: false }
  if (setup) yield without(whole, 'setup')
  for (const name of Object.keys(options)) yield { ...whole, options: without(options, name as never) }
  const steps = schedule.split(' ').filter(Boolean)
  for (const [i, step] of steps.entries()) {
    if (step.includes('!')) yield { ...whole, schedule: steps.with(i, step.replace(/!\w+/, '')).join(' ') }
  }
  if (steps.length > 0) yield { ...whole, schedule: steps.slice(0, steps.length >> 1).join(' ') }
  for (let i = steps.length - 1; i >= 0; i--) yield { ...whole, schedule: steps.toSpliced(i, 1).join(' ') }
}

function without<T extends object>(object: T, name: keyof T): T {
  const { [name]: _left, ...rest } = object
  return rest as T
}
