import cluster from 'node:cluster'
import type { ResolvedOptions } from '../../options/resolve'
import type { RecordStore, Serializer } from '../../store/record-store'
import { shortened } from '../../base/errors'
import type { SessionNotes } from '../../session/notes'
import { cookieOf } from '../../session/noted'
import { Session } from '../../session/session'
import { serializeData } from '../../session/text'
import { hint } from './hint'
import { hintsOfLifetimes } from './lifetimes'
import { whatChanges } from './values'

const WATCHED_REQUESTS = 200
const WATCHED_VALUES = 50
const MISSED_PATHS = 20
const UNRETURNED_COOKIES = 20
/** In characters of JSON text. */
const LARGE_SESSION = 64 * 1024
/** How long after the end of a response, in ms, its session or its answer is looked at again. */
const LATE = 500

/** What hints need of the options. */
type Watched = Pick<ResolvedOptions, 'name' | 'secrets' | 'signName' | 'cookie'> &
  Partial<Pick<ResolvedOptions, 'idleTimeout' | 'absoluteTimeout' | 'renewalTimeout'>>

/**
 * The hints that the option `hints` asks for: all, none (`undefined`), or if it is not given, all while an application is
 * developed and in production the one of what no browser of a developer shows.
 */
export function hintsBy(option: boolean | undefined): Hints | undefined {
  if (option === false) return undefined
  return new Hints(option ?? process.env['NODE_ENV'] !== 'production')
}

/** Notices common mistakes, and warns once of each. Where watching costs something, only the first requests are watched. */
export class Hints {
  readonly #all: boolean
  #matched = false
  #missed = 0
  #returned = false
  #given = 0
  #watched = 0
  #watchedValues = 0
  readonly #handedAs = new WeakMap<Session, string>()

  constructor(all = true) {
    this.#all = all
  }

