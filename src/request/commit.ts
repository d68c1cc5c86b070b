import type { ServerResponse } from 'node:http'
import type { Request } from 'express'
import createDebug = require('debug')
import { serializeData } from '../session/changes'
import type { Cookie } from '../session/cookie'
import { writeSessionCookie, type Signer } from './cookie-header'
import { decide, type Decision } from './decide'
import { warnOnce, type SessionError } from '../base/errors'
import { isPromise, type MaybePromise } from '../base/maybe-promise'
import { isSecure } from './connection'
import { shieldSocket } from '../response/held-response'
import type { EndOfResponse } from '../response/response-end'
import { savesItself, type LiveSession } from '../session/session'
import { UNSEEN, type Visit } from './visit'

const debug = createDebug('express-session')

/** What is sent of a cookie: nothing of a plain object that the application has put in its place, as in express-session. */
function settingsToSend(cookie: Cookie): Partial<Cookie['data']> {
  return (cookie as Partial<Cookie>).data ?? {}
}

/** The end of a visit: what becomes of the session is decided, its cookie written, and the session committed. */
export class Commit implements EndOfResponse {
  readonly #visit: Visit
  readonly #res: ServerResponse
  readonly #next: (error?: unknown) => void
  readonly #signer: Signer | undefined

  #decision: Decision | undefined
  #headGone = false
  #cookieDue = false
  #touched = false
  #over = false
  #text: string | undefined
  #failed = false

  constructor(visit: Visit, res: ServerResponse, next: (error?: unknown) => void, signer: Signer | undefined) {
    this.#visit = visit
    this.#res = res
    this.#next = next
    this.#signer = signer
  }

  // The cookie.

