import assert from 'node:assert/strict'
import { IncomingMessage, ServerResponse } from 'node:http'
import { Duplex } from 'node:stream'

/** The client's end of a connection: swallows what is written and counts the writes. */
export class Sink extends Duplex {
  writes = 0
  answers = 0
  kept = undefined

  constructor() {
    super({ decodeStrings: false, autoDestroy: false })
  }

  _read() {}

  _write(chunk, encoding, callback) {
    this.writes++
    this.look(chunk)
    callback()
  }

  _writev(chunks, callback) {
    this.writes++
    for (const { chunk } of chunks) this.look(chunk)
    callback()
  }

  look(chunk) {
    if (chunk.toString('latin1', 0, 15).startsWith('HTTP/1.1 200 OK')) this.answers++
    this.kept?.push(chunk.toString())
  }
}

export function respond(res, body) {
  res.statusCode = 200
  res.setHeader('Content-Type', 'text/plain; charset=utf-8')
  res.setHeader('Content-Length', body.length)
  res.end(body)
}

/** Does with a request what Node's HTTP server does, from the parsed header on; answers the request. */
export function request(handle, socket, cookie, finished) {
  const req = new IncomingMessage(socket)
  req.httpVersionMajor = 1
  req.httpVersionMinor = 1
  req.httpVersion = '1.1'
  req.method = 'GET'
  req.url = '/account?tab=orders'
  const lines = [
    'Host',
    'shop.example.com',
    'User-Agent',
    'Mozilla/5.0',
    'Accept',
    'text/html',
    'Connection',
    'keep-alive',
  ]
  if (cookie !== undefined) lines.push('Cookie', cookie)
  req._addHeaderLines(lines, lines.length)
  assert.ok(req.headers.host)
  const res = new ServerResponse(req)
  res.shouldKeepAlive = true
  res.assignSocket(socket)
  res.on('finish', () => {
    res.detachSocket(socket)
    finished()
  })
  handle(req, res)
  return req
}

/**
 * Requests that are under way at a time. A store that answers in a later turn of the event loop shares that turn with
 * the others, as on a busy server: one at a time would charge it whole turns that no real server spends on one request.
 */
const LANES = 8

/**
 * The last request of each app. A collection of all garbage also throws away optimised code whose objects are gone, which
 * no server in service sees, as it always has some requests at hand.
 */
const lastRequests = new Map()

/** Sends `count` requests, each connection one after the other; answers the CPU time in µs and the writes per request. */
export function send(handle, cookies, count) {
  return new Promise((resolve) => {
    const sockets = Array.from({ length: LANES }, () => new Sink())
    let started = 0
    let ended = 0
    const before = process.cpuUsage()
    const next = (socket) => {
      if (started === count) return
      const cookie = cookies[started++ % cookies.length]
      const req = request(handle, socket, cookie, () => {
        if (++ended === count) done()
        // As when the next request comes in from the network: with a new stack, and after what promises have to do.
        else void Promise.resolve(socket).then(next)
      })
      lastRequests.set(handle, req)
    }
    const done = () => {
      const { user, system } = process.cpuUsage(before)
      const sum = (key) => sockets.reduce((total, socket) => total + socket[key], 0)
      assert.equal(sum('answers'), count, 'every request is answered with 200')
      resolve({ perRequest: (user + system) / count, writes: sum('writes') / count })
    }
    for (const socket of sockets) next(socket)
  })
}
