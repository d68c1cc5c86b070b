import type { ServerResponse } from 'node:http'
import type { Request } from 'express'
import createDebug = require('debug')
import { isSessionError, warnOnce } from '../base/errors'
import { afterwards, isPromise, rescue, type MaybePromise } from '../base/maybe-promise'
import type { Transport } from '../options/options'
import type { EndOfResponse } from '../response/response-end'
import { checkSettings, writeSessionCookie } from '../response/set-cookie'
import { shieldSocket } from '../response/held-response'
import type { Cookie } from '../session/cookie'
import { cookieOf } from '../session/noted'
import { savesItself, type LiveSession } from '../session/session'
import { serializeData } from '../session/text'
import { isSecure } from './connection'
import { decide, why, type Decision, type Situation } from './decide'
import type { Signer } from './signer'
import { joinHeld } from './tokens'
import { UNSEEN } from './place'
import { newCookie } from './making'
import { isUnseenDue, situationOf } from './situation'
import { confirm, touch, touchUnseen } from './touch'
import { bounded, underWay } from './turns'
import type { Visit } from './visit'

const debug = createDebug('express-session')

/**
 * The end of a visit: what becomes of the session is decided, that is done, and the cookie goes by what the store has
 * confirmed. A stream begins before that, so its cookie goes by what is known then.
 */
export class Commit implements EndOfResponse {
  readonly #visit: Visit
  readonly #res: ServerResponse
  readonly #next: (error?: unknown) => void
  readonly #signer: Signer | undefined

  #decision: Decision | undefined
  /** Whether a cookie may be sent, as far as it is known: the store has confirmed the session, or it is new. */
  #mayTell = false
  /** Whether the store has said that the session is gone. */
  #isGone = false
  #hasTold = false
  #headersGone = false
  #isTouched = false
  #told: string | undefined
  #failed = false
  #committing: PromiseLike<void> | undefined

  constructor(visit: Visit, res: ServerResponse, next: (error?: unknown) => void, signer: Signer | undefined) {
    this.#visit = visit
    this.#res = res
    this.#next = next
    this.#signer = signer
  }

  // Committing the session.

  /** One commit after the other: a stream commits at its beginning, and its end may come before that is done. */
  commit(): MaybePromise<void> {
    if (this.#committing) return this.#committing.then(() => this.commit())
    const committed = this.#commit()
    if (isPromise(committed)) {
      const over = (): void => void (this.#committing = undefined)
      this.#committing = committed.then(over, over)
    }
    return committed
  }

  #commit(): MaybePromise<void> {
    const visit = this.#visit
    if (visit.state === 'unknown' || visit.state === 'none' || this.#failed) return
    // Responses that are not Node's own are never closed.
    visit.settings.underWay.exit(visit)
    const pending = underWay(visit)
    if (!pending) return this.#commitNow()
    // Tried before waiting: if the session cannot be serialised, a different answer is still possible.
    const session = visit.place.peek()
    if (session && session !== UNSEEN) serializeData(session, visit.settings.serializer)
    // Who has given a callback is called first: a login puts its user into the session there, and may go on with a save.
    return pending.then(callbacks).then(() => {
      // Nobody waits for a save before which the response has ended: if it failed, it is tried again, and told here.
      visit.comparison.forgetFailure()
      return this.#commit()
    })
  }

  #commitNow(): MaybePromise<void> {
    const visit = this.#visit
    const { wasIdRead } = visit.place
    let session = visit.place.peek()
    if (session === UNSEEN) {
      if (!isUnseenDue(visit)) {
        this.#watchForLateChanges()
        if (visit.settings.events.wants('decided')) this.#tellUnseen()
        return this.#inBackground(() => touchUnseen(visit))
      }
      session = visit.place.look()
    }
    // As in express-session, other falsy values are no session, but do not mean that it was unset.
    if (!session && session !== null && session !== undefined) return
    const live = session as LiveSession
    const text = session ? serializeData(live, visit.settings.serializer) : ''
    // Before the decision, as in express-session: a record may have a lifetime and no end, or an end and no lifetime.
    if (session) this.#touch(live)
    if (session && !this.#headersGone) visit.claim.renewIfDue()
    const situation = situationOf(visit, live, text)
    const decision = decide(situation, visit.settings)
    this.#decision = decision
    if (visit.settings.events.wants('decided')) this.#tellDecision(decision, situation)
    debug('%s: %s', decision.action, decision.reason)
    if (decision.action === 'nothing' && visit.state === 'new' && wasIdRead) {
      visit.settings.hints?.idOfUnstored(visit.req.url)
    }
    if (session && visit.req[visit.settings.idProperty] !== live.id) visit.settings.hints?.idReplaced()
    if (decision.setCookie && !this.#headersGone && !visit.settings.transport) {
      checkSettings(visit.settings.name, settingsToSend(cookieOf(live)))
    }
    const done = this.#carryOut(decision, live, text)
    if (session) this.#watchForLateChanges(live)
    return done
  }

  #tellDecision(decision: Decision, situation: Situation): void {
    const { req, settings } = this.#visit
    const { action, reason, setCookie } = decision
    const id = String(req[settings.idProperty])
    settings.events.emit('decided', {
      id,
      action,
      why: why(decision, situation),
      cookie: setCookie ? reason : undefined,
    })
  }

  /** A new session that nobody has looked at is none. */
  #tellUnseen(): void {
    const { claim, place, settings } = this.#visit
    if (place.pending !== 'stored' || claim.key === undefined) return
    const event = { id: claim.key, action: 'touch', why: 'nobody has looked at it', cookie: undefined } as const
    settings.events.emit('decided', event)
  }

