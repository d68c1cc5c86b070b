import session from '../../src'
import { Backend, openGate, storeOver, type Data, type Gate, type Kind } from './backend'
import { clock } from './clock'
import type { AnySession } from './programs'
import type { Client, Options, Scenario } from './scenario'
import { Exchange } from './wire'

/** How long, in ms, a store may take: what never answers fails after this. */
const TIMEOUT = 5000

/** A middleware of its own, as a process has one, with its connection to what is stored. */
export interface Host {
  readonly sessions: session.Sessions
  readonly store: { backend: Backend; gate: Gate }
  /** Told of the store's errors that no request could be told. */
  onError: (error: unknown) => void
}

export function hostOver({ options = {}, store: kind = 'record' }: Scenario, backend: Backend, gate = openGate): Host {
  const store = storeOver(kind, backend, gate)
  const sessions = session({
    secret: 'simulated simulated simulated simulated',
    resave: false,
    saveUninitialized: false,
    hints: false,
    timeout: TIMEOUT,
    ...options,
    ...(options.user && { user: (live: AnySession) => live['user'] as string }),
    store,
  } as session.SessionOptions)
  const host: Host = { sessions, store, onError: () => undefined }
  sessions.events.on('storeError', ({ error }) => host.onError(error))
  return host
}

/** Whether the library knows these options. */
export function isPossible(scenario: Scenario): boolean {
  try {
    hostOver(scenario, new Backend())
    return true
  } catch (error) {
    // Older ones have no code for it.
    if (error instanceof TypeError && / option /.test(error.message)) return false
    throw error
  }
}

/** Making a middleware takes as long as some requests: those that are done with are used again. */
const idle = new Map<string, Host[]>()

function idleOf({ options = {} }: Scenario): Host[] {
  const name = JSON.stringify(options)
  let hosts = idle.get(name)
  if (!hosts) idle.set(name, (hosts = []))
  return hosts
}

export function takeHost(scenario: Scenario, backend: Backend, gate: Gate = openGate): Host {
  const host = idleOf(scenario).pop()
  return host
    ? Object.assign(host, { store: Object.assign(host.store, { backend, gate }) })
    : hostOver(scenario, backend, gate)
}

/** Only one that does nothing any more. What a process knows of a classic store would be of an earlier simulation. */
export function giveBack(scenario: Scenario, host: Host): void {
  if (scenario.store !== 'classic') idleOf(scenario).push(host)
}

/** Sends a request that nothing interferes with. */
export async function visit(
  sessions: session.Sessions,
  cookie: string | undefined,
  handler: (req: Exchange['req'], live: AnySession) => unknown,
): Promise<{ setCookie: string | undefined; failure: unknown }> {
  const exchange = new Exchange(cookie)
  const { req, res } = exchange
  let failure: unknown
  sessions(req as never, res as never, (error?: unknown) => {
    if (error) failure = error
    if (res.writableEnded) return
    const done = error ? undefined : handler(req, (req as unknown as { session: AnySession }).session)
    if (!(done instanceof Promise)) return void res.end()
    done.then(
      () => res.end(),
      (thrown: unknown) => {
        failure = thrown
        res.end()
      },
    )
  })
  for (let turns = 0; !exchange.isOver && turns < 10; turns++) await clock.calm()
  return { setCookie: exchange.setCookie, failure }
}

export interface Before {
  readonly backend: Backend
  readonly jars: Record<Client, string | undefined>
}

const known = new Map<string, Before>()

/** What is there before: made once for all simulations that begin in the same way. */
export async function setUp({ options = {}, store = 'record', setup = 'visitor' }: Scenario): Promise<Before> {
  const name = JSON.stringify([options, store, setup])
  const before = known.get(name) ?? (await make(options, store, setup))
  known.set(name, before)
  return before
}

async function make(options: Options, store: Kind, setup: string): Promise<Before> {
  clock.reset(-1)
  const backend = new Backend()
  const { hashIds: _hashIds, ...others } = options
  const { sessions } = hostOver({ options: setup === 'plain' ? others : options, store, requests: {} }, backend)
  const made = async (data: Data): Promise<string | undefined> => {
    const { setCookie } = await visit(sessions, undefined, (req, live) => {
      Object.assign(live, data)
      return setup === 'flash' && data['mark'] === 'S0' ? sessions.flash(req).add('note', 'm0') : undefined
    })
    return setCookie
  }
  const ada = { user: 'ada', role: 'role of ada' }
  const data = { mark: 'S0', a: 'a0', b: 'b0', o: { x: 0, y: 0 }, n: 0, ...(setup === 'ada' && ada) }
  const browser = await made(data)
  const phone = options.user && (await made({ mark: 'S1', ...ada }))
  return { backend, jars: { browser, attacker: browser, phone, stranger: undefined } }
}
