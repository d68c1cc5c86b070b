import session from '../../src'
import { Backend, openGate, storeOver, type Data, type Gate } from './backend'
import { clock } from './clock'
import { handle, type AnySession, type Fact, type Handling } from './programs'
import {
  actionsOf,
  textOf,
  type Action,
  type Client,
  type Fault,
  type Options,
  type Plan,
  type Scenario,
} from './scenario'
import { Exchange } from './wire'

/** How long, in ms, a store may take: what never answers fails after this. */
const TIMEOUT = 5000
/** After this long, in ms, nothing is waited for any more. */
const LONG = 60_000

/** Something that a request waits for, until the scheduler lets it happen. */
export interface Waiting {
  readonly actor: string
  readonly kind: 'start' | 'call' | 'answer' | 'pause' | 'arrival' | 'beginning'
  readonly go: (fault?: Fault) => void
}

export interface Choice {
  readonly at: number
  readonly fault?: Fault | undefined
}

export interface Injected {
  readonly actor: string
  readonly fault: Fault
  readonly error?: Error
}

/** A cookie that has left, and what was stored at that moment, and when the store last did something for its request. */
export interface Given {
  readonly actor: string
  readonly cookie: string
  readonly at: number
  readonly backends: readonly Backend[]
}

/** One process: its middleware has a store of its own, over the backend that all share. */
class Process {
  isDead = false
  sessions!: session.Sessions
}

/** A request under way. */
export class Actor {
  exchange: Exchange | undefined
  presented: string | undefined
  process!: Process
  /** Whether the handler has come to its end, or will never be called. */
  isDone = false
  hasArrived = false

  constructor(
    readonly name: string,
    readonly plan: Plan,
    readonly program: readonly Action[],
  ) {}

  /** Whether its client still waits for it, and its process could answer. */
  get isWaitedFor(): boolean {
    return this.exchange !== undefined && !this.process.isDead && !(this.exchange.isOver && this.isDone)
  }
}

/** Where a scenario takes place: requests, processes, browsers, and what is stored. */
export class World {
  readonly backend: Backend
  readonly actors = new Map<string, Actor>()
  readonly jars: Record<Client, string | undefined>
  readonly waiting: Waiting[] = []
  readonly trace: string[] = []
  readonly facts: (Fact & { at: number })[] = []
  readonly injected: Injected[] = []
  readonly told: { actor: string; how: 'next' | 'promise' | 'event'; error: unknown }[] = []
  readonly given: Given[] = []
  readonly cookies = new Set<string>()
  /** Whether programs stop where a serial order may let others go first. */
  stopsAtBeginnings = false
  /** What was stored when the store last confirmed something to a request. */
  readonly #confirmed = new Map<string, Backend>()
  #isQuiet = false
  #running = ''
  readonly #processes = new Map<number, Process>()

