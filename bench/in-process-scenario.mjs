// Measures one scenario, in a process of its own:
// node --expose-gc bench/in-process-scenario.mjs 'returning, reads, 200 B' [rounds] [only this contender, for a profile]
import assert from 'node:assert/strict'
import { contenders } from './in-process-contenders.mjs'
import { SCENARIOS } from './in-process-scenarios.mjs'
import { request, respond, send, Sink } from './requests.mjs'
import { cookieHeader, sessionIds } from './sessions.mjs'

const WARM_UP_ROUNDS = 3
/** Part of the requests are sent again, uncounted, between the collection of garbage and a round: see `send`. */
const WARM_UP_PART = 1 / 3

const scenario = SCENARIOS.find(({ name }) => name === process.argv[2])
assert.ok(scenario, `no scenario ${process.argv[2]}`)
const rounds = Number(process.argv[3] ?? 9)
const only = process.argv[4]
const warmUp = Math.ceil(scenario.requests * WARM_UP_PART)
const ids = sessionIds(scenario.usesUp ? scenario.requests : (scenario.sessions ?? 1000))
const cookies = ids.map((id) => (scenario.newVisitor ? undefined : cookieHeader(id)))
const apps = contenders(scenario, respond)

/** One request whose whole answer is looked at. */
function get(handle, cookie) {
  return new Promise((resolve) => {
    const socket = new Sink()
    socket.kept = []
    request(handle, socket, cookie, () => {
      const [head, body] = socket.kept.join('').split('\r\n\r\n')
      const [status, ...lines] = head.split('\r\n')
      assert.equal(status, 'HTTP/1.1 200 OK')
      assert.equal(body, 'Ada Lovelace')
      resolve({ headers: Object.fromEntries(lines.map((line) => headerOf(line))) })
    })
  })
}

function headerOf(line) {
  const colon = line.indexOf(':')
  return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
}

async function verify({ handle, stored, count, sendsCookies }, id) {
  if (!stored) return void (await get(handle, cookieHeader(id)))
  const views = async (of) => (await stored(of)).views
  await scenario.verify({ get: (cookie) => get(handle, cookie), id, stored, count, views, sendsCookies })
}

async function checkEveryWrite({ stored }, requests) {
  let views = 0
  for (const id of ids) views += (await stored(id)).views - 1_000_000
  assert.equal(views, requests, 'every write is stored')
}

async function measure() {
  const names = Object.keys(apps).filter((name) => !only || name === only)
  const results = Object.fromEntries(names.map((name) => [name, { perRequest: [], writes: 0 }]))
  for (const name of names) {
    await apps[name].seed(ids)
    await verify(apps[name], ids[0])
    await apps[name].seed(ids)
  }
  for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(turn + round + WARM_UP_ROUNDS) % names.length]
      const seed = async () => (scenario.usesUp || scenario.newVisitor) && (await apps[name].seed(ids))
      await seed()
      globalThis.gc()
      await send(apps[name].handle, cookies, warmUp)
      await seed()
      const { perRequest, writes } = await send(apps[name].handle, cookies, scenario.requests)
      if (round < 0) continue
      results[name].perRequest.push(perRequest)
      results[name].writes = writes
    }
  }
  for (const name of names) {
    if (scenario.writes && apps[name].stored)
      await checkEveryWrite(apps[name], (scenario.requests + warmUp) * (rounds + WARM_UP_ROUNDS))
    await apps[name].seed(ids)
    await verify(apps[name], ids[0])
  }
  return results
}

const results = await measure()
if (process.send) process.send(results)
else console.log(results)
