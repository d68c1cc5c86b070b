// Mixed traffic on four processes and a Redis that is restarted now and then: npm run soak [-- seconds]
import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent, get } from 'node:http'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'

const seconds = Number(process.argv[2] ?? 600)
const PROCESSES = 4
const VISITORS = 24
const RESTART_EVERY = 15_000
const folder = mkdtempSync(path.join(tmpdir(), 'sessile-soak-'))
const agent = new Agent({ keepAlive: true, maxSockets: 64 })
const counts = { requests: 0, renewals: 0, aborted: 0, unavailable: 0, restarts: 0, writes: 0 }
const failures = []
const REDIS_PORT = await new Promise((resolve) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const { port } = server.address()
    server.close(() => resolve(port))
  })
})
const until = Date.now() + seconds * 1000
let redisDown = false
let redis

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

async function startRedis() {
  const settings = ['--dir', folder, '--appendonly', 'yes', '--appendfsync', 'always', '--save', '']
  redis = spawn('redis-server', ['--port', REDIS_PORT, '--bind', '127.0.0.1', ...settings], { stdio: 'ignore' })
  for (;;) {
    const socket = connect(REDIS_PORT, '127.0.0.1')
    const up = await new Promise((resolve) => {
      socket.on('connect', () => resolve(true)).on('error', () => resolve(false))
    })
    socket.destroy()
    if (up) return
    await pause(20)
  }
}

async function startServers() {
  const servers = Array.from({ length: PROCESSES }, () =>
    fork(path.join(import.meta.dirname, 'server.cjs'), [REDIS_PORT], {
      execArgv: ['--expose-gc'],
      env: { ...process.env, NODE_ENV: 'test' },
    }),
  )
  return Promise.all(
    servers.map(async (server) => {
      const [{ port }] = await once(server, 'message')
      server.on('message', ({ fatal }) => fatal && failures.push(`uncaught in a server: ${fatal}`))
      server.on('exit', (code) => Date.now() < until && failures.push(`a server ended with ${code}`))
      return { server, port }
    }),
  )
}

function visit(port, route, jar, { abort = false } = {}) {
  counts.requests++
  return new Promise((resolve) => {
    const req = get(
      { host: '127.0.0.1', port, path: route, agent, headers: jar.cookie ? { cookie: jar.cookie } : {} },
      (res) => {
        const set = res.headers['set-cookie']?.[0]?.split(';')[0]
        if (set) {
          if (jar.cookie && set !== jar.cookie && !/^\/(?:login|bystanders)/.test(route)) counts.renewals++
          jar.cookie = set
        }
        let body = ''
        res.on('data', (chunk) => (body += chunk))
        res.on('end', () => resolve({ status: res.statusCode, body: body.trim() ? safely(body) : undefined }))
        res.on('error', () => resolve({ status: 0 }))
      },
    )
    req.on('error', (error) => resolve({ status: 0, error }))
    if (abort) setTimeout(() => (counts.aborted++, req.destroy()), Math.random() * 8)
  })
}

