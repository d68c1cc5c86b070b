import { once } from 'node:events'
import { connect, createServer } from 'node:net'

/**
 * Stands between a client and its database server and notes what the client asks for, by the names of the commands as
 * they cross the connection. `commandsOf` takes them out of what was received so far.
 */
export async function countingProxy(port, host, commandsOf) {
  const commands = []
  const server = createServer((client) => {
    const upstream = connect(port, host)
    let pending = Buffer.alloc(0)
    let first = true
    client.on('data', (chunk) => {
      upstream.write(chunk)
      const { found, rest } = commandsOf(Buffer.concat([pending, chunk]), first)
      if (found.length > 0 || rest.length < pending.length + chunk.length) first = false
      commands.push(...found)
      pending = rest
    })
    upstream.on('data', (chunk) => client.write(chunk))
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ]) {
      one.on('error', () => other.destroy())
      one.on('close', () => other.destroy())
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: server.address().port,
    /** The commands since the last call. */
    take: () => commands.splice(0),
    close: () => server.close(),
  }
}

/**
 * Redis: each command is an array of bulk strings; its name is the first. The script that writes over a version removes when
 * its last argument, the lifetime, is 0.
 */
export function redisCommands(bytes) {
  const found = []
  let at = 0
  for (;;) {
    const command = redisCommandAt(bytes, at)
    if (!command) return { found, rest: bytes.subarray(at) }
    found.push(command.name)
    at = command.end
  }
}

function redisCommandAt(bytes, start) {
  const line = (from) => {
    const end = bytes.indexOf('\r\n', from)
    return end < 0 ? undefined : { number: Number(bytes.toString('latin1', from + 1, end)), end: end + 2 }
  }
  const head = line(start)
  if (!head) return undefined
  let at = head.end
  let name
  let last
  for (let argument = 0; argument < head.number; argument++) {
    const length = line(at)
    if (!length || length.end + length.number + 2 > bytes.length) return undefined
    last = bytes.toString('latin1', length.end, length.end + length.number)
    name ??= last.toUpperCase()
    at = length.end + length.number + 2
  }
  return { name: name === 'EVALSHA' && last === '0' ? 'EVALSHA to remove' : name, end: at }
}

/** PostgreSQL: a simple query (Q), or the statement that was parsed (P) and is run by the messages after it. */
export function postgresCommands(bytes, first) {
  const found = []
  let at = 0
  // The start-up message has no type; a client that asks for TLS is not expected.
  if (first) {
    if (bytes.length < 4 || bytes.length < bytes.readInt32BE(0)) return { found, rest: bytes }
    at = bytes.readInt32BE(0)
  }
  while (at + 5 <= bytes.length && at + 1 + bytes.readInt32BE(at + 1) <= bytes.length) {
    const type = String.fromCharCode(bytes[at])
    const text = bytes.toString('utf8', at + 5, at + 1 + bytes.readInt32BE(at + 1))
    if (type === 'Q') found.push(firstWord(text))
    if (type === 'P') found.push(firstWord(text.slice(text.indexOf('\0') + 1)))
    at += 1 + bytes.readInt32BE(at + 1)
  }
  return { found, rest: bytes.subarray(at) }
}

function firstWord(sql) {
  const word = /[a-z]+/i.exec(sql)?.[0].toUpperCase()
  if (word !== 'WITH') return word
  return /\b(INSERT|UPDATE|DELETE)\b/i.exec(sql)?.[0].toUpperCase() ?? 'SELECT'
}