  /** Looks at a middleware that was made just now: its times, and whether its store serves another one. */
  made(options: Watched, store: object): void {
    if (!this.#all) return
    hintsOfLifetimes(options, (store as Partial<RecordStore>).ttl)
    const others = middlewaresOf.get(store) ?? []
    if (others.length === 0) middlewaresOf.set(store, others)
    const other = others.find(({ name }) => name !== options.name)
    if (other && !(options.signName && other.signName) && signsAlike(options, other)) {
      hint(
        'one-store-for-two',
        `two session middlewares, ${other.name} and ${options.name}, share a store and a secret: the cookie of one is ` +
          'good for the other. Give each a secret or a prefix of its own, or set signName on both',
      )
    }
    if (!others.some(({ name }) => name === options.name) && others.length < MOST_NAMES) others.push(options)
  }

  /** The memory store is not shared between the workers of a cluster. */
  memoryStore(): void {
    if (!this.#all || !cluster.isWorker) return
    hint(
      'memory-store-with-workers',
      'each worker of a cluster has a MemoryStore of its own: users seem logged out at random',
    )
  }

  pathMissed(path: string, url: string | undefined): void {
    if (!this.#all || this.#matched || ++this.#missed !== MISSED_PATHS) return
    hint(
      'cookie-path',
      `no request so far was below the cookie path ${path}, the last one was ${pathOf(url)}: they get no req.session`,
    )
  }

  pathMatched(): void {
    this.#matched = true
  }

  secondMiddleware(name: string): void {
    if (!this.#all) return
    hint(
      'two-middlewares',
      `two session middlewares use one cookie, ${name}: each overwrites the other's. Set option name`,
    )
  }

  /** A Secure cookie was not set. Behind a proxy that is told in production, too: it happens nowhere else. */
  insecure(forwarded: boolean): void {
    if (!this.#all && !forwarded) return
    hint(
      'secure-cookie',
      'a session cookie with secure: true was not set, as the connection is not secure' +
        (forwarded ? ": a proxy says it is, but is not trusted. Set app.set('trust proxy', 1)" : ''),
    )
  }

  cookieReturned(): void {
    this.#returned = true
  }

  cookieGiven(): void {
    if (!this.#all || this.#returned || ++this.#given !== UNRETURNED_COOKIES) return
    hint(
      'cookie-never-returns',
      `${UNRETURNED_COOKIES} session cookies were set, and none has come back: every request has a new session. ` +
        'See cookie.sameSite, cookie.domain, cookie.secure, and credentials in fetch',
    )
  }

  stored(text: string, id: string): void {
    if (!this.#all || text.length < LARGE_SESSION) return
    hint(
      'large-session',
      `session ${shortened(id)} has ${Math.round(text.length / 1024)} KB, read and written by its every request`,
    )
  }

  /** Looks for values that JSON changes in a session that is to be stored. A serializer of the application's may keep them. */
  storing(session: object, serializer: Serializer): void {
    if (!this.#all || serializer !== JSON || ++this.#watchedValues > WATCHED_VALUES) return
    const change = whatChanges(session)
    if (!change) return
    hint(
      'values-that-change',
      `${change.path} is ${change.what}, and the next request finds ${change.becomes} there. Store what JSON can hold, or ` +
        'give the store a serializer',
    )
  }

  /** A handler has put something in the place of `req.session`. */
  replaced(value: unknown): void {
    if (!this.#all || value === undefined || value === null || value instanceof Session) return
    hint(
      'replaced-session',
      'req.session was replaced by a value that is no session and cannot be stored. Change its properties: ' +
        'req.session.user = …, or begin anew by await req.session.regenerate()',
    )
  }

  /** The ID of a new session was read, and the session was not stored: nobody will ever present that ID. */
  idOfUnstored(url: string | undefined): void {
    if (!this.#all) return
    hint(
      'id-of-a-session-that-is-not-stored',
      `the ID of the session of ${pathOf(url)} was used, and the session is new and not stored: the next request has ` +
        'another ID. Put something into req.session to keep it',
    )
  }

  /** A handler has assigned an ID to `req.sessionID`, which leaves the session where it is. */
  idReplaced(): void {
    if (!this.#all) return
    hint(
      'assigned-session-id',
      'req.sessionID was assigned: the session stays under its own ID, and the client may be given one that leads to no ' +
        'session. For a new ID await sessions.renew(req) or req.session.regenerate(); to choose IDs yourself, see option genid',
    )
  }

  /** The function given to `update` has returned: a copy of the session, as reducers make it, changes nothing. */
  updated(session: Session, returned: unknown): void {
    if (!this.#all || returned === session || typeof returned !== 'object' || returned === null) return
    if ((returned as Partial<Session>).cookie !== cookieOf(session)) return
    hint(
      'a-copy-that-is-returned',
      'the function given to sessions.update has returned a copy of the session, which changes nothing. Change the session ' +
        'that it is given: session.count++',
    )
  }

  /** With the option `user`: looks for a login in a session whose client holds what it held before. */
  storedAgain(before: SessionNotes | undefined, now: SessionNotes | undefined): void {
    if (!this.#all || now?.user === undefined || now.user === before?.user || now.token !== before?.token) return
    hint(
      'login-without-a-new-id',
      'a user has logged in, and the session kept its ID, which somebody may have planted: ' +
        'await sessions.renew(req) after you set the user, or await req.session.regenerate() before',
    )
  }

  /** Counts a request, and says whether its session is to be looked at again after its response. */
  watchesNext(): boolean {
    return this.#all && ++this.#watched <= WATCHED_REQUESTS
  }

  /** A classic store was handed a session, and may have put something of its own on it. */
  handed(session: Session, serializer: Serializer): void {
    if (this.#all && this.#watched <= WATCHED_REQUESTS) this.#handedAs.set(session, serializeData(session, serializer))
  }

  /** Whether the session is as a classic store was handed it last. */
  isAsHanded(session: Session, text: string): boolean {
    return this.#handedAs.get(session) === text
  }

  /** Checks a while after the end of a response whether the session was changed too late to be stored. */
  ended(isChanged: () => boolean, url: string | undefined): void {
    setTimeout(() => {
      if (isChanged()) {
        hint(
          'changed-after-the-end',
          `req.session was changed after the response to ${pathOf(url)} had ended; that is not stored`,
        )
      }
    }, LATE).unref()
  }

  /** Checks a while after an error was passed to `next` whether somebody has answered the request. */
  failed(isAnswered: () => boolean, url: string | undefined): void {
    if (!this.#all) return
    setTimeout(() => {
      if (!isAnswered()) {
        hint(
          'unanswered-error',
          `the session of ${pathOf(url)} could not be stored, next(error) was called, and nobody has answered the request`,
        )
      }
    }, LATE).unref()
  }
}

/** The middlewares of a store, one for each name: those made per request or per test have few. */
const middlewaresOf = new WeakMap<object, Watched[]>()
const MOST_NAMES = 8

function signsAlike({ secrets = [] }: Watched, other: Watched): boolean {
  return secrets.some((secret) => other.secrets?.includes(secret))
}

/** A query may have what no log should. */
function pathOf(url: string | undefined): string | undefined {
  return url?.split('?', 1)[0]
}
