import { ask } from './processes.mjs'
import { table } from './numbers.mjs'

export const title = 'Round trips: commands that reach the store’s server, per request'

const program = new URL('./round-trips-count.mjs', import.meta.url)

export async function run() {
  return await ask(program, [])
}

/** A cell such as `2: GET, EXPIRE`. */
function cell(commands) {
  return commands.length > 0 ? `${commands.length}: ${commands.join(', ')}` : '0'
}

export function tables(results) {
  const stores = Object.keys(results)
  const requests = Object.keys(results[stores[0]])
  const rows = requests.map((request) => [request, ...stores.map((store) => cell(results[store][request]))])
  return table(['request', ...stores], rows)
}