function safely(text) {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/**
 * One visitor: logs in, reads, writes, streams, gives up, logs out. Every answer has to carry this visitor's own secret,
 * and every read what was acknowledged before.
 */
async function visitor(number, servers) {
  const anyPort = () => servers[Math.floor(Math.random() * servers.length)].port
  for (let life = 0; Date.now() < until; life++) {
    const owner = `visitor-${number}-${life}-${Math.random()}`
    const jar = {}
    const ask = async (route, options) => {
      const wasDown = redisDown
      const answer = await visit(anyPort(), route, jar, options)
      if (answer.status === 503) {
        counts.unavailable++
        if (!wasDown && !redisDown && Date.now() - lastRestart > 3000)
          failures.push(`${route}: ${JSON.stringify(answer.body)} while Redis was up`)
      }
      if (answer.status === 0 && !options?.abort) failures.push(`${route}: ${answer.error ?? 'cut off'}`)
      const tells = answer.status === 200 && !['/untouched', '/logout'].includes(route)
      if (tells && answer.body?.owner !== owner) failures.push(`${route} told ${owner} of ${answer.body?.owner}`)
      return answer
    }
    const login = await ask(`/login?owner=${owner}`)
    if (login.status !== 302) {
      await pause(50)
      continue
    }
    let acknowledged = 0
    let uncertain = 0
    const keys = []
    for (let step = 0; step < 30 && Date.now() < until; step++) {
      const dice = Math.random()
      if (dice < 0.3) {
        const { status, body } = await ask('/read')
        if (
          status === 200 &&
          (body.writes < acknowledged ||
            body.writes > acknowledged + uncertain ||
            keys.some((key) => !body.keys.includes(key)))
        ) {
          failures.push(`${owner} reads ${JSON.stringify(body)} after ${acknowledged} writes (${uncertain} uncertain)`)
          break
        }
      } else if (dice < 0.6) {
        const { status } = await ask('/write')
        if (status === 200) counts.writes++
        if (status === 200) acknowledged++
        else uncertain++
      } else if (dice < 0.75) {
        const write = async (key) => (await ask(`/parallel/${key}`)).status === 200 && keys.push(key)
        await Promise.all([1, 2, 3].map((number) => write(`key-${step}-${number}`)))
      } else if (dice < 0.82) await ask('/stream')
      else if (dice < 0.85) await ask('/renew')
      else if (dice < 0.92) {
        const route = ['/read', '/write', '/stream'][step % 3]
        await ask(route, { abort: true })
        if (route === '/write') uncertain++
      } else await ask('/untouched')
    }
    const old = { ...jar }
    const { status } = await ask('/logout')
    if (status === 200) {
      const after = await visit(anyPort(), '/read', old)
      if (after.body?.owner !== undefined) failures.push(`${owner} is back after the logout`)
    }
  }
}

/** Visitors of what is kept in the memory of the processes: half of them come back, and nobody asks how it is. */
async function bystander(servers) {
  const jars = servers.map(() => ({}))
  for (let n = 0; Date.now() < until; n++) {
    const at = n % servers.length
    const route = ['bounded', 'losing', 'bounded', 'scan'][Math.floor(n / servers.length) % 4]
    const { status, body } = await visit(servers[at].port, `/bystanders/${route}`, n % 2 ? {} : jars[at])
    if (status !== 200) failures.push(`/bystanders/${route}: ${status}`)
    if (route === 'scan' && body?.count > 500) failures.push(`a MemoryStore for 500 sessions has ${body.count}`)
  }
}

let lastRestart = 0
async function restarts() {
  while (Date.now() + RESTART_EVERY < until) {
    await pause(RESTART_EVERY)
    redisDown = true
    redis.kill('SIGKILL')
    await once(redis, 'exit')
    await pause(300)
    await startRedis()
    counts.restarts++
    lastRestart = Date.now()
    await pause(1500)
    redisDown = false
  }
}

async function heaps(servers) {
  const replies = servers.map(async ({ server }) => {
    const reply = new Promise((resolve) => {
      const listener = ({ heap }) => heap && (server.off('message', listener), resolve(heap))
      server.on('message', listener)
    })
    server.send('heap')
    return reply
  })
  const total = (await Promise.all(replies)).reduce((sum, heap) => sum + heap, 0)
  return total / servers.length / 1e6
}

await startRedis()
const servers = await startServers()
const samples = []
const sampling = (async () => {
  await pause(Math.min(20_000, (seconds * 1000) / 4))
  while (Date.now() < until) {
    samples.push(await heaps(servers))
    await pause(5000)
  }
})()
await Promise.all([
  restarts(),
  sampling,
  bystander(servers),
  bystander(servers),
  ...Array.from({ length: VISITORS }, (_, n) => visitor(n, servers)),
])
samples.push(await heaps(servers))

const [first, last] = [samples[0], samples.at(-1)]
console.log(
  `${counts.requests} requests, ${counts.writes} acknowledged writes, ${counts.aborted} aborted, ${counts.renewals} new IDs, ${counts.restarts} restarts of Redis, ${counts.unavailable} answers 503 around them`,
)
console.log(`heap of a process after a collection: ${first.toFixed(1)} MB at first, ${last.toFixed(1)} MB at the end`)
if (last > first * 1.3 + 3) failures.push('memory has grown')
for (const failure of failures.slice(0, 20)) console.error(`FAILED: ${failure}`)
console.log(`${failures.length} failures`)
for (const { server } of servers) server.disconnect()
redis.kill('SIGKILL')
rmSync(folder, { recursive: true, force: true })
process.exit(failures.length > 0 ? 1 : 0)
