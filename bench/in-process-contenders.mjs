import { createHmac, createSecretKey, timingSafeEqual } from 'node:crypto'
import { createRequire } from 'node:module'
import { ask, COOKIE_NAME, DAY, OPTIONS, SECRET, sessionData, storedSession } from './sessions.mjs'

const require = createRequire(import.meta.url)

/** The apps that are compared, by name: `{ handle(req, res), seed(ids), stored(id), count(), sendsCookies }`. */
export function contenders(scenario, respond) {
  const app = (req, res) => scenario.handler(req, res, respond)
  const all = {
    bare: bare(scenario, app),
    'express-session': middleware(require('express-session'), scenario, app),
    sessile: middleware(require('sessile'), scenario, app),
  }
  if (scenario.floor) all.floor = floor(scenario, app)
  return all
}

/** The same app without sessions: its data is always there. */
function bare(scenario, app) {
  const fixed = {
    ...sessionData(scenario.size),
    regenerate: (callback) => callback(),
    destroy: (callback) => callback(),
  }
  return {
    handle(req, res) {
      req.session = fixed
      app(req, res)
    },
    seed() {},
  }
}

function middleware(session, scenario, app) {
  const store = new session.MemoryStore()
  const handleSession = session({ ...OPTIONS, store, rolling: scenario.rolling === true })
  return {
    handle(req, res) {
      handleSession(req, res, (error) => {
        if (error) throw error
        app(req, res)
      })
    },
    async seed(ids) {
      await ask(store, 'clear')
      for (const id of ids) await ask(store, 'set', id, storedSession(scenario.size))
    },
    stored: (id) => ask(store, 'get', id),
    count: () => ask(store, 'length'),
    sendsCookies: true,
  }
}

/**
 * The least that a server-side session of JSON text can cost, written by hand into the app: one scan of the cookie
 * header, one HMAC, one look-up, one parse, one stringify to compare.
 */
function floor(scenario, app) {
  const key = createSecretKey(Buffer.from(SECRET))
  const records = new Map()
  const start = `${COOKIE_NAME}=s%3A`

  const verifiedId = (header) => {
    const from = header.indexOf(start) + start.length
    const to = header.indexOf(';', from)
    const value = decodeURIComponent(header.slice(from, to))
    const dot = value.lastIndexOf('.')
    const id = value.slice(0, dot)
    const digest = createHmac('sha256', key).update(id).digest()
    return timingSafeEqual(digest, Buffer.from(value.slice(dot + 1), 'base64')) ? id : undefined
  }

  // The app answers before the text is compared: the order does not change the work, and needs no hook on the response.
  return {
    handle(req, res) {
      const record = records.get(verifiedId(req.headers.cookie))
      req.session = JSON.parse(record.text)
      app(req, res)
      const text = JSON.stringify(req.session)
      if (text !== record.text) record.text = text
      record.expires = Date.now() + DAY
    },
    seed(ids) {
      records.clear()
      for (const id of ids)
        records.set(id, { text: JSON.stringify(storedSession(scenario.size)), expires: Date.now() + DAY })
    },
    stored: (id) => JSON.parse(records.get(id).text),
    count: () => records.size,
  }
}
