import type { SessionNotes } from '../../session/notes'
import type { EndReason, Feature } from '../feature'

/** Timeouts of OWASP's Session Management Cheat Sheet, in ms; 0 for none. */
interface Timeouts {
  readonly idleTimeout: number
  readonly absoluteTimeout: number
}

/** The time when a session was last seen is stored at most this often per idle timeout, so that few requests write. */
const IDLE_STEPS = 20

/**
 * The timeout that a session has reached, if any. The idle timeout ends it up to a twentieth later, never earlier. Times in
 * the future, of a machine whose clock is ahead, count as now.
 */
function timeoutOf(notes: SessionNotes, timeouts: Timeouts, now: number): EndReason | undefined {
  const { idleTimeout, absoluteTimeout } = timeouts
  if (absoluteTimeout && now - (notes.created ?? now) >= absoluteTimeout) return 'absolute'
  if (idleTimeout && now - (notes.seen ?? now) >= idleTimeout + idleTimeout / IDLE_STEPS) return 'idle'
  return undefined
}

/** Ends sessions that have not been used for a time, and those that are too old. */
export function timeouts(options: Timeouts): Feature | undefined {
  const { idleTimeout, absoluteTimeout } = options
  if (!idleTimeout && !absoluteTimeout) return undefined

  const note =
    (now: number) =>
    (notes: SessionNotes): void => {
      // A time in the future would switch the timeouts off until then.
      notes.created = Math.min(notes.created ?? now, now)
      if (idleTimeout) notes.seen = now
    }
  const isDue = ({ created, seen }: SessionNotes, now: number): boolean => {
    if (created === undefined || created > now) return true
    return idleTimeout > 0 && (seen === undefined || seen > now || now - seen >= idleTimeout / IDLE_STEPS)
  }

  return {
    created: note,
    admitted(notes = {}, now) {
      return timeoutOf(notes, options, now) ?? (isDue(notes, now) ? note(now) : undefined)
    },
  }
}