  /** @param before what is there, by `setUp` */
  constructor(
    readonly scenario: Scenario,
    before: Before,
  ) {
    this.backend = before.backend.copy()
    this.jars = { ...before.jars }
    for (const cookie of Object.values(this.jars)) if (cookie) this.cookies.add(cookie)
    for (const [name, plan] of Object.entries(scenario.requests)) {
      this.actors.set(name, new Actor(name, plan, actionsOf(plan)))
      this.waiting.push({ actor: name, kind: 'start', go: () => this.#start(this.actors.get(name) as Actor) })
    }
  }

  /** Lets everything happen, in the order that is chosen; then as it comes, until all is quiet. */
  async run(choose: (waiting: readonly Waiting[]) => Choice | undefined): Promise<void> {
    for (let steps = 0; this.waiting.length > 0 && steps < 2000; steps++) {
      const choice = choose(this.waiting)
      if (!choice) break
      await this.step(choice)
    }
    await this.becomeQuiet()
  }

  async step({ at, fault }: Choice): Promise<void> {
    const [next] = this.waiting.splice(at, 1) as [Waiting]
    const place = this.waiting.slice(0, at).filter(({ actor }) => actor === next.actor).length
    const used = next.kind === 'call' ? fault : undefined
    this.trace.push(textOf({ actor: next.actor, place, fault: used }))
    clock.now++
    this.#running = next.actor
    next.go(used)
    await clock.calm()
  }

  /** Nothing goes wrong any more; what was lost is given up after its time. */
  async becomeQuiet(): Promise<void> {
    await this.#finishSteps()
    const mustWait = (): boolean => [...this.actors.values()].some((actor) => actor.isWaitedFor)
    if (mustWait() || this.injected.some(({ error }) => !error)) {
      const until = clock.now + LONG
      while (clock.moveOn(until)) {
        await clock.calm()
        await this.#finishSteps()
      }
    }
    this.#isQuiet = true
  }

  async #finishSteps(): Promise<void> {
    for (let steps = 0; this.waiting.length > 0 && steps < 2000; steps++) await this.step({ at: 0 })
  }

  #process(number: number): Process {
    let process = this.#processes.get(number)
    if (process && !process.isDead) return process
    process = new Process()
    this.#processes.set(number, process)
    process.sessions = middlewareOver(this.scenario, this.backend, this.#gateOf(process))
    process.sessions.events.on('storeError', ({ error }) => {
      this.told.push({ actor: this.#running, how: 'event', error })
    })
    return process
  }

  #gateOf(process: Process): Gate {
    return (method, deed) => {
      if (process.isDead) return new Promise(() => undefined)
      if (this.#isQuiet) return deed()
      const actor = this.#running
      return new Promise((resolve, reject) => {
        const fail = (fault: Fault): void => {
          const error = new Error(`injected ${this.injected.length + 1}`)
          this.injected.push({ actor, fault, error })
          reject(error)
        }
        const succeed = (): void => {
          const result = deed()
          const isOver = this.actors.get(actor)?.exchange?.res.writableEnded
          if (isOver || /write|renew|set|touch/.test(method)) this.#confirmed.set(actor, this.backend.copy())
          if (!this.scenario.split) return resolve(result)
          this.waiting.push({ actor, kind: 'answer', go: () => resolve(result) })
        }
        const go = (fault?: Fault): void => {
          if (!fault) return succeed()
          if (fault === 'after' || fault === 'lost' || fault === 'died') deed()
          if (fault === 'before' || fault === 'after') return fail(fault)
          this.injected.push({ actor, fault })
          if (fault === 'dead' || fault === 'died') this.#die(process)
        }
        this.waiting.push({ actor, kind: 'call', go })
      })
    }
  }

  #die(process: Process): void {
    process.isDead = true
    const survives = ({ actor, kind }: Waiting): boolean =>
      kind === 'start' || kind === 'arrival' || this.actors.get(actor)?.process !== process
    const left = this.waiting.filter(survives)
    this.waiting.splice(0, this.waiting.length, ...left)
  }

  #start(actor: Actor): void {
    const { name, plan } = actor
    actor.presented = this.jars[plan.from ?? 'browser']
    actor.process = this.#process(plan.in ?? 1)
    const { sessions } = actor.process
    const exchange = new Exchange(actor.presented, () => this.#headLeft(actor))
    actor.exchange = exchange
    const { req, res } = exchange
    let isEntered = false
    const tell = (how: 'next' | 'promise', error: unknown): void => {
      this.told.push({ actor: name, how, error })
      if (res.headersSent || res.writableEnded) return
      res.statusCode = 500
      res.end('error')
    }
    const next = (error?: unknown): void => {
      this.#running = name
      if (error !== undefined) tell('next', error)
      if (isEntered) return
      isEntered = true
      if (error !== undefined) return void (actor.isDone = true)
      const done = (): void => void (actor.isDone = true)
      handle(this.#handling(actor, exchange, sessions), actor.program).then(done, (thrown: unknown) => {
        done()
        tell('promise', thrown)
      })
    }
    sessions(req as never, res as never, next)
  }

  #handling({ name }: Actor, exchange: Exchange, sessions: session.Sessions): Handling {
    const pause = (kind: 'pause' | 'beginning') => (): Promise<void> =>
      new Promise((resolve) => this.waiting.push({ actor: name, kind, go: () => resolve() }))
    return {
      actor: name,
      exchange,
      sessions,
      seen: [],
      place: 0,
      fact: (what, ...of) => this.facts.push({ actor: name, what, of: of.map(String), at: clock.now }),
      pause: pause('pause'),
      ...(this.stopsAtBeginnings && { beginAnew: pause('beginning') }),
      marksOf: (user) => marksOf(this.backend, user),
    }
  }

  #headLeft(actor: Actor): void {
    const { exchange, name, plan } = actor
    const cookie = exchange?.setCookie
    if (cookie) {
      const confirmed = this.#confirmed.get(name)
      const backends = [this.backend.copy(), ...(confirmed ? [confirmed] : [])]
      this.given.push({ actor: name, cookie, at: clock.now, backends })
      this.cookies.add(cookie)
    }
    if (cookie === undefined) return void (actor.hasArrived = true)
    const go = (): void => {
      actor.hasArrived = true
      this.jars[plan.from ?? 'browser'] = cookie || undefined
    }
    this.waiting.push({ actor: name, kind: 'arrival', go })
  }

  /** What is stored in the end, as text: the data of all live sessions. */
  get setup(): string {
    return this.scenario.setup ?? 'visitor'
  }

  get stored(): string {
    return storedIn(this.backend)
  }
}

export function marksOf(backend: Backend, user: string): string[] {
  return backend.sessions().flatMap(({ data }) => (data['user'] === user ? [data['mark'] as string] : []))
}

function storedIn(backend: Backend): string {
  const texts = backend
    .sessions()
    .map(({ data: { cookie: _cookie, ...data } }) =>
      JSON.stringify(Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1))),
    )
  return texts.sort().join('\n')
}

/** A middleware of its own, as another process would have one. */
export function middlewareOver({ options = {}, store = 'record' }: Scenario, backend: Backend, gate = openGate) {
  return session({
    secret: 'simulated',
    resave: false,
    saveUninitialized: false,
    hints: false,
    timeout: TIMEOUT,
    ...options,
    ...(options.user && { user: (live: AnySession) => live['user'] as string }),
    store: storeOver(store, backend, gate),
  } as session.SessionOptions)
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

async function make(options: Options, store: 'record' | 'classic', setup: string): Promise<Before> {
  clock.reset(-1)
  const backend = new Backend()
  const { hashIds: _hashIds, ...others } = options
  const sessions = middlewareOver({ options: setup === 'plain' ? others : options, store, requests: {} }, backend)
  const made = async (data: Data): Promise<string | undefined> => {
    const { setCookie } = await visit(sessions, undefined, (req, live) => {
      Object.assign(live, data)
      return setup === 'flash' ? sessions.flash(req).add('note', 'm0') : undefined
    })
    return setCookie
  }
  const ada = { user: 'ada', role: 'role of ada' }
  const data = { mark: 'S0', a: 'a0', b: 'b0', o: { x: 0, y: 0 }, n: 0, ...(setup === 'ada' && ada) }
  const browser = await made(data)
  const phone = options.user && (await made({ mark: 'S1', ...ada }))
  return { backend, jars: { browser, attacker: browser, phone, stranger: undefined } }
}
