import { short, spread, summary, table, times } from './numbers.mjs'
import { ask } from './processes.mjs'

export const title = 'In one process: bytes that a request allocates, over the bare app'

const program = new URL('./allocation-scenario.mjs', import.meta.url)
const SCENARIOS = [
  'returning, reads, 200 B',
  'returning, writes, 200 B',
  'returning, never looked at, 200 B',
  'new visitor, untouched',
  'new visitor, looked at, untouched',
]

export async function run({ quick }) {
  const results = {}
  for (const name of SCENARIOS) {
    const execArgv = ['--expose-gc', '--min-semi-space-size=64', '--max-semi-space-size=64']
    const { bare, ...others } = await ask(program, [name, quick ? '3' : '9'], { execArgv })
    const least = summary(bare).median
    const over = (bytes) => summary(bytes.map((one) => one - least))
    results[name] = {
      bare: summary(bare),
      ...Object.fromEntries(Object.entries(others).map(([of, bytes]) => [of, over(bytes)])),
    }
  }
  return results
}

export function tables(results) {
  const rows = Object.entries(results).map(([name, { bare, sessile, floor, 'express-session': original }]) => [
    name,
    spread(original),
    spread(sessile),
    floor ? spread(floor) : '–',
    times(original.median / sessile.median),
    short(bare.median),
  ])
  return table(['request', 'express-session', 'sessile', 'floor', 'times less', 'bare app'], rows)
}
