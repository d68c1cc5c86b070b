// Fills one memory store and times its operations, in a process of its own:
// node --expose-gc --max-old-space-size=8192 bench/scale-store.mjs <library> <sessions> <session size>
import { createRequire } from 'node:module'
import { performance, PerformanceObserver } from 'node:perf_hooks'
import { setImmediate } from 'node:timers'
import { request, respond, Sink } from './requests.mjs'
import { ask, cookieHeader, OPTIONS, sessionIds, storedSession } from './sessions.mjs'

const require = createRequire(import.meta.url)
const [library, sessions, size] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])]
const session = require(library)
/** Fewer where each is long. */
const OPERATIONS = Math.min(20_000, Math.max(24, Math.round(2e7 / size)))
const ROUNDS = 7
const LANES = 8

function settledMemory() {
  for (let i = 0; i < 3; i++) globalThis.gc()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** CPU time of one operation in µs, the median of some rounds; `operate` calls back. */
async function timed(operate) {
  const perOperation = []
  for (let round = 0; round < ROUNDS + 2; round++) {
    globalThis.gc()
    const before = process.cpuUsage()
    await new Promise((resolve, reject) => {
      let started = 0
      let ended = 0
      const next = (error) => {
        if (error) return reject(error)
        if (++ended === OPERATIONS) return resolve()
        if (started < OPERATIONS) operate(started++, next)
      }
      for (let lane = 0; lane < LANES; lane++) operate(started++, next)
    })
    const { user, system } = process.cpuUsage(before)
    if (round >= 2) perOperation.push((user + system) / OPERATIONS)
  }
  return perOperation.sort((a, b) => a - b)[perOperation.length >> 1]
}

/** An ID of the whole store, not near the one before it. */
const idAt = (ids, number) => ids[(number * 7919) % ids.length]

async function operations(store, ids) {
  const data = storedSession(size)
  const results = {}
  results.get = await timed((number, done) => store.get(idAt(ids, number), done))
  results.set = await timed((number, done) => store.set(idAt(ids, number), data, done))
  results.touch = await timed((number, done) => store.touch(idAt(ids, number), data, done))
  // Adding and deleting side by side keeps the number of sessions.
  const added = ids.slice(0, 20_000).map((id) => `${id}+`)
  results['set new, destroy'] = await timed((number, done) => {
    const id = added[number % added.length]
    store.set(id, data, (error) => (error ? done(error) : store.destroy(id, done)))
  })
  const handleSession = session({ ...OPTIONS, store })
  const handle = (req, res) => handleSession(req, res, () => respond(res, req.session.user.name))
  const cookies = Array.from({ length: OPERATIONS }, (_, number) => cookieHeader(idAt(ids, number)))
  const sockets = Array.from({ length: LANES }, () => new Sink())
  results['request, reads'] = await timed((number, done) => {
    const socket = sockets.pop()
    request(handle, socket, cookies[number], () => {
      sockets.push(socket)
      process.nextTick(done)
    })
  })
  return results
}

/**
 * All sessions expire within some seconds, under a loop that never idles. Answers the longest turn of that loop in ms,
 * with and without garbage collection (CPU time where that is less, so that what another process took does not count),
 * and the bytes per session that are still there afterwards.
 */
async function expiry(store, ids, empty) {
  const within = Math.max(3000, ids.length / 100)
  const start = Date.now() + 2000 + ids.length / 100
  for (const [number, id] of ids.entries()) {
    const data = storedSession(size)
    data.cookie.expires = new Date(start + (number / ids.length) * within)
    store.set(id, data, () => undefined)
    if (number % 1000 === 0) await new Promise(setImmediate)
  }
  globalThis.gc()
  const collections = []
  const observer = new PerformanceObserver((list) => collections.push(...list.getEntries()))
  observer.observe({ entryTypes: ['gc'] })
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, start - Date.now())))
  const turns = []
  let from = performance.now()
  let cpu = process.cpuUsage()
  while (Date.now() < start + within + 5000) {
    await new Promise(setImmediate)
    const to = performance.now()
    const { user, system } = process.cpuUsage(cpu)
    const pause = Math.min(to - from, (user + system) / 1000)
    if (pause > 1) turns.push({ from, to, pause })
    from = to
    cpu = process.cpuUsage()
  }
  await new Promise((resolve) => setTimeout(resolve, 100))
  observer.disconnect()
  const collecting = ({ from, to }) =>
    collections
      .filter(({ startTime, duration }) => startTime < to && startTime + duration > from)
      .reduce((sum, { duration }) => sum + duration, 0)
  return {
    longestPause: Math.max(0, ...turns.map(({ pause }) => pause)),
    longestPauseWithoutGc: Math.max(0, ...turns.map((turn) => turn.pause - collecting(turn))),
    bytesLeft: (settledMemory() - empty) / sessions,
  }
}

async function main() {
  const ids = sessionIds(sessions)
  const store = new session.MemoryStore()
  const before = settledMemory()
  for (const id of ids) await ask(store, 'set', id, storedSession(size))
  const bytes = (settledMemory() - before) / sessions
  const results = { bytes, operations: await operations(store, ids) }
  if (size === 200) {
    await ask(store, 'clear')
    results.expiry = await expiry(store, ids, before)
  }
  return results
}

process.send(await main())
