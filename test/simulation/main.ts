import { parseArgs } from 'node:util'
import { Findings, tryByChance, tryEveryOrder } from './explore'
import { atOwnTime } from './simulation'
import { pairs } from './tables'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string' },
    from: { type: 'string', default: '0' },
    orders: { type: 'string', default: '1000' },
    kept: { type: 'string', default: '1' },
  },
})
const started = performance.now()
const findings = new Findings(Number(values.kept))
const chances = values.seed === undefined ? Number(positionals[0] ?? 20_000) : 1

async function main(): Promise<void> {
  const report = await atOwnTime(async () => {
    if (values.seed === undefined) await tryEveryOrder(pairs(), findings, Number(values.orders))
    console.log(`every order of two requests: ${counted()}`)
    await tryByChance(Number(values.seed ?? values.from), chances, findings)
    console.log(`and by chance: ${counted()}`)
    return findings.report()
  })
  for (const [rule, count] of findings.counts) console.log(`${rule}: ${count}`)
  if (report) console.log(`\n${report}`)
  process.exitCode = report ? 1 : 0
}

function counted(): string {
  const seconds = (performance.now() - started) / 1000
  const rate = Math.round(findings.schedules / seconds)
  return `${findings.schedules} schedules of ${findings.scenarios} scenarios, ${seconds.toFixed(1)} s, ${rate} per second`
}

void main().catch((e) => {
  console.error(e)
  process.exit(1)
})
