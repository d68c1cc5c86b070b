import { afterwards, oneByOne, type MaybePromise } from '../base/maybe-promise'
import type { LiveSession } from '../session/session'
import { bounded } from './turns'
import type { Visit } from './visit'

/** Moves the end of a session in the store, after `session.touch()`. */
export function touch(visit: Visit, session: LiveSession): MaybePromise<void> {
  const { claim, settings } = visit
  return touchBy(
    visit,
    session.id,
    () => settings.access().touch(session, claim.knownOf(session)),
    () => settings.expiresOf(session),
  )
}

/** The same for a session that nobody has looked at, if possible without parsing it: its text may tell its lifetime. */
export function touchUnseen(visit: Visit): MaybePromise<void> {
  const { claim, place, settings } = visit
  const { key, known } = claim
  if (place.pending !== 'stored' || !known || key === undefined) return
  const maxAge = known.settings?.originalMaxAge
  if (maxAge !== null && typeof maxAge !== 'number') return touch(visit, place.look().touch())
  return touchBy(
    visit,
    key,
    () => settings.access().touchUnseen(key, known, maxAge),
    () => Date.now() + (maxAge ?? settings.ttl),
  )
}

function touchBy(
  { claim, settings }: Visit,
  key: string,
  move: () => MaybePromise<boolean>,
  expires: () => number,
): MaybePromise<void> {
  return bounded(settings, 'touch', key, () =>
    afterwards(move(), (isMoved) => {
      if (!isMoved) return
      if (settings.events.wants('touched')) settings.events.emit('touched', { id: key })
      return oneByOne(settings.features, (feature) => feature.touched?.(key, claim.known?.notes, expires()))
    }),
  )
}

/**
 * Whether a session is still the client's, so that its cookie may be sent again: that of another one may have been set
 * meanwhile. A classic store cannot tell, this process only.
 */
export function confirm({ claim, settings }: Visit, session: LiveSession): MaybePromise<boolean> {
  const { access, expiresOf } = settings
  const known = claim.knownOf(session)
  if (claim.isConfirmed || known === undefined) return true
  if (!access().isExact) return known?.life?.isDestroyed !== true && claim.mayWrite(session.id, known?.life?.renewed)
  return bounded(settings, 'load', session.id, () =>
    afterwards(access().load(session.id, expiresOf(session)), (now) => {
      // What others have stored meanwhile is not known to this request's session: a later write has to find that out.
      if (now && now.record?.version === known?.record?.version) claim.found(session.id, now)
      return now !== null && claim.mayWrite(session.id, now.notes) && claim.holdsPresentToken(session, now)
    }),
  )
}
