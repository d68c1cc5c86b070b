import type { Combination, Outcome } from '../support/differential'

/** Where sessile is not to do what express-session 1.19 does. The test fails when one of these changes nothing anywhere. */
export interface IntendedDifference {
  readonly name: string
  readonly reason: string
  readonly applies: (combination: Combination) => boolean
  /** What sessile does, made of what express-session did. */
  readonly expected: (outcome: Outcome, combination: Combination) => Outcome
}

const COOKIE_AS_SET: { [handler in Combination['handler']]?: string } = {
  'sets cookie.maxAge': 'Path=/; Expires=in 180 s; HttpOnly',
  'sets cookie.expires to null': 'Path=/; HttpOnly',
  'sets cookie.sameSite and writes': 'Path=/; HttpOnly; SameSite=Lax',
}

const EXPIRY_AS_SET: { [handler in Combination['handler']]?: object } = {
  'sets cookie.maxAge': { originalMaxAge: 180_000, expires: 'in 180 s' },
  'sets cookie.expires to null': { originalMaxAge: null, expires: null },
}

/** The store with synchronous callbacks does not look at the expiry, so that there an expired session lives on. */
function loadsSession({ request, store }: Combination): boolean {
  return request === 'valid' || (request === 'expired' && store === 'synchronous')
}

function loadedId({ request }: Combination): string {
  return `${request}-id`
}

export const intendedDifferences: IntendedDifference[] = [
  {
    name: 'the body has a Content-Length',
    reason:
      'express-session splits the response in two to hold its end, and so has to send what `res.end(body)` alone would ' +
      'give a Content-Length in chunks. sessile leaves the response whole.',
    applies: ({ answer }) => answer === 'end',
    expected: (outcome) => ({
      ...outcome,
      headers: outcome.headers
        .map(([name, value]): [string, string] =>
          name === 'transfer-encoding' ? ['content-length', String(Buffer.byteLength(outcome.body))] : [name, value],
        )
        .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)),
    }),
  },
  {
    name: 'changed cookie settings are sent and saved',
    reason:
      'A handler that changes only `req.session.cookie` (a "remember me" that sets `maxAge`) means the browser to have ' +
      'the new settings. express-session sends no cookie then, and a store without `touch` never hears of it.',
    applies: (combination) =>
      loadsSession(combination) &&
      COOKIE_AS_SET[combination.handler] !== undefined &&
      !(
        combination.handler === 'sets cookie.expires to null' &&
        combination.cookie === 'without maxAge' &&
        combination.request === 'valid'
      ),
    expected(outcome, { handler, ...rest }) {
      const id = loadedId({ handler, ...rest })
      const cookie = ['set-cookie', `connect.sid=s%3A${id}.signature; ${COOKIE_AS_SET[handler]}`] as [string, string]
      const { headers, events, records } = outcome
      const record = records[id] as { cookie: object }
      return {
        ...outcome,
        headers: headers.some(([name]) => name === 'set-cookie')
          ? headers
          : [...headers, cookie].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)),
        events:
          rest.store === 'memory' || events.includes(`set ${id}`)
            ? events
            : [...events.filter((event) => event !== 'finish' && event !== `touch ${id}`), `set ${id}`, 'finish'],
        records: { ...records, [id]: { ...record, cookie: { ...record.cookie, ...EXPIRY_AS_SET[handler] } } },
      }
    },
  },
  {
    name: 'a session is not written twice after regenerate and save',
    reason:
      'What was just saved by hand is in the store. express-session forgets that for a session made by `regenerate` ' +
      'and writes it again at the end, so that a login with Passport costs two writes.',
    applies: ({ handler, store }) => handler === 'regenerates, writes and saves' && store !== 'memory',
    expected: (outcome) => ({
      ...outcome,
      events: outcome.events.filter((event, i, events) => !(event.startsWith('set ') && events[i - 1] === 'saved')),
    }),
  },
  {
    name: 'a reloaded session counts as unchanged',
    reason:
      'After `reload` the session is what the store holds. express-session still compares it with what was loaded at ' +
      'the beginning, and writes and sends again what another request has changed.',
    applies: (combination) => combination.handler === 'reloads what another request wrote' && loadsSession(combination),
    expected(outcome, combination) {
      const { resave, rolling, cookie, store } = combination
      const id = loadedId(combination)
      const { headers, events, records } = outcome
      const lastSet = events.lastIndexOf(`set ${id}`)
      const touchless = store === 'touch-less'
      const record = records[id] as { cookie: object }
      return {
        ...outcome,
        headers: rolling ? headers : headers.filter(([name]) => name !== 'set-cookie'),
        events: resave
          ? events
          : events.flatMap((event, i) => (i !== lastSet ? event : touchless ? [] : `touch ${id}`)),
        records:
          touchless && cookie === 'with maxAge' && !resave
            ? { ...records, [id]: { ...record, cookie: { ...record.cookie, expires: 'in 30 s' } } }
            : records,
      }
    },
  },
  {
    name: 'the changes of two requests are both kept',
    reason:
      'Two requests of one session at the same time: express-session lets the later save wipe out what the other one ' +
      'wrote. On a record store, such as the MemoryStore, sessile merges them.',
    applies: ({ handler, request, store }) =>
      handler === 'writes while another request writes' && request === 'valid' && store === 'memory',
    expected: (outcome) => ({
      ...outcome,
      records: { ...outcome.records, 'valid-id': { ...(outcome.records['valid-id'] as object), theirs: true } },
      next: { ...outcome.next, body: outcome.next.body.replace('"mine":true', '"mine":true,"theirs":true') },
    }),
  },
  {
    name: 'a destroyed session stays destroyed',
    reason:
      'A request that is still running when another one logs out must not log in again. express-session writes the ' +
      'session anew; a record store tells sessile that it is gone.',
    applies: ({ handler, request, store }) =>
      handler === 'writes while another request destroys' && request === 'valid' && store === 'memory',
    expected: (outcome, { saveUninitialized }) => {
      const { 'valid-id': _, ...records } = outcome.records
      return {
        ...outcome,
        // Its cookie could replace that of a new login by now.
        headers: outcome.headers.filter(([name]) => name !== 'set-cookie'),
        records,
        next: { ...outcome.next, setCookie: saveUninitialized, body: 'new-1 {"cookie":0}' },
      }
    },
  },
  {
    name: 'a destroyed session is destroyed once',
    reason:
      "With `unset: 'destroy'`, express-session destroys a session at the end that the handler has destroyed already; a store " +
      'that counts its sessions counts wrong then.',
    applies: ({ handler, unset }) => handler === 'destroys' && unset === 'destroy',
    expected: (outcome) => ({
      ...outcome,
      events: outcome.events.filter((event, at, all) => !event.startsWith('destroy ') || all.indexOf(event) === at),
    }),
  },
]
