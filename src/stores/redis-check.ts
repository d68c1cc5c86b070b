import { randomBytes } from 'node:crypto'
import type { RecordStore } from '../store/record-store'
import type { Commands } from './redis-clients'

/** From how many ms on a clock is worth a word. */
const WRONG_CLOCK = 5000

const NEEDED =
  '+evalsha +eval +get +set +unlink +exists +pttl +pexpire +time +scan +zadd +zrem +zscore +zrangebyscore +zremrangebyscore +zrevrange'

/** What is wrong with a server, a sentence each; rejects when it cannot be reached. */
export async function findingsOf(store: RecordStore, commands: Commands, prefixes: string[]): Promise<string[]> {
  const findings = new Set<string>()
  const attempt = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      await work()
    } catch (error) {
      const finding = findingOf(
        error,
        prefixes.map((prefix) => commands.keyPrefix + prefix),
      )
      if (finding === undefined) throw error
      findings.add(finding)
    }
  }
  // A session that is never there for longer than a check, in turn all that is done to one.
  const id = `check-${randomBytes(12).toString('base64url')}`
  const text = '{"cookie":{"originalMaxAge":60000,"path":"/"}}'
  const end = Date.now() + 60_000
  await attempt(async () => store.read(id))
  await attempt(async () => store.write(id, text, end, 'absent'))
  await attempt(async () => store.read(id, end))
  await attempt(async () => store.write(id, text, end, { version: text }))
  await attempt(async () => store.renew(id, end))
  await attempt(async () => store.renew(id, end, end))
  await attempt(async () => store.link?.(id, id, end))
  await attempt(async () => store.linked?.(id))
  await attempt(async () => store.unlink?.(id, id))
  await attempt(async () => store.remove(id, text))
  await attempt(async () => store.remove(id))
  await attempt(async () => store.scan(null, 1))
  await attempt(async () => {
    const found = await clockOf(commands)
    if (found !== undefined) findings.add(found)
  })
  try {
    const found = await evictionOf(commands)
    if (found !== undefined) findings.add(found)
  } catch {
    // A user who may not ask for it needs no right to do so.
  }
  return [...findings]
}

/** What an error of the server means; `undefined` for one of the connection. */
function findingOf(error: unknown, prefixes: string[]): string | undefined {
  const message = error instanceof Error ? error.message : String(error)
  const code = /\b(NOPERM|READONLY|NOREPLICAS|MISCONF|OOM)\b/.exec(message)?.[1]
  // Not the whole message: that of a command which is not known has the keys in it.
  const unknown = /unknown command [`'"]?(\w+)/i.exec(message)?.[1]
  if (unknown !== undefined) {
    return `the server does not know the command ${unknown.toUpperCase()}; sessions need Redis 5 or later, or Valkey, with scripts`
  }
  switch (code) {
    case 'NOPERM':
      return `the user of the client may not do all that sessions need; give it: ${prefixes.map((prefix) => `~${prefix}*`).join(' ')} ${NEEDED} (${firstLine(message)})`
    case 'READONLY':
      return 'the server is a replica, which takes no writes; connect to the master, through Sentinel or an address that follows it'
    case 'NOREPLICAS':
      return 'the server takes no writes, as it has too few replicas (min-replicas-to-write); connect its replicas, or lower that'
    case 'MISCONF':
      return 'the server takes no writes, as it cannot save to its disk; see its log, make room, or turn stop-writes-on-bgsave-error off'
    case 'OOM':
      return 'the memory of the server is full (maxmemory), and new sessions are refused; give it more'
    default:
      return /^[A-Z]{2,}\b/.test(message) ? firstLine(message) : undefined
  }
}

function firstLine(message: string): string {
  return (message.split('\n')[0] as string).slice(0, 200)
}

/** What to say of the first master that may throw sessions away when its memory is full. */
export async function evictionOf({ servers }: Commands): Promise<string | undefined> {
  for (const { call } of await servers()) {
    const memory = String(await call('info', 'memory'))
    const policy = /^maxmemory_policy:([\w-]+)/m.exec(memory)?.[1] ?? 'noeviction'
    if (policy !== 'noeviction' && !/^maxmemory:0\b/m.test(memory)) {
      return (
        `Redis throws keys away when its memory is full (maxmemory-policy ${policy}): people are then logged out at random, and ` +
        '"log out everywhere" misses sessions; set maxmemory-policy noeviction and give it enough memory'
      )
    }
  }
  return undefined
}

async function clockOf({ servers }: Commands): Promise<string | undefined> {
  for (const { call } of await servers()) {
    const asked = Date.now()
    const [seconds, micros] = (await call('time')) as unknown[]
    const difference = Number(seconds) * 1000 + Number(micros) / 1000 - (asked + Date.now()) / 2
    if (Math.abs(difference) > WRONG_CLOCK) {
      return `the clock of the server is ${Math.abs(Math.round(difference / 1000))} s ${difference > 0 ? 'ahead of' : 'behind'} this process's; set both by NTP`
    }
  }
  return undefined
}
