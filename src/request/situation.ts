import { cookieOf } from '../session/noted'
import type { LiveSession } from '../session/session'
import type { Situation } from './decide'
import type { Visit } from './visit'

/** What is known of a request's session at the end of its response; `data` is the text of its data. */
export function situationOf(visit: Visit, session: LiveSession | null | undefined, data: string): Situation {
  const { claim, comparison, req, settings, state } = visit
  const { held } = claim
  const id = req[settings.idProperty]
  const presented = held !== undefined && held.key === id
  // What the application could not save, it knows of: it is not tried again.
  const hasFailed = session ? comparison.hasFailedAs(session, data) : false
  return {
    gone: state === 'destroyed' || state === 'shut out' || state === 'none',
    unset: !session,
    hasId: typeof id === 'string',
    presented,
    changed: session ? !comparison.cameAs(session, data) || (visit.isNoted && !presented) : false,
    settingsChanged: session ? presented && comparison.hasOtherSettings(session) : false,
    saved: session ? hasFailed || isSaved(visit, session, data) : false,
    everSaved: comparison.isEverStored || hasFailed,
    oldSecret: held?.oldSecret === true,
    renewed: claim.token !== undefined,
    expires: session ? cookieOf(session).expires != null : false,
  }
}

function isSaved({ claim, comparison, settings }: Visit, session: LiveSession, data: string): boolean {
  // `resave` has a session stored that was only loaded: it does not count as saved.
  if (!comparison.isEverStored || (settings.resave && comparison.isOnlyLoaded)) return false
  return (
    !claim.hasNotesDue &&
    !settings.features.some((feature) => feature.isDue?.(claim.knownOf(session)?.notes, session)) &&
    comparison.isStoredAs(session, data) &&
    comparison.hasStoredSettings(session)
  )
}

/** Whether the session has to be made at the end of the response, although nobody has looked at it. */
export function isUnseenDue({ claim, place, req, settings, state }: Visit): boolean {
  const { features, idProperty, resave, rolling, saveUninitialized } = settings
  if (place.pending === 'new') return saveUninitialized && state === 'new'
  if (features.some((feature) => feature.isDue?.(claim.known?.notes)) || req[idProperty] !== claim.key) return true
  return (
    resave ||
    rolling ||
    claim.hasNotesDue ||
    claim.isRenewalDue ||
    claim.token !== undefined ||
    claim.held?.oldSecret === true
  )
}
