import type session from '../../src'
import type { Data } from './backend'
import type { Action } from './scenario'
import type { Exchange } from './wire'

/** What a handler did and was told to have succeeded, or what it tried: later checks go by these. */
export interface Fact {
  readonly actor: string
  readonly what: 'destroyed' | 'moved' | 'renewed' | 'loggedIn' | 'ended' | 'updated' | 'added' | 'took' | 'empty'
  /** The marks of the sessions concerned; before that, the key or the message. */
  readonly of: readonly string[]
  /** In ms of the simulation. */
  readonly at: number
}

export interface Handling {
  readonly actor: string
  readonly exchange: Exchange
  readonly sessions: session.Sessions
  /** What was looked at so far, by key: it goes into what is written, as the decisions of a real handler do. */
  readonly looks: Map<string, string>
  /** Which action it is, from 1. */
  place: number
  fact(what: Fact['what'], ...of: unknown[]): void
  /** Waits until the scheduler lets it go on. */
  pause(): Promise<void>
  /** The marks of the live sessions of a user. */
  marksOf(user: string): string[]
}

export type AnySession = session.Session & Data

/** Each session has a mark, by which it is known again. One that was made anew gets it with the first change. */
export function markOf(session: AnySession | undefined): string | undefined {
  return session?.['mark'] as string | undefined
}

/** Stands for all keys. */
const ALL = '*'

/** What a look at a key shows. */
function valueAt(handling: Handling, key: string): string {
  const live = sessionOf(handling)
  if (key !== ALL) return JSON.stringify(live?.[key]) ?? '-'
  const { cookie: _cookie, ...data } = (live ?? {}) as Data
  return JSON.stringify(data)
}

function look(handling: Handling, key: string): void {
  handling.looks.set(key, valueAt(handling, key))
}

/** A value that tells who wrote it, and after which looks. */
function newValue({ actor, place, looks }: Handling): string {
  return `${actor}${place}${looks.size > 0 ? `<${[...looks.values()].join()}` : ''}`
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

/** Notes whether it is not the session that all began with. */
function noteEmpty(handling: Handling): void {
  if (markOf(sessionOf(handling)) === undefined) handling.fact('empty')
}

function sessionOf({ exchange }: Handling): AnySession | undefined {
  return (exchange.req as unknown as { session?: AnySession }).session
}

type Work = (handling: Handling, argument: string) => unknown

/** What handlers do. Arguments are keys, users or messages. */
export const ACTIONS: Readonly<Record<string, Work>> = {
  look,
  all: (handling) => look(handling, ALL),
  set: (handling, key) => void (changing(handling)[key] = newValue(handling)),
  put(handling, given) {
    const space = given.indexOf(' ')
    changing(handling)[given.slice(0, space)] = JSON.parse(given.slice(space))
  },
  inside(handling, key) {
    const live = changing(handling)
    look(handling, key)
    live[key] ??= {}
    live[key][handling.actor] = handling.actor + handling.place
  },
  delete(handling, key) {
    Reflect.deleteProperty(changing(handling), key)
  },
  touch: (handling) => void sessionOf(handling)?.touch(),
  remember: (handling) => void (changing(handling).cookie.maxAge = 7_200_000),
  save: (handling) => sessionOf(handling)?.save(),
  reload(handling) {
    handling.looks.clear()
    return sessionOf(handling)?.reload()
  },
  get: ({ exchange, sessions }) => sessions.get((exchange.req as unknown as { sessionID: string }).sessionID),
  wait: (handling) => handling.pause(),
  async update(handling, key) {
    noteEmpty(handling)
    await handling.sessions.update(handling.exchange.req, (live) => {
      ;(live as AnySession)[key] = (((live as AnySession)[key] as number | undefined) ?? 0) + 1
    })
    handling.fact('updated', key, markOf(sessionOf(handling)))
  },
  async renew(handling) {
    noteEmpty(handling)
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
    noteEmpty(handling)
    await handling.sessions.flash(handling.exchange.req).add('note', message)
    handling.fact('added', message, markOf(sessionOf(handling)))
  },
  async take(handling) {
    handling.fact('took', ...(await handling.sessions.flash(handling.exchange.req).take('note')))
  },
  stream: ({ exchange }) => void exchange.res.write('beginning '),
  end: ({ exchange }) => void exchange.end(),
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

/** What takes effect by itself, on the newest state of the session. */
const ALONE = ['update', 'add', 'take']
/** After these the store has what was done. */
const STORES = ['save', 'renew', 'stream']
/** After these the request may have another session. */
const MOVES = ['regenerate', 'destroy']

/**
 * The parts of a program, as indices of actions: what takes effect at once, so that other requests may come between them. A
 * part ends where the store has it; what `reload` throws away is in none.
 */
export function partsOf(program: readonly Action[]): number[][] {
  const parts: number[][] = []
  let open: number[] = []
  let hasMoved = false
  for (const [i, { name }] of program.entries()) {
    hasMoved ||= MOVES.includes(name)
    if (ALONE.includes(name) && !hasMoved) parts.push([i])
    else if (name === 'reload') open = [i]
    else {
      open.push(i)
      if (STORES.includes(name) && !hasMoved) parts.push(open.splice(0))
    }
  }
  return [...parts, open]
}

/** How a program is done in a serial order: only some of its parts, each when it is its turn. */
export interface Serially {
  readonly parts: readonly number[]
  turn(): Promise<void>
}

/** What a part was built on has changed before it: no order of the requests has this part here. */
export const outdated = new Error('another request has changed what this one had looked at')

/** Does the actions of a program one after the other. */
export async function handle(handling: Handling, program: readonly Action[], serially?: Serially): Promise<void> {
  if (!serially) for (const i of program.keys()) await act(handling, program, i)
  else await handleInParts(handling, program, serially)
  if (!handling.exchange.hasEnded) handling.exchange.end()
}

async function handleInParts(handling: Handling, program: readonly Action[], { parts, turn }: Serially): Promise<void> {
  const all = partsOf(program)
  for (const [n, part] of parts.entries()) {
    const actions = all[part] as number[]
    if (n > 0) await turn()
    const [first] = actions.map((i) => (program[i] as Action).name)
    if (n > 0 && !ALONE.includes(first ?? '')) await beginAnew(handling)
    for (const i of actions) await act(handling, program, i)
    for (const key of handling.looks.keys()) handling.looks.set(key, valueAt(handling, key))
  }
}

async function beginAnew(handling: Handling): Promise<void> {
  // One that was made in this request is not loaded.
  if (markOf(sessionOf(handling)) !== undefined) await sessionOf(handling)?.reload()
  for (const [key, value] of handling.looks) if (valueAt(handling, key) !== value) throw outdated
}

async function act(handling: Handling, program: readonly Action[], i: number): Promise<void> {
  const { name, argument, isLoose } = program[i] as Action
  handling.place = i + 1
  const work = (isLoose ? LOOSE : ACTIONS)[name]
  if (!work) throw new Error(`no action ${name}`)
  const done: unknown = work(handling, argument)
  if (done instanceof Promise) await done
}
