import { short, spread, summary, table, times } from './numbers.mjs'
import { ask } from './processes.mjs'

export const title = 'Options for lifetimes and security: added CPU time per request'

const program = new URL('./options-requests.mjs', import.meta.url)

export async function run({ quick }) {
  const { crypto, ...kinds } = await ask(program, [quick ? '3' : '9'], { execArgv: ['--expose-gc'] })
  const added = ({ bare, ...sets }) =>
    Object.fromEntries(
      Object.entries(sets).map(([name, perRequest]) => [
        name,
        summary(perRequest.map((time, round) => time - bare[round])),
      ]),
    )
  return { crypto, ...Object.fromEntries(Object.entries(kinds).map(([kind, sets]) => [kind, added(sets)])) }
}

export function tables({ crypto, reads, writes }) {
  const rows = Object.keys(reads).map((name) => [
    name,
    spread(reads[name]),
    times(reads[name].median / reads.none.median),
    spread(writes[name]),
    times(writes[name].median / writes.none.median),
  ])
  const alone = Object.entries(crypto).map(([name, time]) => [name, short(time)])
  const options = table(['options', 'reads, µs', 'to none', 'writes, µs', 'to none'], rows)
  return `${options}\n\n${table(["Node's crypto alone", 'µs'], alone)}`
}
