import { message, start } from './processes.mjs'
import { short, spread, summary, table, times } from './numbers.mjs'

export const title = 'End to end: added CPU time of the server process per request'

const SERVER = new URL('./end-to-end-server.mjs', import.meta.url)
const LOAD = new URL('./end-to-end-load.mjs', import.meta.url)
const VISITORS = 500
const WARM_UP_REQUESTS = 6000

const EXPRESS = [
  'bare',
  'express-session',
  'sessile',
  'express-session+connect-redis',
  'sessile+redis',
  'express-session+connect-pg-simple',
  'sessile+postgres',
  'sessile+sqlite',
]

/** What is measured in turns, so that the figures of a group can be compared. */
const GROUPS = [
  [
    ...EXPRESS.map((sessions) => ['express', sessions]),
    ['fastify', 'bare'],
    ['fastify', '@fastify/session'],
    ['koa', 'bare'],
    ['koa', 'koa-session'],
  ],
  EXPRESS.map((sessions) => ['express4', sessions]),
]

export async function run({ quick }) {
  const rounds = quick ? 3 : 7
  const requests = quick ? 1000 : 4000
  const results = {}
  const load = start(LOAD)
  await message(load)
  for (const group of GROUPS) {
    const servers = []
    for (const [framework, sessions] of group) servers.push(await startServer(load, framework, sessions))
    for (const path of ['/read', '/write']) {
      for (let round = -1; round < rounds; round++) {
        console.error(`  ${group[0][0]} ${path}, ${round < 0 ? 'warming up' : `round ${round + 1} of ${rounds}`}`)
        for (let turn = 0; turn < servers.length; turn++) {
          const server = servers[(turn + round + 1) % servers.length]
          const cpu = await measure(load, server, path, round < 0 ? WARM_UP_REQUESTS : requests)
          if (round >= 0) server.cpu[path].push(cpu)
        }
      }
    }
    for (const server of servers) await end(server)
    Object.assign(results, evaluate(servers))
  }
  load.disconnect()
  return results
}

async function startServer(load, framework, sessions) {
  const process = start(SERVER, [framework, sessions], { execArgv: ['--expose-gc'] })
  const { port } = await message(process)
  load.send({ port, visitors: VISITORS })
  const cookies = await message(load)
  return { framework, sessions, process, port, cookies, cpu: { '/read': [], '/write': [] } }
}

/** CPU time per request, in µs, over `count` requests. */
async function measure(load, { process, port, cookies }, path, count) {
  const before = await cpuOf(process, 'settle')
  load.send({ port, path, cookies, count })
  await message(load)
  return ((await cpuOf(process, 'cpu')) - before) / count
}

async function cpuOf(process, question) {
  process.send(question)
  const { user, system } = await message(process)
  return user + system
}

async function end({ process }) {
  const ended = new Promise((resolve) => process.once('exit', resolve))
  process.send('end')
  await ended
}

function evaluate(servers) {
  const results = {}
  for (const { framework, sessions, cpu } of servers) {
    if (sessions === 'bare') continue
    const bare = servers.find((server) => server.framework === framework && server.sessions === 'bare')
    const added = (path) => summary(cpu[path].map((time, round) => time - bare.cpu[path][round]))
    results[`${framework}: ${sessions}`] = {
      read: added('/read'),
      write: added('/write'),
      bare: summary(bare.cpu['/read']),
    }
  }
  return results
}

/** How many times less sessile adds than the other, by medians; infinitely where it adds nothing. */
export function timesLess(results, framework, other, sessile, request = 'read') {
  const added = results[`${framework}: ${sessile}`][request].median
  return added > 0 ? results[`${framework}: ${other}`][request].median / added : Infinity
}

const PAIRS = {
  sessile: 'express-session',
  'sessile+redis': 'express-session+connect-redis',
  'sessile+postgres': 'express-session+connect-pg-simple',
}

export function tables(results) {
  const rows = Object.entries(results).map(([name, { read, write, bare }]) => {
    const [framework, sessions] = name.split(': ')
    const less = (request) =>
      PAIRS[sessions] ? times(timesLess(results, framework, PAIRS[sessions], sessions, request)) : '–'
    return [name, spread(read), less('read'), spread(write), less('write'), short(bare.median)]
  })
  return table(['server', 'read, added µs', 'times less', 'write, added µs', 'times less', 'bare app, µs'], rows)
}
