// Sends requests to the servers it is told of, a bounded number at a time; in a process of its own.
import assert from 'node:assert/strict'
import { Agent, request } from 'node:http'

const CONNECTIONS = 16
const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS })

function get(port, path, cookie) {
  return new Promise((resolve, reject) => {
    const headers = cookie ? { cookie } : {}
    const req = request({ port, path, headers, agent, host: '127.0.0.1' }, (res) => {
      let body = ''
      res.setEncoding('latin1')
      res.on('data', (chunk) => (body += chunk))
      res.on('end', () => resolve({ status: res.statusCode, body, cookies: res.headers['set-cookie'] ?? [] }))
    })
    req.on('error', reject)
    req.end()
  })
}

/** Works through `count` jobs, as many at a time as there are connections. */
async function each(count, job) {
  let started = 0
  const lane = async () => {
    while (started < count) await job(started++)
  }
  await Promise.all(Array.from({ length: CONNECTIONS }, lane))
}

/** Logs `count` visitors in and answers their Cookie headers. */
async function logIn(port, count) {
  const cookies = []
  await each(count, async (visitor) => {
    const { status, body, cookies: set } = await get(port, '/login')
    assert.deepEqual([status, body], [200, 'welcome'])
    cookies[visitor] = set.map((line) => line.split(';')[0]).join('; ')
  })
  return cookies
}

async function load(port, path, cookies, count) {
  await each(count, async (number) => {
    const { status, body } = await get(port, path, cookies[number % cookies.length])
    assert.deepEqual([status, body], [200, 'Ada Lovelace'])
  })
}

process.on('message', async ({ port, path, cookies, count, visitors }) => {
  process.send(visitors ? await logIn(port, visitors) : { done: await load(port, path, cookies, count) })
})
process.send('ready')
