import { standsFor, type LiveSession } from '../session/session'
import type { Settings, VisitedRequest } from './settings'

/** What `peek` returns in place of a session that nobody has looked at yet. */
export const UNSEEN = Symbol('unseen')

/** What a session is made of, when somebody looks at it: of what the store has, or of nothing. */
export type Pending = 'stored' | 'new'

/** Where a request has its session and the session's ID: made when they are first looked at, replaced by what is assigned. */
export class Place {
  readonly #settings: Settings
  readonly #req: VisitedRequest
  readonly #make: (pending: Pending) => LiveSession
  #pending: Pending | undefined
  #session: unknown
  #id: unknown
  #isPeeking = false
  /** The session that was made last, whatever is assigned or deleted. */
  last: LiveSession | undefined

  constructor(settings: Settings, req: VisitedRequest, make: (pending: Pending) => LiveSession) {
    this.#settings = settings
    this.#req = req
    this.#make = make
  }

  get pending(): Pending | undefined {
    return this.#pending
  }

  /** The session is made when it is first looked at: parsing is most of the work, and not every handler needs it. */
  offer(pending: Pending): void {
    this.#pending = pending
    this.#define()
    if (pending === 'new') Object.defineProperty(this.#req, this.#settings.idProperty, this.#settings.idAccessor)
  }

  /** Puts a session on the request, anew, as the application may have deleted the property. */
  put(session: LiveSession): void {
    this.settle()
    this.#keep(session)
    this.#req[this.#settings.idProperty] = session.id
    this.#define()
  }

  #define(): void {
    Object.defineProperty(this.#req, this.#settings.property, this.#settings.sessionAccessor)
  }

  get session(): unknown {
    if (!this.#pending) return this.#session
    return this.#isPeeking ? UNSEEN : this.look()
  }

  /** A proxy of the session, or an object that inherits from it, may be assigned: it gets the session's methods. */
  set session(value: unknown) {
    this.settle()
    standsFor(value, this.#session)
    this.#settings.hints?.replaced(value)
    this.#session = value
  }

  get id(): unknown {
    if (this.#pending === 'new') this.look()
    return this.#id
  }

  set id(value: unknown) {
    this.settle()
    this.#id = value
  }

  /** What the request has for its session, or `UNSEEN`: does not make the session. */
  peek(): unknown {
    this.#isPeeking = true
    const session = this.#req[this.#settings.property]
    this.#isPeeking = false
    return session
  }

  /** Makes the session, which nobody has looked at yet. */
  look(): LiveSession {
    const pending = this.#pending as Pending
    this.#pending = undefined
    const session = this.#make(pending)
    if (pending === 'new') this.#id = session.id
    return this.#keep(session)
  }

  /** Makes the session if it is still to be made. */
  settle(): void {
    if (this.#pending) this.look()
  }

  #keep(session: LiveSession): LiveSession {
    this.#session = session
    this.last = session
    return session
  }

  /** The session is gone from the request. */
  clear(): void {
    this.#pending = undefined
    this.#session = undefined
    Reflect.deleteProperty(this.#req, this.#settings.property)
  }
}
