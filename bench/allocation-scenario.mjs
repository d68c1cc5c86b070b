// Counts what a scenario's requests allocate, in a process of its own with a young generation that is not collected meanwhile:
// node --expose-gc --min-semi-space-size=64 --max-semi-space-size=64 bench/allocation-scenario.mjs <scenario> [rounds]
import { contenders } from './in-process-contenders.mjs'
import { SCENARIOS } from './in-process-scenarios.mjs'
import { respond, send } from './requests.mjs'
import { cookieHeader, sessionIds } from './sessions.mjs'

const REQUESTS = 500
/** Code that is not compiled yet allocates more. */
const WARM_UP = 20_000

const scenario = SCENARIOS.find(({ name }) => name === process.argv[2])
const rounds = Number(process.argv[3] ?? 7)
const ids = sessionIds(scenario.sessions ?? 1000)
const cookies = ids.map((id) => (scenario.newVisitor ? undefined : cookieHeader(id)))

const results = {}
for (const [name, { handle, seed }] of Object.entries(contenders(scenario, respond))) {
  await seed(ids)
  await send(handle, cookies, WARM_UP)
  results[name] = []
  for (let round = 0; round < rounds; round++) {
    globalThis.gc()
    const before = process.memoryUsage().heapUsed
    await send(handle, cookies, REQUESTS)
    results[name].push((process.memoryUsage().heapUsed - before) / REQUESTS)
  }
}

if (process.send) process.send(results)
else console.log(results)
