import type { SessionNotes } from '../../session/notes'
import type { Feature } from '../feature'

/** Notes since when a client has what it holds, so that `renewalTimeout` knows when it is to be given a new token. */
export function renewal({ renewalTimeout }: { readonly renewalTimeout: number }): Feature | undefined {
  if (renewalTimeout === 0) return undefined
  const note =
    (now: number) =>
    (notes: SessionNotes): void => {
      notes.renewed = Math.min(notes.renewed ?? now, now)
    }
  return {
    created: note,
    admitted: (notes, now) => (notes?.renewed === undefined || notes.renewed > now ? note(now) : undefined),
  }
}
