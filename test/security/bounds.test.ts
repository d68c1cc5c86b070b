import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import session from '../../src'
import { OPTIONS } from '../faults/fault'

/** In each of four rounds: a million in the matrix. */
const EACH = process.env['THOROUGH'] ? 250_000 : 15_000

const BEFORE = `
  const session = require(${JSON.stringify(process.cwd())})
  const { IncomingMessage, ServerResponse } = require('node:http')
  const signature = require('cookie-signature')
  const secret = 'a secret that is long enough for this test'
  const signed = (id) => 'connect.sid=' + encodeURIComponent('s:' + signature.sign(id, secret))
  const turn = () => new Promise((resolve) => setImmediate(resolve))
  const options = { secret, resave: false, saveUninitialized: false, hints: false }
  /** One request through a middleware, without a server. */
  function visit(sessions, cookie, handle) {
    const req = new IncomingMessage(null)
    Object.assign(req, { url: '/', method: 'GET', headers: cookie ? { cookie } : {} })
    const res = new ServerResponse(req)
    sessions(req, res, () => handle(req, res))
  }
`
const AFTER = `
  async function inUse() {
    for (let n = 0; n < 5; n++) { await turn(); gc() }
    const { arrayBuffers, heapUsed } = process.memoryUsage()
    return (arrayBuffers + heapUsed) / 1e6
  }
  ;(async () => {
    const used = []
    for (let n = 0; n < 4; n++) { await round(); used.push(await inUse()) }
    console.log(JSON.stringify(used))
    process.exit()
  })()
`

/**
 * Runs a script that defines `round` four times over, in a process of its own: by how many MB the memory in use has grown
 * from the end of the first round to that of the last.
 */
async function growth(script: string): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', '-e', BEFORE + script + AFTER], {
    env: { ...process.env, NODE_ENV: 'test', NO_DEPRECATION: 'express-session' },
  })
  const used = JSON.parse(stdout) as number[]
  return used.at(-1)! - used[0]!
}

const SLOW = { tags: ['slow'], timeout: 600_000 }

describe.concurrent('the memory in use does not grow by tens of thousands of', SLOW, () => {
  test.each(['{}', '{ max: 100_000 }'])('requests to an app with a MemoryStore with %s', async (options) => {
    const grown = await growth(`
      const store = new session.MemoryStore(${options})
      const sessions = session({ ...options, store })
      const cookies = Array.from({ length: 5000 }, (_, n) => {
        store.write('id' + n, JSON.stringify({ cookie: { originalMaxAge: null }, n }), Date.now() + 864e5, 'absent')
        return signed('id' + n)
      })
      function round() {
        for (let n = 0; n < ${EACH}; n++) visit(sessions, cookies[n % 5000], (req, res) => res.end(String(req.session.n)))
      }
    `)
    expect(grown).toBeLessThan(3)
  })

  // What a scan keeps, it keeps from when it was left on; new ones may take its place.
  test.each([
    ['beside thousands of scans that are left', 'n % 1000 === 0'],
    ['beside one scan that was left at the beginning', 'made === 1000'],
  ])('sessions of a MemoryStore that come and go, %s', async (_what, leaves) => {
    const grown = await growth(`
      const store = new session.MemoryStore()
      let made = 0
      async function round() {
        for (let n = 0; n < ${EACH}; n++) {
          const text = JSON.stringify({ cookie: { expires: null }, text: 'x'.repeat(1000) + made })
          store.write('id' + made++, text, Date.now() + 864e5, 'absent')
          store.remove('id' + (made - 1000))
          if (!(${leaves})) continue
          for await (const record of store.records()) break
          await store.scan(null, 10)
        }
      }
    `)
    expect(grown).toBeLessThan(1)
  })

  test('requests to an app whose classic store loses callbacks', async () => {
    const grown = await growth(`
      const { setTimeout: inTime } = globalThis
      // A hundred times as fast: nobody waits longer than ten seconds.
      globalThis.setTimeout = (work, ms, ...args) => inTime(work, ms / 100, ...args)
      class Losing extends session.Store {
        get(id, callback) { callback(null, { cookie: { originalMaxAge: null }, n: 1 }) }
        set() {}
        destroy() {}
      }
      const sessions = session({ ...options, store: new Losing() })
      async function round() {
        for (let n = 0; n < ${EACH}; n++) {
          // Some of them wait for one another.
          visit(sessions, signed(n % 100 === 0 ? 'id of all' : 'id' + n), (req, res) => {
            req.session.n++
            if (n % 3 === 0) req.session.destroy()
            res.end(Buffer.alloc(1000))
          })
          if (n % 5000 === 0) await new Promise((resolve) => inTime(resolve, 150))
        }
        // The last of those that wait.
        await new Promise((resolve) => inTime(resolve, 5000))
      }
    `)
    expect(grown).toBeLessThan(3)
  })

  test.each(['classic', 'record'])('logouts, whose sessions are destroyed, in a %s store', async (kind) => {
    const grown = await growth(`
      const records = new Map()
      class Classic extends session.Store {
        get(id, callback) { callback(null, records.has(id) ? JSON.parse(records.get(id)) : null) }
        set(id, data, callback) { records.set(id, JSON.stringify(data)); callback() }
        destroy(id, callback) { records.delete(id); callback() }
      }
      const store = ${kind === 'classic' ? 'new Classic()' : 'new session.MemoryStore()'}
      const sessions = session({ ...options, store, clearCookie: true, rolling: true })
      async function round() {
        for (let n = 0; n < ${EACH}; n++) {
          const id = 'id' + n
          const text = '{"cookie":{"originalMaxAge":null}}'
          if (store.write) store.write(id, text, Date.now() + 864e5, 'absent')
          else records.set(id, text)
          visit(sessions, signed(id), (req, res) => req.session.destroy(() => res.end('out')))
          if (n % 100 === 0) await turn()
        }
      }
    `)
    expect(grown).toBeLessThan(3)
  })
})

/** The listeners of a store for each of its events, with one middleware and with more. */
function listenersWith(middlewares: number): [one: number[], all: number[]] {
  const store = new session.MemoryStore()
  const listeners = (): number[] => store.eventNames().map((name) => store.listenerCount(name))
  session({ ...OPTIONS, store })
  const one = listeners()
  for (let n = 1; n < middlewares; n++) session({ ...OPTIONS, store, hints: false })
  return [one, listeners()]
}

test('middlewares on one store add one listener for each of its events', () => {
  expect(listenersWith(1000)).toEqual([
    [1, 1],
    [1, 1],
  ])
})

test('20,000 middlewares on one store add one listener for each of its events', SLOW, () => {
  expect(listenersWith(20_000)).toEqual([
    [1, 1],
    [1, 1],
  ])
})
