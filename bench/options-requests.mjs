// Measures requests with options on and off, in a process of its own: node --expose-gc bench/options-requests.mjs <rounds>
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { respond, send } from './requests.mjs'
import { cookieHeader, DAY, OPTIONS, sessionData, sessionIds } from './sessions.mjs'

const require = createRequire(import.meta.url)
const session = require('sessile')
const { signedCookie } = require('sessile/testing')

const VISITORS = 1000
const REQUESTS = 20_000
const WARM_UP_ROUNDS = 3
const rounds = Number(process.argv[2] ?? 9)

const key = randomBytes(32)
const OPTION_SETS = {
  none: {},
  'idleTimeout, absoluteTimeout, renewalTimeout': { idleTimeout: DAY, absoluteTimeout: DAY, renewalTimeout: DAY },
  hashIds: { hashIds: true },
  encryption: { encryption: key },
  'hashIds and encryption': { hashIds: true, encryption: key },
  user: { user: (data) => data.user.id },
  'a listener to every event': {},
}
const EVENTS = ['created', 'loaded', 'saved', 'renewed', 'destroyed', 'expired', 'staleId', 'conflict']

/** An app with its visitors, who have been there before. */
async function app(name, options, handler) {
  const store = new session.MemoryStore()
  const sessions = session({ ...OPTIONS, store, ...options })
  let heard = 0
  if (name.includes('listener')) for (const event of EVENTS) sessions.events.on(event, () => heard++)
  const cookies = []
  for (let n = 0; n < VISITORS; n++) cookies.push(await signedCookie(sessions, sessionData(200)))
  return { cookies, handle: (req, res) => sessions(req, res, () => handler(req, res)) }
}

const HANDLERS = {
  reads: (req, res) => respond(res, req.session.user.name),
  writes(req, res) {
    req.session.views++
    respond(res, req.session.user.name)
  },
}

/** µs of CPU time of one call. */
function timed(work, times = 50_000) {
  for (let n = 0; n < times; n++) work()
  const before = process.cpuUsage()
  for (let n = 0; n < times; n++) work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / times
}

function cryptoAlone() {
  const [id] = sessionIds(1)
  const text = Buffer.from(JSON.stringify({ cookie: {}, ...sessionData(200) }))
  const seal = () => {
    const iv = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', key, iv)
    return [iv, Buffer.concat([cipher.update(text), cipher.final()]), cipher.getAuthTag()]
  }
  const [iv, sealed, tag] = seal()
  const open = () => {
    const decipher = createDecipheriv('aes-256-gcm', key, iv)
    decipher.setAuthTag(tag)
    return Buffer.concat([decipher.update(sealed), decipher.final()])
  }
  return {
    'SHA-256 of an ID': timed(() => createHash('sha256').update(id).digest('base64url')),
    'AES-256-GCM, opening a session': timed(open),
    'AES-256-GCM, sealing a session': timed(seal),
  }
}

async function main() {
  const results = { crypto: cryptoAlone() }
  const fixed = sessionData(200)
  for (const [kind, handler] of Object.entries(HANDLERS)) {
    const bare = (req, res) => {
      req.session = fixed
      handler(req, res)
    }
    const apps = { bare: { cookies: [cookieHeader(sessionIds(1)[0])], handle: bare } }
    for (const [name, options] of Object.entries(OPTION_SETS)) apps[name] = await app(name, options, handler)
    const names = Object.keys(apps)
    const times = Object.fromEntries(names.map((name) => [name, []]))
    for (let round = -WARM_UP_ROUNDS; round < rounds; round++) {
      for (let turn = 0; turn < names.length; turn++) {
        const name = names[(turn + round + WARM_UP_ROUNDS) % names.length]
        const { handle, cookies } = apps[name]
        globalThis.gc()
        await send(handle, cookies, REQUESTS / 4)
        const { perRequest } = await send(handle, cookies, REQUESTS)
        if (round >= 0) times[name].push(perRequest)
      }
    }
    results[kind] = times
  }
  return results
}

const results = await main()
if (process.send) process.send(results)
else console.log(results)
