import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { shortened, warnOnce } from '../../base/errors'

/** The page that has a heading for each hint. It is published with the library, so its text fits this version. */
const PAGE = pathToFileURL(join(__dirname, '../../../docs/troubleshooting.md'))

const WATCHED_REQUESTS = 200
const MISSED_PATHS = 20
const UNRETURNED_COOKIES = 20
/** In characters of JSON text. */
const LARGE_SESSION = 64 * 1024
/** How long after the end of a response, in ms, its session or its answer is looked at again. */
const LATE = 500

/**
 * Notices common mistakes while an application is developed, and warns once of each. Where watching costs something, only
 * the first requests are watched. The option `hints` switches them on or off; by default they are off in production.
 */
export class Hints {
  #matched = false
  #missed = 0
  #returned = false
  #given = 0
  #watched = 0

  /** The memory store is not shared between the workers of a cluster, which Node marks by this variable. */
  memoryStore(): void {
    if (process.env['NODE_UNIQUE_ID'] === undefined) return
    hint(
      'memory-store-with-workers',
      'each worker of a cluster has a MemoryStore of its own: users seem logged out at random',
    )
  }

  pathMissed(path: string, url: string | undefined): void {
    if (this.#matched || ++this.#missed !== MISSED_PATHS) return
    hint(
      'cookie-path',
      `no request so far was below the cookie path ${path}, the last one was ${url}: they get no req.session`,
    )
  }

  pathMatched(): void {
    this.#matched = true
  }

  secondMiddleware(name: string): void {
    hint(
      'two-middlewares',
      `two session middlewares use one cookie, ${name}: each overwrites the other's. Set option name`,
    )
  }

  insecure(forwarded: boolean): void {
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
    if (this.#returned || ++this.#given !== UNRETURNED_COOKIES) return
    hint(
      'cookie-never-returns',
      `${UNRETURNED_COOKIES} session cookies were set, and none has come back: every request has a new session. ` +
        'See cookie.sameSite, cookie.domain, cookie.secure, and credentials in fetch',
    )
  }

  stored(text: string, id: string): void {
    if (text.length < LARGE_SESSION) return
    hint(
      'large-session',
      `session ${shortened(id)} has ${Math.round(text.length / 1024)} KB, read and written by its every request`,
    )
  }

  /** Counts a request, and says whether its session is to be looked at again after its response. */
  watchesNext(): boolean {
    return ++this.#watched <= WATCHED_REQUESTS
  }

  /** Checks a while after the end of a response whether the session was changed too late to be stored. */
  ended(isChanged: () => boolean, url: string | undefined): void {
    setTimeout(() => {
      if (isChanged()) {
        hint(
          'changed-after-the-end',
          `req.session was changed after the response to ${url} had ended; that is not stored`,
        )
      }
    }, LATE).unref()
  }

  /** Checks a while after an error was passed to `next` whether somebody has answered the request. */
  failed(isAnswered: () => boolean, url: string | undefined): void {
    setTimeout(() => {
      if (!isAnswered()) {
        hint(
          'unanswered-error',
          `the session of ${url} could not be stored, next(error) was called, and nobody has answered the request`,
        )
      }
    }, LATE).unref()
  }
}

function hint(heading: string, message: string): void {
  warnOnce('SESSION_HINT', `${message} (${PAGE.href}#${heading})`, heading)
}
