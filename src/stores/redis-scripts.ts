import { createHash } from 'node:crypto'

/** A script, which the server is sent by its name and knows after it was sent whole once. */
export interface Script {
  readonly source: string
  readonly sha: string
}

/** How long, in ms, the server remembers a change whose command a client may send again: longer than ioredis tries by default. */
export const REMEMBERED = 20_000

/** How far, in ms, an end may be from the one that was read, to count as the same: the time that commands take. */
const TOLERANCE = 2000

/** What READ does to the end of a record: moves it; or gives it one only if it has none; or nothing. */
export type Reading = 'renew' | 'read' | 'look'

/**
 * Answers for each key the text of its record, the ms that are left, and 1 if its end was moved. ARGV: the lifetime of
 * sessions that have none of their own, then a `Reading` for each key.
 *
 * A record tells its own lifetime where its cookie comes first, as all software writes it that uses these keys; `null` is
 * that of the store, except in an encrypted one (`null}`), which tells nothing. It is moved to that end, whatever the
 * lifetime of most sessions is: "remember me" is never cut short, nor a short session made long. Where the server refuses
 * to write (a replica, a full disk), reading goes on. A key of another type, as other software may have, is no record.
 */
export const READ = script(`
local found = {}
local function read(key, reading)
  local text = redis.pcall('GET', key)
  if type(text) == 'table' and not string.find(text.err, '^WRONGTYPE') then return text end
  if type(text) ~= 'string' then return false, 0, 0 end
  local left = redis.call('PTTL', key)
  local endless = left == -1
  local lifetime = string.match(text, '^{"cookie":{"originalMaxAge":([1-9]%d*)[,}]')
    or (endless or string.find(text, '^{"cookie":{"originalMaxAge":null,')) and ARGV[1]
  if endless then left = lifetime end
  if lifetime and (reading == 'renew' or endless and reading == 'read') then
    if redis.pcall('PEXPIRE', key, lifetime) == 1 then return text, lifetime, 1 end
  end
  return text, left, 0
end
for n, key in ipairs(KEYS) do
  local text, left, moved = read(key, ARGV[n + 1])
  if type(text) == 'table' then return text end
  found[3 * n - 2], found[3 * n - 1], found[3 * n] = text, left, moved
end
return found`)

/**
 * Writes a text (ARGV[3]) that lives for ARGV[2] ms, or removes what is there if that is not above 0; 1 if the condition
 * (ARGV[1]) held. A version is the text, so that writes of other software change it, too. Only its digest is sent: the
 * server compares either in the same time, and a session of 100 KB is written in four fifths of the time.
 */
export const WRITE = script(`
local condition, lifetime = ARGV[1], tonumber(ARGV[2])
local function holds()
  if condition == 'always' then return true end
  if condition == 'absent' or condition == 'present' then
    return (redis.call('EXISTS', KEYS[1]) == 1) == (condition == 'present')
  end
  local was = redis.call('GET', KEYS[1])
  return was and redis.sha1hex(was) == condition
end
if not holds() then return 0 end
if lifetime > 0 then redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2]) else redis.call('UNLINK', KEYS[1]) end
return 1`)

/** Moves the end to ARGV[1] ms from now, if it is ARGV[2] ms from now, where that is given; 1 also if it was moved already. */
export const RENEW = script(`
local left = redis.call('PTTL', KEYS[1])
local function is(ms) return math.abs(left - ms) <= ${TOLERANCE} end
if left < 0 or not ARGV[2] or is(ARGV[2]) then return redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return is(ARGV[1]) and 1 or 0`)

const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)`

/**
 * Notes a session of a user (ARGV[1]) that ends in ARGV[2] ms, by the server's clock: those of the app's machines may differ
 * by more than a lifetime. The key of a user lives as long as the last session in it.
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

/** Removes the records under all keys but the first, and from that, which is a user's, the IDs (ARGV) of those there were. */
export const REMOVE_LINKED = script(`
local removed = ''
for n, id in ipairs(ARGV) do
  local there = redis.call('UNLINK', KEYS[n + 1])
  if there == 1 then redis.call('ZREM', KEYS[1], id) end
  removed = removed .. there
end
return removed`)

/**
 * The same change, once only, however often it is sent: what came of it is noted under the last key, a new one for each change.
 * The second would find what the first has made, and take it for another's.
 */
function once({ source }: Script): Script {
  return script(`
local note = KEYS[#KEYS]
local done = redis.call('GET', note)
if done then return done end
local function change()${source}
end
done = change()
if string.find(done, '1') then redis.pcall('SET', note, done, 'PX', ${REMEMBERED}) end
return done`)
}

export const ONCE = new Map([WRITE, REMOVE_LINKED].map((change) => [change, once(change)]))

export function sha1(text: string): string {
  return createHash('sha1').update(text).digest('hex')
}

function script(source: string): Script {
  return { source, sha: sha1(source) }
}
