// node bench/run.mjs [benchmark ...] [--check] [--quick]
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { short, table } from './numbers.mjs'
import { plot } from './plot.mjs'
import { checkTargets } from './targets.mjs'

const NAMES = ['in-process', 'allocation', 'options', 'end-to-end', 'scale', 'startup', 'round-trips']
const RESULTS = new URL('results.json', import.meta.url)
const PLOT = new URL('plot.svg', import.meta.url)

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { check: { type: 'boolean' }, quick: { type: 'boolean' } },
})
const unknown = positionals.filter((name) => !NAMES.includes(name))
if (unknown.length > 0) throw new Error(`no benchmark ${unknown.join(', ')}; there are ${NAMES.join(', ')}`)

const measured = {}
for (const name of positionals.length > 0 ? positionals : NAMES) {
  const benchmark = await import(`./${name}.mjs`)
  console.error(name)
  measured[name] = await benchmark.run({ quick: flags.quick === true })
  console.log(`\n## ${benchmark.title}\n\n${benchmark.tables(measured[name])}`)
}
// A quick run shows that everything works; its numbers are not worth keeping.
if (!flags.quick) keep(measured)

const checks = checkTargets(measured)
console.log(`\n## Targets\n\n${table(['target', 'measured', 'wanted', ''], checks.map(targetRow))}`)
if (flags.check && !checks.every(({ met }) => met)) process.exitCode = 1

function targetRow({ name, figure, atLeast, atMost, met }) {
  const wanted = atLeast === undefined ? `at most ${atMost}` : `at least ${atLeast}`
  return [name, short(figure), wanted, met ? 'met' : '**missed**']
}

/** Puts the new numbers beside those of the benchmarks that were not run. */
function keep(results) {
  const machine = { node: process.version, cpu: cpus()[0]?.model, cores: cpus().length, date: new Date().toISOString() }
  const kept = existsSync(RESULTS) ? JSON.parse(readFileSync(RESULTS, 'utf8')) : {}
  const history = new URL(`results/${machine.date.replaceAll(':', '-')}.json`, import.meta.url)
  mkdirSync(new URL('.', history), { recursive: true })
  writeFileSync(history, json({ machine, ...results }))
  for (const [name, figures] of Object.entries(results)) kept[name] = { machine, figures }
  writeFileSync(RESULTS, json(kept))
  if (results['in-process']) writeFileSync(PLOT, plot(results['in-process']))
}

/** Numbers with four significant digits: more than any of them deserves. */
function json(value) {
  const rounded = (_, part) =>
    typeof part === 'number' && !Number.isInteger(part) ? Number(part.toPrecision(4)) : part
  return `${JSON.stringify(value, rounded, 2)}\n`
}