  #carryOut(decision: Decision, session: LiveSession, text: string): MaybePromise<void> {
    const visit = this.#visit
    switch (decision.action) {
      case 'destroy':
        visit.state = 'destroyed'
        return visit.destroyByKey(visit.req[visit.settings.idProperty] as string)
      case 'save':
        if (this.#headersGone && this.#isUnreachable(session)) return
        return afterwards(this.#save(session, text), (isStored) => void (this.#mayTell = isStored))
      case 'touch':
        if (!decision.setCookie || this.#headersGone) return this.#inBackground(() => touch(visit, session))
        return this.#confirm(session)
      case 'nothing':
        this.#mayTell = true
    }
  }

  /** The cookie of a session that is not stored anew may be sent if it is still the client's. */
  #confirm(session: LiveSession): MaybePromise<void> {
    const visit = this.#visit
    const confirmed = (): MaybePromise<void> =>
      afterwards(confirm(visit, session), (isOwn) => {
        this.#mayTell = isOwn
        return isOwn ? this.#inBackground(() => touch(visit, session)) : undefined
      })
    return rescue(confirmed, (error) => this.report(error))
  }

  /** A new session whose cookie did not leave with the headers could never be found again. */
  #isUnreachable(session: LiveSession): boolean {
    const { claim, req } = this.#visit
    if (this.#hasTold || claim.held?.key === session.id || claim.knownOf(session)) return false
    const [path] = String(req.url).split('?', 1)
    warnOnce(
      'SESSION_CHANGED_TOO_LATE',
      `A new session was first changed after the response had begun, when no cookie could be sent any more; it is not ` +
        `stored. Change req.session before the first res.write() (${req.method} ${path})`,
    )
    return true
  }

  /** Stores the session; false when it is gone, which is no error of this request. */
  #save(session: LiveSession, text: string): MaybePromise<boolean> {
    const visit = this.#visit
    const ignoreGone = (error: unknown): boolean => {
      // Nothing is lost of what `resave` stores unchanged, and of a session that the application has ended by its cookie.
      const isHarmless = visit.comparison.cameAs(session, text) || visit.settings.expiresOf(session) <= Date.now()
      const isDestroyed = isSessionError(error, 'ERR_SESSION_DESTROYED')
      this.#isGone = isDestroyed || isSessionError(error, 'ERR_SESSION_EXPIRED')
      if (!isDestroyed && !(this.#isGone && isHarmless)) {
        visit.comparison.failed(session, text)
        throw error
      }
      debug('not saved: the session is gone')
      return false
    }
    const save = (): MaybePromise<void> =>
      savesItself(session)
        ? bounded(visit.settings, 'save', session.id, () => visit.write(session, text))
        : new Promise<void>((resolve, reject) => {
            session.save((error?: unknown) => (error ? reject(error) : resolve()))
          })
    return rescue(() => afterwards(save(), () => true), ignoreGone)
  }

  /**
   * No answer fails because a session's end could not be moved, and with a record store none waits for it. A classic store
   * may touch by a read and a write, so its answer waits: the client's next request, or a logout, must not come in between.
   */
  #inBackground(work: () => MaybePromise<void>): MaybePromise<void> {
    const over = rescue(work, (error) => this.report(error))
    return this.#visit.settings.access().isExact ? undefined : over
  }

