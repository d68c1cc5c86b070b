import { followUpdate } from '../session/merge'
import type { LiveSession } from '../session/session'
import { serializeData } from '../session/text'
import type { Known } from '../store/access'
import {
  deadline,
  gone,
  inTurnOfConflicts,
  MAX_TRIES,
  pauseAfter,
  requireOwn,
  tooOften,
  tryToWrite,
  type Stored,
  type Writer,
} from './save'

/**
 * Changes a stored session by a function, which may run again, and has the request's own session take part in it.
 * `restore` makes a session of what is stored.
 */
export async function update(
  writer: Writer,
  session: LiveSession,
  restore: (known: Known) => LiveSession,
  change: (session: LiveSession) => unknown,
): Promise<Stored> {
  return inTurnOfConflicts(writer, session, () => updateInTurn(writer, session, restore, change))
}

async function updateInTurn(
  writer: Writer,
  session: LiveSession,
  restore: (known: Known) => LiveSession,
  change: (session: LiveSession) => unknown,
): Promise<Stored> {
  const { access, serializer } = writer.settings
  const base = writer.claim.knownOf(session) as Known
  const until = deadline(writer.settings)
  for (let tries = 1; tries <= MAX_TRIES && Date.now() < until; tries++) {
    const theirs = await access().load(session.id)
    if (!theirs) throw gone(session.id, base)
    requireOwn(writer, session, base, theirs)
    const newest = restore(theirs)
    await change(newest)
    newest.touch()
    const text = serializeData(newest, serializer)
    const stored = await tryToWrite(writer, newest, text, theirs)
    if (stored) {
      const states = {
        base: access().freshDataOf(base),
        before: access().freshDataOf(theirs),
        after: access().freshDataOf(stored.known),
      }
      const order = followUpdate(session, states, serializer)
      if (order === 'after') return stored
      writer.isOutOfOrder = true
      // What the session has kept of before is no change that is to be stored.
      return order === 'before' ? { ...stored, text: serializeData(session, serializer) } : stored
    }
    await pauseAfter(tries)
  }
  throw tooOften(session.id)
}
