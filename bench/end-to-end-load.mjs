// Sends requests to the servers it is told of, over a fixed number of connections; in a process of its own.
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { setImmediate } from 'node:timers'

const CONNECTIONS = 16

/**
 * One keep-alive connection, a request at a time. It reads no more of an answer than it needs to: the server has to be
 * the slower side with every contender, or its own waiting would show up in its CPU time with some of them.
 */
class Client {
  #received = ''
  #answered

  constructor(port) {
    this.socket = connect(port, '127.0.0.1')
    this.socket.setNoDelay(true)
    this.socket.setEncoding('latin1')
    this.socket.on('data', (chunk) => this.#read(chunk))
    this.socket.on('error', (error) => this.#answered?.(Promise.reject(error)))
  }

  get(path, cookie) {
    this.socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${cookie ? `Cookie: ${cookie}\r\n` : ''}\r\n`)
    return new Promise((resolve) => (this.#answered = resolve))
  }

  #read(chunk) {
    this.#received += chunk
    const end = this.#received.indexOf('\r\n\r\n') + 4
    if (end < 4) return
    const head = this.#received.slice(0, end)
    const length = Number(/\r\ncontent-length: (\d+)\r\n/i.exec(head)[1])
    if (this.#received.length < end + length) return
    const body = this.#received.slice(end, end + length)
    this.#received = ''
    this.#answered({ head, body })
  }
}

/** Works through `count` jobs, one after the other on each connection. */
async function each(port, count, job) {
  let started = 0
  const lane = async () => {
    const client = new Client(port)
    while (started < count) await job(client, started++)
    client.socket.destroy()
  }
  await withoutSleep(Promise.all(Array.from({ length: CONNECTIONS }, lane)))
}

/** Keeps this process awake meanwhile: to wake it, a fast server would pay more often than a slow one, or less. */
async function withoutSleep(work) {
  let over = false
  const spin = () => over || setImmediate(spin)
  spin()
  await work.finally(() => (over = true))
}

/** Logs `count` visitors in and answers their Cookie headers. */
async function logIn(port, count) {
  const cookies = []
  await each(port, count, async (client, visitor) => {
    const { head, body } = await client.get('/login')
    assert.match(head, /^HTTP\/1\.1 200 /)
    assert.equal(body, 'welcome')
    cookies[visitor] = Array.from(head.matchAll(/\r\nset-cookie: ([^;]+)/gi), ([, cookie]) => cookie).join('; ')
  })
  return cookies
}

async function load(port, path, cookies, count) {
  await each(port, count, async (client, number) => {
    const { head, body } = await client.get(path, cookies[number % cookies.length] || 'theme=dark')
    assert.ok(head.startsWith('HTTP/1.1 200 '))
    assert.equal(body, 'Ada Lovelace')
  })
}

process.on('message', async ({ port, path, cookies, count, visitors }) => {
  process.send(visitors ? await logIn(port, visitors) : { done: await load(port, path, cookies, count) })
})
process.send('ready')
