import { SCENARIOS } from './in-process-scenarios.mjs'
import { ask } from './processes.mjs'
import { short, spread, summary, table, times } from './numbers.mjs'

export const title = 'In one process: added CPU time per request'

const program = new URL('./in-process-scenario.mjs', import.meta.url)

export async function run({ quick }) {
  const results = {}
  for (const { name } of SCENARIOS) {
    console.error(`  ${name}`)
    results[name] = evaluate(await ask(program, [name, quick ? '3' : '9'], { execArgv: ['--expose-gc'] }))
  }
  return results
}

/** Ratios are those of the medians; their spread is that of the rounds. To nothing that can be measured it is infinite. */
function evaluate({ bare, ...others }) {
  const added = (name) => others[name].perRequest.map((time, round) => time - bare.perRequest[round])
  const ratio = (of, to) => ({
    ...summary(added(of).map((time, round) => time / added(to)[round])),
    median: summary(added(of)).median / Math.max(0, summary(added(to)).median),
  })
  return {
    bare: summary(bare.perRequest),
    added: Object.fromEntries(Object.keys(others).map((name) => [name, summary(added(name))])),
    socketWrites: Object.fromEntries(Object.entries(others).map(([name, { writes }]) => [name, writes])),
    timesLess: ratio('express-session', 'sessile'),
    overFloor: others.floor ? ratio('sessile', 'floor') : undefined,
  }
}

export function tables(results) {
  const rows = Object.entries(results).map(([name, { added, bare, timesLess, overFloor, socketWrites }]) => [
    name,
    spread(added['express-session']),
    spread(added.sessile),
    spread(added.floor),
    timesLess.median === Infinity
      ? times(Infinity)
      : `${times(timesLess.median)} (${short(timesLess.low)} – ${short(timesLess.high)})`,
    overFloor ? `${times(overFloor.median)} (${short(overFloor.low)} – ${short(overFloor.high)})` : '–',
    `${socketWrites['express-session']} / ${socketWrites.sessile}`,
    short(bare.median),
  ])
  const header = [
    'request',
    'express-session, µs',
    'sessile, µs',
    'floor, µs',
    'times less',
    'over the floor',
    'socket writes, es / sessile',
    'bare app, µs',
  ]
  return table(header, rows)
}
