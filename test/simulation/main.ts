/*
 *   npm run simulate                     every order of every two requests, then 200,000 schedules by chance
 *   npm run simulate -- 20000            as many by chance; with --orders 0 only these
 *   npm run simulate -- --seed 4711      that one schedule again
 *   npm run simulate -- --known          those that were found before
 *   SIMULATE_LIBRARY=/tmp/old npm run simulate    of a library that is built there
 */
import { parseArgs } from 'node:util'
import { KNOWN } from './known'
import { Search } from './search'
import { atOwnTime, replay } from './simulation'
import { pairs } from './tables'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string' },
    from: { type: 'string', default: '0' },
    orders: { type: 'string', default: 'Infinity' },
    kept: { type: 'string', default: '1' },
    known: { type: 'boolean', default: false },
  },
})
const search = new Search(Number(values.kept))
const chances = values.seed === undefined ? Number(positionals[0] ?? 200_000) : 1
const orders = values.seed === undefined ? Number(values.orders) : 0

async function replayKnown(): Promise<void> {
  for (const [name, scenario] of Object.entries(KNOWN)) {
    const violations = await replay(scenario)
    if (violations.length > 0) process.exitCode = 1
    console.log(`${violations.length > 0 ? 'BROKEN' : 'holds '} ${name}`)
    for (const { rule, what } of violations) console.log(`       ${rule}: ${what.replaceAll('\n', ' ')}`)
  }
}

async function main(): Promise<void> {
  if (values.known) return replayKnown()
  const report = await atOwnTime(async () => {
    if (orders > 0) await search.everyOrder(pairs(), orders)
    console.log(`every order of two requests: ${counted()}`)
    await search.byChance(Number(values.seed ?? values.from), chances)
    console.log(`and by chance: ${counted()}`)
    for (const [rule, count] of search.counts) console.log(`${rule}: ${count}`)
    return search.report()
  })
  if (report) console.log(`\n${report}`)
  process.exitCode = report ? 1 : 0
}

function counted(): string {
  const { system, user } = process.cpuUsage()
  const seconds = (system + user) / 1e6
  const rate = Math.round(search.schedules / seconds)
  return `${search.schedules} schedules of ${search.scenarios} scenarios, ${seconds.toFixed(1)} s of CPU time, ${rate} per second`
}

main().catch((error: unknown) => {
  console.error(error)
  process.exit(1)
})
