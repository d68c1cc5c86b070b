/** What is known of a request's session when its response ends. */
export interface Situation {
  /** The session was destroyed by this request, or is one that leaves no trace. */
  readonly gone: boolean
  /** The handler unset `req.session`. */
  readonly unset: boolean
  /** The session's ID is a string, which a cookie can carry. */
  readonly hasId: boolean
  /** The client brought this very ID. */
  readonly presented: boolean
  /** The data differs from what was loaded or generated, or the ID does. */
  readonly changed: boolean
  /** The cookie's settings differ from those loaded; its running expiry does not count. */
  readonly settingsChanged: boolean
  /** The store holds the session as it is now, its cookie's settings included. */
  readonly saved: boolean
  /** The store was given this session at some point, or it came from there. */
  readonly everSaved: boolean
  /** An older secret signed the client's cookie. */
  readonly oldSecret: boolean
  /** The client was given a new token, which it does not know yet. */
  readonly renewed: boolean
  /** The cookie has an expiry. */
  readonly expires: boolean
}

/** The options that the decision depends on. */
export interface Policy {
  readonly saveUninitialized: boolean
  readonly rolling: boolean
  readonly unset: 'destroy' | 'keep'
}

export interface Decision {
  readonly action: 'destroy' | 'save' | 'touch' | 'nothing'
  readonly setCookie: boolean
  readonly reason: string
}

const NO_SESSION: Decision = { action: 'nothing', setCookie: false, reason: 'no session' }
const UNSET: Decision = { action: 'destroy', setCookie: false, reason: 'session was unset' }
const GONE: Decision = { action: 'nothing', setCookie: false, reason: 'session is gone' }
const NO_ID: Decision = { action: 'nothing', setCookie: false, reason: 'session ID is no string' }

/** Decides what the end of a response does with the session. */
export function decide(situation: Situation, policy: Policy): Decision {
  if (situation.gone) return GONE
  if (situation.unset) return policy.unset === 'destroy' ? UNSET : NO_SESSION
  if (!situation.hasId) return NO_ID
  const reason = whyCookie(situation, policy)
  return { action: action(situation, policy), setCookie: reason !== '', reason }
}

function action(now: Situation, policy: Policy): Decision['action'] {
  const uninitialized = !policy.saveUninitialized && !now.everSaved && !now.presented
  if (uninitialized ? now.changed : !now.saved) return 'save'
  return now.presented ? 'touch' : 'nothing'
}

function whyCookie(now: Situation, policy: Policy): string {
  if (now.renewed) return 'new token'
  if (!now.presented) return policy.saveUninitialized ? 'new' : now.changed ? 'new and changed' : ''
  if (policy.rolling) return 'rolling'
  if (now.oldSecret) return 'signed by an older secret'
  if (now.settingsChanged) return 'cookie settings changed'
  return now.expires && now.changed ? 'changed' : ''
}

/** Why a decision is what it is, in words for whoever looks for the reason. */
export function why({ action }: Decision, now: Situation): string {
  if (now.gone) return "it was destroyed by this request, or is not this client's any more"
  if (now.unset) return 'the handler has unset it'
  if (!now.hasId) return 'its ID is no string'
  if (action === 'nothing') return now.everSaved ? 'it was stored before the response ended' : 'it is new and empty'
  if (action === 'touch') return 'it is stored as it is'
  if (now.changed) return now.presented ? 'its data has changed' : 'it is new and has data'
  if (now.settingsChanged) return 'the settings of its cookie have changed'
  if (now.renewed) return 'its client gets a new token'
  return now.everSaved ? 'something is to be noted of it' : 'an option has each session stored'
}
