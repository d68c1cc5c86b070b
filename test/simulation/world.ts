import type { Backend, Gate } from './backend'
import { clock, running } from './clock'
import { giveBack, takeHost, type Before, type Host } from './observer'
import { handle, type Fact, type Handling, type Serially } from './programs'
import { actionsOf, textOf, type Action, type Client, type Fault, type Plan, type Scenario } from './scenario'
import { Exchange } from './wire'

/** Whether every call is printed, for who looks for the reason of a failure. */
const isShown = process.env['SIMULATE_SHOW'] !== undefined

function shown(asked: unknown): string {
  const text = typeof asked === 'string' ? asked : (JSON.stringify(asked) ?? '')
  return text
    .replaceAll(/"cookie":{[^}]*?("sessile":{[^}]*})?},?/g, '$1 ')
    .replaceAll(/\b[\w-]{32}\b/g, (id) => id.slice(0, 4))
}

/** After this long, in ms, nothing is waited for any more. */
const LONG = 60_000

/** Something that a request waits for, until the scheduler lets it happen. */
export interface Waiting {
  readonly actor: string
  readonly kind: 'start' | 'call' | 'answer' | 'pause' | 'arrival' | 'turn'
  readonly go: (fault?: Fault) => void
}

export interface Choice {
  readonly at: number
  readonly fault?: Fault | undefined
}

export interface Injected {
  readonly actor: string
  readonly method: string
  /** Its call before that one. */
  readonly before: string | undefined
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
  constructor(readonly host: Host) {}
}

/** A request under way. */
export class Actor {
  exchange: Exchange | undefined
  presented: string | undefined
  process: Process | undefined
  /** Whether the handler has come to its end, or will never be called. */
  isDone = false
  /** When the head of its answer has left, and reached the client. */
  leftAt: number | undefined
  arrivedAt: number | undefined
  /** When the store did something for it, and when it learnt of that. */
  readonly deeds: { readonly at: number; answeredAt: number }[] = []

  constructor(
    readonly name: string,
    readonly plan: Plan,
    readonly program: readonly Action[],
  ) {}

  get client(): Client {
    return this.plan.from ?? 'browser'
  }

  get isDead(): boolean {
    return this.process?.isDead === true
  }

  /** Whether its client still waits for it, and its process could answer. */
  get isWaitedFor(): boolean {
    return this.exchange !== undefined && !this.isDead && !(this.exchange.isOver && this.isDone)
  }
}

/** Where a scenario takes place: requests, processes, browsers, and what is stored. */
export class World {
  readonly backend: Backend
  readonly actors = new Map<string, Actor>()
  readonly jars: Record<Client, string | undefined>
  readonly waiting: Waiting[] = []
  readonly trace: string[] = []
  readonly facts: Fact[] = []
  readonly injected: Injected[] = []
  readonly told: { readonly actor: string; readonly error: unknown }[] = []
  readonly given: Given[] = []
  readonly cookies = new Set<string>()
  /** What was stored when the store last confirmed something to a request's handler, and whenever it did so at its end. */
  readonly #confirmed = new Map<string, Backend[]>()
  readonly #lastCalls = new Map<string, string>()
  readonly #processes = new Map<number, Process>()
  readonly #before: Before
  #isQuiet = false

