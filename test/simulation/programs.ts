import type session from '../../src'
import type { Data } from './backend'
import type { Action } from './scenario'
import type { Exchange } from './wire'

/** What a handler did and was told to have succeeded, or what it tried: later checks go by these. */
export interface Fact {
  readonly actor: string
  readonly what: 'destroyed' | 'moved' | 'renewed' | 'loggedIn' | 'ended' | 'updated' | 'added' | 'took' | 'empty'
  /** The marks of the sessions concerned, or the messages. */
  readonly of: readonly string[]
}

export interface Handling {
  readonly actor: string
  readonly exchange: Exchange
  readonly sessions: session.Sessions
  /** What was looked at so far: it goes into what is written, as the decisions of a real handler do. */
  readonly seen: string[]
  /** Which action it is, from 1. */
  place: number
  fact(what: Fact['what'], ...of: unknown[]): void
  /** Waits until the scheduler lets it go on. */
  pause(why: string): Promise<void>
  /** Called before what begins with the newest state of the session, while nothing of an older one is kept. */
  beginAnew?(): Promise<void>
  /** The marks of the live sessions of a user. */
  marksOf(user: string): string[]
}

export type AnySession = session.Session & Data

/** Each session has a mark, by which it is known again. One that was made anew gets it with the first change. */
export function markOf(session: AnySession | undefined): string | undefined {
  return session?.['mark'] as string | undefined
}

function valueOf({ actor, place, seen }: Handling): string {
  return `${actor}${place}${seen.length > 0 ? `<${seen.join()}` : ''}`
}

/** The session of the request, about to be changed. */
function changing(handling: Handling): AnySession {
  const live = sessionOf(handling)
  if (!live) throw new Error('this handler has no session any more')
  if (markOf(live) === undefined) {
    handling.fact('empty')
    live['mark'] = `${handling.actor}${handling.place}`
  }
  return live
}

function sessionOf({ exchange }: Handling): AnySession | undefined {
  return (exchange.req as unknown as { session?: AnySession }).session
}

type Work = (handling: Handling, argument: string) => unknown

/** What handlers do. Arguments are keys, users or messages. */
export const ACTIONS: Readonly<Record<string, Work>> = {
  look(handling, key) {
    handling.seen.push(JSON.stringify(sessionOf(handling)?.[key]) ?? '-')
  },
  all(handling) {
    const { cookie: _cookie, ...data } = (sessionOf(handling) ?? {}) as Data
    handling.seen.push(JSON.stringify(data))
  },
  set(handling, key) {
    changing(handling)[key] = valueOf(handling)
  },
  put(handling, given) {
    const space = given.indexOf(' ')
    changing(handling)[given.slice(0, space)] = JSON.parse(given.slice(space))
  },
  inside(handling, key) {
    const live = changing(handling)
    live[key] ??= {}
    live[key][handling.actor] = valueOf(handling)
  },
  delete(handling, key) {
    Reflect.deleteProperty(changing(handling), key)
  },
  touch: (handling) => void sessionOf(handling)?.touch(),
  remember: (handling) => void (changing(handling).cookie.maxAge = 7_200_000),
  save: (handling) => sessionOf(handling)?.save(),
  reload: (handling) => sessionOf(handling)?.reload(),
  wait: (handling) => handling.pause('go on'),
  async update(handling, key) {
    await handling.sessions.update(handling.exchange.req, (live) => {
      ;(live as AnySession)[key] = (((live as AnySession)[key] as number | undefined) ?? 0) + 1
    })
    handling.fact('updated', key)
  },
  async renew(handling) {
    const mark = markOf(sessionOf(handling))
    await handling.sessions.renew(handling.exchange.req)
    handling.fact('renewed', mark)
  },
  async regenerate(handling) {
    const mark = markOf(sessionOf(handling))
    await sessionOf(handling)?.regenerate()
    handling.fact('destroyed', mark)
    const made = `${handling.actor}${handling.place}`
    ;(sessionOf(handling) as AnySession)['mark'] = made
    handling.fact('moved', made)
  },
  async destroy(handling) {
    const mark = markOf(sessionOf(handling))
    await sessionOf(handling)?.destroy()
    handling.fact('destroyed', mark)
  },
  login(handling, user) {
    const live = changing(handling)
    live['user'] = user
    live['role'] = `role of ${user}`
    handling.fact('loggedIn', user)
  },
  async endAll(handling, user) {
    const marks = handling.marksOf(user)
    await handling.sessions.users.endAll(user)
    handling.fact('ended', ...marks.map((mark) => `${mark} ${user}`))
  },
  async endOthers(handling) {
    const live = sessionOf(handling)
    const user = String(live?.['user'])
    const marks = handling.marksOf(user).filter((mark) => mark !== markOf(live))
    await handling.sessions.users.endOthers(handling.exchange.req)
    handling.fact('ended', ...marks.map((mark) => `${mark} ${user}`))
  },
  async add(handling, message) {
    await handling.sessions.flash(handling.exchange.req).add('note', message)
    handling.fact('added', message)
  },
  async take(handling) {
    handling.fact('took', ...(await handling.sessions.flash(handling.exchange.req).take('note')))
  },
  stream: ({ exchange }) => void exchange.res.write('beginning '),
  end: ({ exchange }) => void exchange.res.end('end'),
  gone: ({ exchange }) => exchange.cut(),
}

/** What handlers may begin and not wait for: the library's promise is left alone. */
const LOOSE: Readonly<Record<string, Work>> = {
  save: (handling) => void sessionOf(handling)?.save(),
  reload: (handling) => void sessionOf(handling)?.reload(),
  destroy: (handling) => void sessionOf(handling)?.destroy(),
  regenerate: (handling) => void sessionOf(handling)?.regenerate(),
  renew: ({ exchange, sessions }) => void sessions.renew(exchange.req),
  add: ({ exchange, sessions }, message) => void sessions.flash(exchange.req).add('note', message),
  update: ({ exchange, sessions }) =>
    void sessions.update(exchange.req, (live) => void ((live as AnySession)['c'] = 1)),
}

/** What loads the newest state of the session before it does anything. */
const BEGINS_ANEW = ['reload', 'update', 'add', 'take']
/** What keeps nothing of the session in the request. */
const KEEPS_NOTHING = [...BEGINS_ANEW, 'wait', 'touch']

/** Which actions begin anew, so that what others do may come right before them. `undefined` when that cannot be told. */
export function beginningsOf(program: readonly Action[]): number[] | undefined {
  const beginnings: number[] = []
  let isClean = true
  for (const [i, { name }] of program.entries()) {
    if (name === 'reload') isClean = true
    if (BEGINS_ANEW.includes(name)) {
      if (!isClean) return undefined
      if (i > 0) beginnings.push(i)
    } else if (!KEEPS_NOTHING.includes(name)) isClean = false
  }
  return beginnings
}

/** Does the actions of a program one after the other. */
export async function handle(handling: Handling, program: readonly Action[]): Promise<void> {
  const beginnings = handling.beginAnew && beginningsOf(program)
  for (const [i, { name, argument, isLoose }] of program.entries()) {
    handling.place++
    if (beginnings?.includes(i)) await handling.beginAnew?.()
    const work = (isLoose ? LOOSE : ACTIONS)[name]
    if (!work) throw new Error(`no action ${name}`)
    const done: unknown = work(handling, argument)
    if (done instanceof Promise) await done
  }
  if (!handling.exchange.res.writableEnded) handling.exchange.res.end('end')
}