  /** Sets the cookie when it is due. */
  head(streamed: boolean): void {
    this.#headGone = streamed
    const visit = this.#visit
    if (!visit.hasBegun || this.#failed) return
    let session = visit.peek()
    if (session === UNSEEN) {
      if (!visit.unseenMatters) return
      session = visit.look()
    }
    try {
      if (!session) return this.#sendRemoval()
      // A late cookie would replace the one of a new login, which another response may have set by now.
      if (visit.tracker.isDestroyed) return
      // These headers leave before the commit, which may find a new ID: a cookie with the old one would do harm.
      if (!this.#decision && visit.mayHaveNewId) return
      // The commit may have found that the session has a new ID: then its decision is out of date.
      const decision = (!visit.hasMoved && this.#decision) || this.#decide(session as LiveSession)
      if (!decision.setCookie) return
      this.#cookieDue = true
      debug('cookie: %s', decision.reason)
      this.#sendId(session as LiveSession)
    } catch (error) {
      // The commit would fail in the same way, and the error be reported twice.
      if ((error as SessionError).code === 'ERR_SESSION_SERIALIZE') this.#over = true
      this.report(error)
    }
  }

  /** A cookie is removed by an expired one with the same name, path and domain: RFC 6265bis, section 5.7. */
  #sendRemoval(): void {
    const { clearCookie, name, transport } = this.#visit.settings
    const cookie = clearCookie && !transport ? this.#visit.removedCookie : undefined
    if (cookie) writeSessionCookie(this.#res, name, '', { ...cookie.data, expires: new Date(0) })
  }

  #sendId(session: LiveSession): void {
    const res = this.#res
    const { presented, req, settings } = this.#visit
    const id = req[settings.idProperty] as string
    if (settings.transport) return settings.transport.write(req as unknown as Request, res, id)
    if (session.cookie.secure && !isSecure(req, settings.proxy)) {
      debug('no cookie: it is for secure connections only, and this is none')
      settings.hints?.insecure(req.headers['x-forwarded-proto'] === 'https')
      return
    }
    this.#touch(session)
    if (!presented) settings.hints?.cookieGiven()
    if (settings.noStore) res.setHeader('Cache-Control', 'no-store')
    const encoded = presented?.id === id && presented.encoded ? presented.encoded : (this.#signer as Signer).sign(id)
    writeSessionCookie(res, settings.name, encoded, settingsToSend(session.cookie))
  }

  #decide(session: LiveSession | null | undefined, text?: string): Decision {
    return decide(this.#visit.situation(session, text), this.#visit.settings)
  }

  #touch(session: LiveSession): void {
    if (this.#touched) return
    this.#touched = true
    session.touch()
  }

  // The session.

  commit(): MaybePromise<void> {
    if (!this.#visit.hasBegun || this.#over || this.#failed) return
    const { underWay } = this.#visit
    const headersSent = this.#headGone
    if (!underWay) return this.#commitNow(headersSent)
    // Tried before waiting: if the session cannot be serialised, a different answer is still possible.
    const session = this.#visit.peek()
    if (session && session !== UNSEEN) serializeData(session, this.#visit.settings.serializer)
    return underWay.then(() => {
      // Nobody waits for a save before which the response has ended: if it failed, it is tried again, and told here.
      this.#visit.tracker.forgetFailure()
      return this.#commitNow(headersSent)
    })
  }

  #commitNow(headersGone: boolean): MaybePromise<void> {
    const visit = this.#visit
    let session = visit.peek()
    if (session === UNSEEN) {
      if (!visit.unseenMatters) {
        if (this.#text === '') return
        this.#text = ''
        this.#watchForLateChanges()
        return this.#renew(() => visit.renewUnseen())
      }
      session = visit.look()
    }
    // As in express-session, other falsy values are no session, but do not mean that it was unset.
    if (!session && session !== null && session !== undefined) return
    const live = session as LiveSession
    const text = session ? serializeData(live, visit.settings.serializer) : ''
    if (this.#text === text) return
    this.#text = text
    if (!session || !visit.mayHaveNewId) return this.#conclude(live, text, headersGone)
    // A save follows the session to its new ID by itself.
    if (this.#decide(live, text).action === 'save') return this.#conclude(live, text, headersGone)
    return headersGone ? undefined : this.#catchUp(live)
  }

  /** A session that may have a new ID is renewed there, and its cookie has to name it. No answer fails for that. */
  #catchUp(session: LiveSession): MaybePromise<void> {
    const { settings } = this.#visit
    const conclude = (): MaybePromise<void> =>
      this.#conclude(session, serializeData(session, settings.serializer), false)
    const giveUp = (error: unknown): void => {
      this.#failed = true
      this.report(error)
    }
    try {
      const caughtUp = this.#visit.catchUp(session)
      return isPromise(caughtUp) ? caughtUp.then(conclude, giveUp) : conclude()
    } catch (error) {
      giveUp(error)
    }
  }

  #conclude(session: LiveSession, text: string, headersGone: boolean): MaybePromise<void> {
    // Before the decision, as in express-session: a record may have a lifetime and no end, or an end and no lifetime.
    if (session) this.#touch(session)
    const decision = this.#decide(session, text)
    this.#decision = decision
    debug('%s: %s', decision.action, decision.reason)
    const done = this.#carryOut(decision, session, text, headersGone)
    if (session) this.#watchForLateChanges(session)
    return done
  }

  #carryOut({ action }: Decision, session: LiveSession, text: string, headersGone: boolean): MaybePromise<void> {
    const visit = this.#visit
    switch (action) {
      case 'destroy':
        return visit.destroyById(visit.req[visit.settings.idProperty] as string)
      case 'save':
        if (headersGone && this.#isUnreachable(session)) return
        return this.#save(session, text)
      case 'touch':
        return this.#renew(() => visit.renewStored(session))
      case 'nothing':
    }
  }

  /** A new session whose cookie did not leave with the headers could never be found again. */
  #isUnreachable(session: LiveSession): boolean {
    const { presented, req } = this.#visit
    if (this.#cookieDue || presented?.id === session.id || this.#visit.hasMoved) return false
    warnOnce(
      'SESSION_CHANGED_TOO_LATE',
      `A new session was first changed after the response had begun, when no cookie could be sent any more; it is not ` +
        `stored. Change req.session before the first res.write() (${req.method} ${req.url})`,
    )
    return true
  }

  #save(session: LiveSession, text: string): MaybePromise<void> {
    const ignoreGone = (error: unknown): void => {
      const { code } = error as SessionError
      const { settings, tracker } = this.#visit
      // Nothing is lost of what `resave` stores unchanged, and of a session that the application has ended by its cookie.
      const isHarmless = tracker.cameAs(session, text) || settings.expiresOf(session) <= Date.now()
      if (code !== 'ERR_SESSION_DESTROYED' && !(code === 'ERR_SESSION_EXPIRED' && isHarmless)) throw error
      debug('not saved: the session is gone')
    }
    try {
      const saved = savesItself(session)
        ? this.#visit.write(session, text)
        : new Promise<void>((resolve, reject) => {
            session.save((error?: unknown) => (error ? reject(error) : resolve()))
          })
      return isPromise(saved) ? saved.then(undefined, ignoreGone) : saved
    } catch (error) {
      return ignoreGone(error)
    }
  }

  /**
   * No answer fails because of a renewal, and with a record store none waits for it. A classic store may touch by a read
   * and a write, so its answer waits: the client's next request, or a logout, must not come in between.
   */
  #renew(work: () => MaybePromise<void>): MaybePromise<void> {
    try {
      const renewed = work()
      if (!isPromise(renewed)) return
      const over = renewed.then(undefined, (error: unknown) => this.report(error))
      return this.#visit.renewsInOneStep ? undefined : over
    } catch (error) {
      this.report(error)
    }
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
      const now = visit.peek()
      if (now === UNSEEN || !now || (session && now !== session)) return false
      const live = now as LiveSession
      const textNow = serializeData(live, visit.settings.serializer)
      return (
        textNow !== text && !(session ? visit.tracker.isStoredAs(live, textNow) : visit.tracker.cameAs(live, textNow))
      )
    } catch {
      return true
    }
  }

  // Failures.

  onFailure(error: unknown): 'respond' | 'error' | 'disconnect' {
    const { code } = error as SessionError
    const isRefusal = code === 'ERR_SESSION_ID_TAKEN' || code === 'ERR_SESSION_LIMIT'
    return isRefusal ? 'error' : this.#visit.settings.onSaveError
  }

  /** The application's error handler makes a new response, which has no session. */
  fail(error: unknown): void {
    const { req, settings } = this.#visit
    this.#failed = true
    settings.hints?.failed(() => this.#res.writableEnded || this.#res.destroyed, req.url)
    this.#next(error)
  }

  /** Reports an error once the response is over: to the listeners of `storeError`, else to the error handler. */
  report(error: unknown): void {
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
