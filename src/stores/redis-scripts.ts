import { createHash } from 'node:crypto'

/** A script, which the server is sent by its name and knows after it was sent whole once. Its first key is its only one. */
export interface Script {
  readonly source: string
  readonly sha: string
}

/** How long, in ms, the server remembers that it made a change whose command a client may send again. */
export const REMEMBERED = 60_000

/** How far, in ms, an end may be from the one that was read, to count as the same: the time that commands take. */
const TOLERANCE = 2000

/** What READ does to the end of a record: moves it; or gives it one only if it has none; or nothing. */
export type Reading = 'renew' | 'read' | 'look'

/**
 * Answers the text of a record, the ms that are left, and 1 if its end was moved. ARGV: a `Reading`, and the lifetime of
 * sessions that have none of their own.
 *
 * A record tells its own lifetime where its cookie comes first, as all software writes it that uses these keys; `null` is
 * that of the store, except in an encrypted one (`null}`), which tells nothing. It is moved to that end, whatever the
 * lifetime of most sessions is: "remember me" is never cut short, nor a short session made long, and it is one command.
 * Where the server refuses to write (a replica, a full disk), reading goes on.
 */
export const READ = script(`
local text = redis.call('GET', KEYS[1])
if not text then return false end
local left = redis.call('PTTL', KEYS[1])
local endless = left == -1
local lifetime = string.match(text, '^{"cookie":{"originalMaxAge":([1-9]%d*)[,}]')
  or (endless or string.find(text, '^{"cookie":{"originalMaxAge":null,')) and ARGV[2]
if endless then left = lifetime end
if lifetime and (ARGV[1] == 'renew' or endless and ARGV[1] == 'read') then
  if redis.pcall('PEXPIRE', KEYS[1], lifetime) == 1 then return { text, lifetime, 1 } end
end
return { text, left, 0 }`)

/**
 * Writes over a version, or removes it (ARGV[3] is not above 0). The version is the text, so that writes of other software
 * change it, too. Only its digest is sent: the server compares either in the same time, and a session of 100 KB is written
 * in four fifths of the time.
 */
export const REPLACE = script(`
local was = redis.call('GET', KEYS[1])
if not was or redis.sha1hex(was) ~= ARGV[1] then return 0 end
if tonumber(ARGV[3]) > 0 then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) else redis.call('UNLINK', KEYS[1]) end
return 1`)

/** Moves the end to ARGV[1] ms from now, if it is ARGV[2] ms from now; 1 also if it was moved already. */
export const RENEW = script(`
local left = redis.call('PTTL', KEYS[1])
if left == -2 then return 0 end
local function is(ms) return math.abs(left - ms) <= ${TOLERANCE} end
if left == -1 or is(ARGV[2]) then return redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return is(ARGV[1]) and 1 or 0`)

const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)`

/**
 * Notes a session of a user that ends in ARGV[2] ms, by the server's clock: those of the app's machines may differ by more
 * than a lifetime. The key of a user lives as long as the last session in it.
 */
export const LINK = script(`${NOW}
local id, ends = ARGV[1], now + ARGV[2]
local was = redis.call('ZSCORE', KEYS[1], id)
if not was or tonumber(was) < ends then redis.call('ZADD', KEYS[1], string.format('%.0f', ends), id) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if last[2] then redis.call('PEXPIRE', KEYS[1], string.format('%.0f', last[2] - now)) end
return 1`)

/** The sessions of a user that have not ended. */
export const LINKED = script(`${NOW}
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf')`)

/** Runs the command ARGV, its key after its name; 1 if it did something. */
const COMMAND = script(`
local reply = redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
if type(reply) == 'number' then return reply end
return reply and 1 or 0`)

/** The same change, once only, however often it is sent: what was made is noted under a second key, new for each change. */
function once({ source }: Script): Script {
  return script(`
if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
local function change()${source}
end
local made = change()
if made == 1 then redis.pcall('SET', KEYS[2], '', 'PX', ${REMEMBERED}) end
return made`)
}

export const COMMAND_ONCE = once(COMMAND)
export const REPLACE_ONCE = once(REPLACE)

export function sha1(text: string): string {
  return createHash('sha1').update(text).digest('hex')
}

function script(source: string): Script {
  return { source, sha: sha1(source) }
}
