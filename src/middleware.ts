import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Request } from 'express'
import createDebug = require('debug')
import { atOnce, isPromise, type MaybePromise } from './base/maybe-promise'
import type { Given } from './options/recommended'
import { Commit } from './request/commit'
import { isBelow } from './request/connection'
import { readCookies, readTransport } from './request/identify'
import type { Presented, Signer } from './request/signer'
import type { Settings, VisitedRequest } from './request/settings'
import { ownGenerates, Visit } from './request/visit'
import { leaveHiddenClasses } from './response/hidden-classes'
import { holdEnd } from './response/response-end'
import { SESSION_OWNER } from './session/session'
import { sessionsApi, type Sessions } from './sessions'
import { makeSettings, warnOfSkipping } from './settings'
import { followReadiness, type GeneratingStore } from './store/store'

const debug = createDebug('express-session')

type Next = (error?: unknown) => void

/** Of each middleware, for `sessile/testing`. */
export const settingsOf = new WeakMap<Sessions, Settings>()

/** Makes the session middleware. The function `session` in it is the way of one request; docs/how-it-works.md tells it in words. */
export function createSessions(given: Given, deprecate: (message: string) => void): Sessions {
  const settings = makeSettings(given, deprecate)
  const { hints, property, skip, store, transport } = settings
  const needsSigner = !transport || Boolean(transport.signed)
  const isReady = followReadiness(store)
  offerGenerate(settings)

  function session(request: IncomingMessage, res: ServerResponse, next: Next): void {
    const req = request as VisitedRequest
    let begun: MaybePromise<void>
    let visit: Visit
    // What a client sends, and what an application's function makes of it, must not be thrown at a bare event handler.
    try {
      if (req[property]) return next()
      if (atOnce(skip?.(req as unknown as Request), 'skip option must return true or false')) return next()
      if (!isReady()) return skipped('the store is disconnected', next)
      const cookieOptions = cookieOptionsOf(settings, req)
      if (!isBelow(cookieOptions.path ?? '/', req)) {
        hints?.pathMissed(cookieOptions.path as string, req.url)
        return skipped('the path is not below the cookie path', next)
      }
      hints?.pathMatched()
      leaveHiddenClasses(req, res)
      const signer = settings.signerOf(req)
      if (!signer && needsSigner) return next(new Error('secret option required for sessions'))

      visit = startVisit(settings, req, identify(settings, req, signer), cookieOptions, true)
      holdEnd(res, new Commit(visit, res, next, signer))
      settings.underWay.exitAtClose(res, visit)
    } catch (error) {
      return next(error)
    }
    try {
      begun = visit.begin()
    } catch (error) {
      return failed(settings, visit, error, next)
    }
    if (!isPromise(begun)) return next()
    begun.then(
      () => process.nextTick(next),
      (error: unknown) => process.nextTick(failed, settings, visit, error, next),
    )
  }

  const sessions = Object.defineProperties(
    session as unknown as Sessions,
    Object.getOwnPropertyDescriptors(sessionsApi(settings, settings.users, visitOf)),
  )
  settingsOf.set(sessions, settings)
  return sessions

  /** A visit without a response: of a request that has none to end, or of a session of which only the ID is known. */
  function visitOf(req: VisitedRequest, presented?: readonly Presented[]): Visit {
    const cookieOptions = presented ? {} : cookieOptionsOf(settings, req)
    return startVisit(settings, req, presented ?? identify(settings, req, settings.signerOf(req)), cookieOptions, false)
  }
}

function cookieOptionsOf(settings: Settings, req: VisitedRequest) {
  return atOnce(settings.cookieFor(req), 'cookie option must return settings')
}

/** What the client presents: the keys of sessions, each with a token once the session was renewed. */
function identify(settings: Settings, req: VisitedRequest, signer: Signer | undefined): readonly Presented[] {
  const { genid, name, transport } = settings
  if (transport) return readTransport(transport, req, signer, genid !== undefined)
  return signer ? readCookies(req, name, signer) : []
}

/** Leaves the visit on the request. */
function startVisit(
  settings: Settings,
  req: VisitedRequest,
  presented: readonly Presented[],
  cookieOptions: ReturnType<typeof cookieOptionsOf>,
  hasResponse: boolean,
): Visit {
  const { hints, name, storeProperty, store, transport } = settings
  const visit = new Visit(settings, req, presented, cookieOptions, hasResponse)
  const other = req[SESSION_OWNER]
  if (other instanceof Visit && other.settings !== settings && other.settings.name === name && !transport) {
    hints?.secondMiddleware(name)
  }
  if (presented.length > 0) hints?.cookieReturned()
  req[storeProperty] = store
  req[SESSION_OWNER] = visit
  return visit
}

function failed({ events, onLoadError }: Settings, { claim }: Visit, error: unknown, next: Next): void {
  debug('loading failed: %o', error)
  if (onLoadError === 'error') return next(error)
  if (events.wants('storeError')) events.emit('storeError', { error, id: claim.held?.key })
  else warnOfSkipping(error)
  next()
}

function skipped(why: string, next: Next): void {
  debug('no session: %s', why)
  next()
}

/** Gives the store its `generate`. Several middlewares may share a store: the one that a request came through serves it. */
function offerGenerate(settings: Settings): void {
  const generate = (request: Request): MaybePromise<void> => {
    const req = request as unknown as VisitedRequest
    const owner = req[SESSION_OWNER]
    const visit = owner instanceof Visit ? owner : new Visit(settings, req, [], cookieOptionsOf(settings, req), true)
    const generated = visit.generate()
    // Callers of the classic `generate` expect no promise: if this one rejects, the process must not end for that.
    if (isPromise(generated)) generated.then(undefined, () => undefined)
    return generated
  }
  ownGenerates.add(generate)
  ;(settings.store as GeneratingStore).generate = generate
}