  /**
   * @param before what is there, by `setUp`
   * @param parts in a serial order: which parts of its program each request does
   */
  constructor(
    readonly scenario: Scenario,
    before: Before,
    readonly parts?: Readonly<Record<string, readonly number[]>>,
  ) {
    this.#before = before
    this.backend = before.backend.copy()
    this.jars = { ...before.jars }
    for (const cookie of Object.values(this.jars)) if (cookie) this.cookies.add(cookie)
    for (const [name, plan] of Object.entries(scenario.requests)) {
      const actor = new Actor(name, plan, actionsOf(plan))
      this.actors.set(name, actor)
      this.waiting.push({ actor: name, kind: 'start', go: () => this.#start(actor) })
    }
  }

  /** Lets everything happen, in the order that is chosen; then as it comes, until all is quiet. */
  async run(choose: (waiting: readonly Waiting[]) => Choice): Promise<void> {
    while (this.waiting.length > 0) await this.step(choose(this.waiting))
    await this.becomeQuiet()
  }

  async step({ at, fault }: Choice): Promise<void> {
    const [next] = this.waiting.splice(at, 1) as [Waiting]
    const place = this.waiting.slice(0, at).filter(({ actor }) => actor === next.actor).length
    const used = next.kind === 'call' ? fault : undefined
    this.trace.push(textOf({ actor: next.actor, place, fault: used }))
    if (this.trace.length > 1000) throw new Error(`it does not end: ${this.trace.slice(0, 50).join(' ')}`)
    clock.now++
    next.go(used)
    await clock.calm()
  }

  /** Nothing goes wrong any more; what was lost is given up after its time. */
  async becomeQuiet(): Promise<void> {
    const finish = async (): Promise<void> => {
      while (this.waiting.length > 0) await this.step({ at: 0 })
    }
    await finish()
    const isWaitedFor = [...this.actors.values()].some((actor) => actor.isWaitedFor)
    if (isWaitedFor || this.injected.some(({ error }) => !error)) {
      const until = clock.now + LONG
      while (clock.moveOn(until)) {
        await clock.calm()
        await finish()
      }
    }
    this.#isQuiet = true
  }

  /** Whose answer had brought each request the cookie that it presented; none where that was there before. */
  get sources(): Readonly<Record<string, string | undefined>> {
    const sourceOf = ({ client, presented }: Actor): string | undefined =>
      presented === this.#before.jars[client] ? undefined : this.given.find(({ cookie }) => cookie === presented)?.actor
    return Object.fromEntries([...this.actors].map(([name, actor]) => [name, sourceOf(actor)]))
  }

  /** Nobody looks at it any more. */
  leave(): void {
    if (this.injected.some(({ error }) => !error) || [...this.actors.values()].some((actor) => actor.isWaitedFor))
      return
    for (const { host } of this.#processes.values()) giveBack(this.scenario, host)
  }

  #process(number: number): Process {
    const known = this.#processes.get(number)
    if (known && !known.isDead) return known
    const gate: Gate = (method, deed, ...asked) => this.#callOf(process, method, deed, asked)
    const process = new Process(takeHost(this.scenario, this.backend, gate))
    process.host.onError = (error) => this.told.push({ actor: running.getStore() ?? '', error })
    this.#processes.set(number, process)
    return process
  }

  /** A call of a store waits until it is chosen, and then does its deed, or goes wrong. */
  #callOf<T>(process: Process, method: string, deed: () => T, asked: unknown[]): T | Promise<T> {
    if (process.isDead) return new Promise(() => undefined)
    if (this.#isQuiet) return deed()
    const actor = running.getStore() as string
    const before = this.#lastCalls.get(actor)
    this.#lastCalls.set(actor, method)
    return new Promise<T>((resolve, reject) => {
      const go = (fault?: Fault): void => {
        this.#show(actor, method, asked, fault)
        if (fault) return this.#goWrong({ actor, method, before, fault }, process, deed, reject)
        const result = deed()
        const asking = this.actors.get(actor)
        const done = { at: clock.now, answeredAt: clock.now }
        asking?.deeds.push(done)
        const isAtEnd = asking?.exchange?.hasEnded === true
        if (isAtEnd || /write|renew|set|touch/.test(method)) this.#confirm(actor, isAtEnd)
        if (!this.scenario.split) return resolve(result)
        const learn = (): void => {
          done.answeredAt = clock.now
          resolve(result)
        }
        this.waiting.push({ actor, kind: 'answer', go: learn })
      }
      this.waiting.push({ actor, kind: 'call', go })
    })
  }

  #confirm(actor: string, isAtEnd: boolean): void {
    const before = isAtEnd ? (this.#confirmed.get(actor) ?? []) : []
    this.#confirmed.set(actor, [...before, this.backend.copy()])
  }

  #show(actor: string, method: string, asked: readonly unknown[] = [], fault?: Fault): void {
    if (isShown && !this.parts)
      console.log([actor, method, ...asked.map(shown), fault && `!${fault}`].filter(Boolean).join(' '))
  }

  #goWrong(what: Injected, process: Process, deed: () => unknown, reject: (error: Error) => void): void {
    const { fault } = what
    if (fault === 'after' || fault === 'lost' || fault === 'died') deed()
    if (fault === 'before' || fault === 'after') {
      const error = new Error(`injected ${this.injected.length + 1}`)
      this.injected.push({ ...what, error })
      return reject(error)
    }
    this.injected.push(what)
    if (fault === 'lost' || fault === 'unheard') return
    process.isDead = true
    const survives = ({ actor, kind }: Waiting): boolean =>
      kind === 'start' || kind === 'arrival' || this.actors.get(actor)?.process !== process
    this.waiting.splice(0, this.waiting.length, ...this.waiting.filter(survives))
  }

  #start(actor: Actor): void {
    const { name, plan } = actor
    actor.presented = this.jars[actor.client]
    this.#show(name, 'begins')
    actor.process = this.#process(plan.in ?? 1)
    const { sessions } = actor.process.host
    const exchange = new Exchange(actor.presented, () => this.#headLeft(actor))
    actor.exchange = exchange
    let isEntered = false
    const tell = (error: unknown): void => {
      this.told.push({ actor: name, error })
      if (exchange.res.headersSent) return
      exchange.res.statusCode = 500
      exchange.end()
    }
    const next = (error?: unknown): void => {
      if (error !== undefined) tell(error)
      if (isEntered) return
      isEntered = true
      if (error !== undefined) return void (actor.isDone = true)
      const handled = handle(this.#handling(actor, exchange), actor.program, this.#serially(name))
      void handled.catch(tell).finally(() => (actor.isDone = true))
    }
    running.run(name, () => sessions(exchange.req as never, exchange.res as never, next))
  }

  #handling({ name, process }: Actor, exchange: Exchange): Handling {
    return {
      actor: name,
      exchange,
      sessions: (process as Process).host.sessions,
      looks: new Map(),
      place: 0,
      fact: (what, ...of) => this.facts.push({ actor: name, what, of: of.map(String), at: clock.now }),
      pause: () => this.#wait(name, 'pause'),
      marksOf: (user) => this.backend.marksOf(user),
    }
  }

  #serially(name: string): Serially | undefined {
    return this.parts && { parts: this.parts[name] ?? [], turn: () => this.#wait(name, 'turn') }
  }

  #wait(actor: string, kind: Waiting['kind']): Promise<void> {
    return new Promise((resolve) => this.waiting.push({ actor, kind, go: () => resolve() }))
  }

  #headLeft(actor: Actor): void {
    if (actor.isDead) return
    const { name } = actor
    const cookie = actor.exchange?.setCookie
    actor.leftAt = clock.now
    this.#show(name, `is answered${cookie ? `: ${shown(cookie)}` : ''}`)
    if (cookie === undefined) return void (actor.arrivedAt = clock.now)
    if (cookie) {
      const backends = [this.backend.copy(), ...(this.#confirmed.get(name) ?? [])]
      this.given.push({ actor: name, cookie, at: clock.now, backends })
      this.cookies.add(cookie)
    }
    const go = (): void => {
      actor.arrivedAt = clock.now
      this.jars[actor.client] = cookie || undefined
    }
    this.waiting.push({ actor: name, kind: 'arrival', go })
  }
}
