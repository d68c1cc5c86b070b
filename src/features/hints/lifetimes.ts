import type { ResolvedOptions } from '../../options/resolve'
import { hint } from './hint'

type Times = Pick<ResolvedOptions, 'cookie'> &
  Partial<Pick<ResolvedOptions, 'idleTimeout' | 'absoluteTimeout' | 'renewalTimeout'>>

const MINUTE = 60_000
const DAY = 24 * 60 * MINUTE
/** No browser keeps a cookie for longer (RFC 6265bis, section 5.5). */
const LONGEST = 400 * DAY

/** Lifetimes that are hardly meant: those in seconds, those in no unit at all, and a cookie that ends at a fixed time. */
export function hintsOfLifetimes({ cookie, idleTimeout, absoluteTimeout, renewalTimeout }: Times, ttl: unknown): void {
  const settings = typeof cookie === 'function' ? {} : cookie
  const { maxAge, expires } = settings
  const lifetimes = { 'cookie.maxAge': maxAge, idleTimeout, absoluteTimeout, renewalTimeout, "the store's ttl": ttl }
  for (const [name, ms] of Object.entries(lifetimes)) {
    if (typeof ms !== 'number' || ms <= 0 || ms === Infinity || (ms >= MINUTE && ms <= LONGEST)) continue
    const length = ms < MINUTE ? `${round(ms / 1000)} seconds` : `${round(ms / DAY)} days`
    hint('lifetimes-that-are-hardly-meant', `${name} is ${length} (${ms} ms): is it meant to be in another unit?`)
  }
  if (maxAge !== undefined || !expires) return
  const at = (expires as unknown) instanceof Date ? expires.getTime() : Number(expires)
  hint(
    'lifetimes-that-are-hardly-meant',
    (expires as unknown) instanceof Date && at > Date.now()
      ? `cookie.expires is one moment, ${expires.toISOString()}: every session made after it has ended already. Use maxAge`
      : (expires as unknown) instanceof Date
        ? `cookie.expires is past: every session has ended when it begins. Use maxAge`
        : `cookie.expires is the number ${at}, and has to be a Date. For a lifetime in ms use maxAge`,
  )
}

function round(number: number): number {
  return Number(number.toPrecision(3))
}