  #touch(session: LiveSession): void {
    if (this.#isTouched) return
    this.#isTouched = true
    session.touch()
  }

  // The cookie.

  /** A new token, or the ID of a new session, is the only way into what the store has: its client is told, whatever else has failed. */
  get #isOnlyWay(): boolean {
    const { claim } = this.#visit
    return !this.#isGone && (claim.token !== undefined || (claim.known != null && claim.held?.key !== claim.key))
  }

  head(streamed: boolean): void {
    const visit = this.#visit
    if (visit.state === 'unknown' || visit.state === 'none' || (this.#failed && !this.#isOnlyWay)) return
    if (streamed) this.#beginStream()
    this.#headersGone = true
    const session = visit.place.peek()
    if (session === UNSEEN) return
    if (!session || visit.state === 'destroyed') return this.#sendRemoval()
    // The commit has decided; a token that it has given to the client was not known then.
    const isDue = this.#decision?.setCookie === true || visit.claim.token !== undefined
    if (!isDue || !(this.#mayTell || this.#isOnlyWay) || !visit.claim.holdsPresentToken(session as LiveSession)) return
    debug('cookie: %s', visit.claim.token === undefined ? this.#decision?.reason : 'new token')
    this.#hasTold = true
    this.#sendId(session as LiveSession)
  }

  /**
   * A reader who comes while a stream is sent finds the session as it was at its beginning. The stream does not wait; what
   * has failed is tried again at its end.
   */
  #beginStream(): void {
    const visit = this.#visit
    const session = visit.place.peek()
    const isNew =
      visit.claim.held === undefined ||
      (session !== UNSEEN && (session as LiveSession | undefined)?.id !== visit.claim.held.key)
    const committed = rescue(
      () => this.commit(),
      (error) => {
        this.report(error)
        visit.comparison.forgetFailure()
      },
    )
    if (!isPromise(committed)) return
    // Of a session that the client has already, only the store can say whether it still has it.
    this.#mayTell = isNew
  }

  /** A cookie is removed by an expired one with the same name, path and domain: RFC 6265bis, section 5.7. */
  #sendRemoval(): void {
    const { claim, place, settings, state } = this.#visit
    const { clearCookie, name, transport } = settings
    if (!clearCookie || transport || state !== 'destroyed' || !claim.held) return
    const cookie = (place.last && cookieOf(place.last)) ?? newCookie(this.#visit)
    writeSessionCookie(this.#res, name, '', { ...cookie.data, expires: new Date(0) })
  }

  #sendId(session: LiveSession): void {
    const res = this.#res
    const { claim, req, settings } = this.#visit
    const { held } = claim
    const key = req[settings.idProperty] as string
    const id = joinHeld(key, claim.tokenOf(key))
    if (settings.noStore) res.setHeader('Cache-Control', 'no-store')
    if (settings.transport) return this.#sendByTransport(settings.transport, id)
    if (cookieOf(session).secure && !isSecure(req, settings.proxy)) {
      debug('no cookie: it is for secure connections only, and this is none')
      settings.hints?.insecure(req.headers['x-forwarded-proto'] === 'https')
      return
    }
    this.#touch(session)
    if (!held) settings.hints?.cookieGiven()
    const isSame = held?.key === key && claim.token === undefined
    const encoded = (isSame ? held.encoded : undefined) ?? (this.#signer as Signer).sign(id)
    writeSessionCookie(res, settings.name, encoded, settingsToSend(cookieOf(session)))
  }

  #sendByTransport(transport: Transport, id: string): void {
    const carried = transport.signed ? (this.#signer as Signer).signPlain(id) : id
    void rescue(
      () => transport.write(this.#visit.req as unknown as Request, this.#res, carried),
      (error) => this.report(error),
    )
  }

  /** Compares with the session as it is after the store had it: some stores add something of their own to it. */
  #watchForLateChanges(session?: LiveSession): void {
    const { req, settings } = this.#visit
    const { hints, serializer } = settings
    if (!hints?.watchesNext()) return
    const text = session && serializeData(session, serializer)
    this.#res.once?.('finish', () => hints.ended(() => this.#isChanged(session, text), req.url))
  }

  /** Whether the session has changed since the end of the response; `session` is undefined if it was not made by then. */
  #isChanged(session: LiveSession | undefined, text: string | undefined): boolean {
    const visit = this.#visit
    try {
      const now = visit.place.peek()
      if (now === UNSEEN || !now || (session && now !== session)) return false
      const live = now as LiveSession
      const textNow = serializeData(live, visit.settings.serializer)
      return (
        textNow !== text &&
        !visit.comparison.isStoredAs(live, textNow) &&
        !visit.settings.hints?.isAsHanded(live, textNow) &&
        (session !== undefined || !visit.comparison.cameAs(live, textNow))
      )
    } catch {
      return true
    }
  }

  // Failures.

  onFailure(error: unknown): 'respond' | 'error' | 'disconnect' {
    return isSessionError(error, 'ERR_SESSION_ID_TAKEN', 'ERR_SESSION_LIMIT', 'ERR_SESSION_CONFLICT')
      ? 'error'
      : this.#visit.settings.onSaveError
  }

  /** The application's error handler makes a new response, which has no session. */
  fail(error: unknown): void {
    const { req, settings } = this.#visit
    this.#failed = true
    settings.hints?.failed(() => this.#res.writableEnded || this.#res.destroyed, req.url)
    this.#next(error)
  }

  /**
   * Reports an error once the response is over: to the listeners of `storeError`, else to the error handler. What fails at
   * the beginning of a stream and at its end is told once.
   */
  report(error: unknown): void {
    const message = String(error)
    if (message === this.#told) return
    this.#told = message
    const res: ServerResponse & { stream?: { destroyed: boolean } } = this.#res
    const tell = (): void => {
      res.off?.('finish', tell)
      res.off?.('close', tell)
      setImmediate(() => this.#tell(error))
    }
    const isOver = res.writableFinished || res.closed || res.destroyed || res.stream?.destroyed
    if (isOver || typeof res.once !== 'function') return tell()
    res.once('finish', tell)
    res.once('close', tell)
  }

  #tell(error: unknown): void {
    const { req, settings } = this.#visit
    const { events, idProperty } = settings
    const emit = (): void => events.emit('storeError', { error, id: String(req[idProperty]) })
    if (this.#res.writableFinished) {
      if (events.wants('storeError')) return emit()
      // Express would end the connection, which may carry the client's next request by now.
      shieldSocket(req)
    }
    try {
      this.#next(error)
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'ERR_HTTP_HEADERS_SENT') throw thrown
      // The error handler has tried to answer a second time.
      emit()
    }
  }
}

/** Resolves when the callbacks have been called of what has ended just now: that is done in the next tick. */
const callbacks = (): Promise<void> => new Promise((resolve) => process.nextTick(process.nextTick, resolve))

/** What is sent of a cookie: nothing of a plain object that the application has put in its place, as in express-session. */
function settingsToSend(cookie: Cookie): Partial<Cookie['data']> {
  return (cookie as Partial<Cookie>).data ?? {}
}
