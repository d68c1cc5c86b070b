// Fills one memory store and times its operations, in a process of its own:
// node --expose-gc --max-old-space-size=8192 bench/scale-store.mjs <library> <sessions> <session size>
import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import { performance, PerformanceObserver } from 'node:perf_hooks'
import { setImmediate } from 'node:timers'
import { request, respond, Sink } from './requests.mjs'
import { ask, cookieHeader, OPTIONS, storedSession } from './sessions.mjs'

const require = createRequire(import.meta.url)
const [library, sessions, size] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])]
/** How much of what a million sessions cost is the memory of the machine. */
class BareMap {
  #texts = new Map()
  get(id, callback) {
    process.nextTick(callback, null, JSON.parse(this.#texts.get(id)))
  }
  set(id, data, callback) {
    this.#texts.set(id, JSON.stringify(data))
    process.nextTick(callback)
  }
  touch(id, _data, callback) {
    process.nextTick(callback, this.#texts.has(id) ? null : new Error(`no session ${id}`))
  }
  destroy(id, callback) {
    this.#texts.delete(id)
    process.nextTick(callback)
  }
}
const session = library === 'a Map' ? undefined : require(library)
/** Fewer where each is long. */
const OPERATIONS = Math.min(20_000, Math.max(24, Math.round(2e7 / size)))
const ROUNDS = 7
const LANES = 8
/** The requests come from as many visitors at every scale; their sessions lie all over the store. */
const VISITORS = 1000

function settledMemory() {
  for (let i = 0; i < 3; i++) globalThis.gc()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** CPU time of one operation in µs, the median of some rounds; `operate` calls back. */
async function timed(operate) {
  const perOperation = []
  // No collection between the rounds: the sweeping after it goes on in other threads, and would be counted here.
  globalThis.gc()
  await new Promise((resolve) => setTimeout(resolve, 1000))
  for (let round = 0; round < ROUNDS + 2; round++) {
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

/** Nobody but the store keeps an ID, as in service; it is made anew each time. */
const idOf = (number) => createHash('md5').update(`${number}`).digest('hex')

async function operations(store) {
  const ids = Array.from({ length: OPERATIONS }, (_, number) => idOf((number * 7919) % sessions))
  const data = storedSession(size)
  const results = {}
  results.get = await timed((number, done) => store.get(ids[number], done))
  results.set = await timed((number, done) => store.set(ids[number], data, done))
  results.touch = await timed((number, done) => store.touch(ids[number], data, done))
  // Adding and deleting side by side keeps the number of sessions.
  const added = ids.map((_, number) => idOf(`new ${number}`))
  results['set new, destroy'] = await timed((number, done) => {
    const id = added[number]
    store.set(id, data, (error) => (error ? done(error) : store.destroy(id, done)))
  })
  if (!session) return results
  const handleSession = session({ ...OPTIONS, store })
  const handle = (req, res) => handleSession(req, res, () => respond(res, req.session.user.name))
  const cookies = ids.slice(0, VISITORS).map((id) => cookieHeader(id))
  const sockets = Array.from({ length: LANES }, () => new Sink())
  results['request, reads'] = await timed((number, done) => {
    const socket = sockets.pop()
    request(handle, socket, cookies[number % cookies.length], () => {
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
async function expiry(store, empty) {
  const within = Math.max(3000, sessions / 100)
  const start = Date.now() + 2000 + sessions / 100
  for (let number = 0; number < sessions; number++) {
    const data = storedSession(size)
    data.cookie.expires = new Date(start + (number / sessions) * within)
    store.set(idOf(number), data, () => undefined)
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
  const store = session ? new session.MemoryStore() : new BareMap()
  const before = settledMemory()
  for (let number = 0; number < sessions; number++) await ask(store, 'set', idOf(number), storedSession(size))
  // A text takes its final shape when it is read for the first time.
  for (let number = 0; number < sessions; number++) await ask(store, 'get', idOf(number))
  const bytes = (settledMemory() - before) / sessions
  const results = { bytes, operations: await operations(store) }
  if (session && size === 200) {
    await ask(store, 'clear')
    results.expiry = await expiry(store, before)
  }
  return results
}

process.send(await main())
