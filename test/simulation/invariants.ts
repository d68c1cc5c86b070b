import type session from '../../src'
import type { Backend, Data } from './backend'
import { clock } from './clock'
import { giveBack, takeHost, visit, type Host } from './observer'
import { markOf, type AnySession } from './programs'
import type { Action } from './scenario'
import type { SerialOrders } from './serial'
import type { Actor, World } from './world'

export interface Violation {
  /** Which rule. */
  readonly rule: string
  readonly what: string
}

/** Errors that the library may raise by itself. */
const EXPECTED = /^ERR_SESSION_(CONFLICT|DESTROYED|EXPIRED|LIMIT|MISSING|STORE_TIMEOUT)$/
/** After this long, in ms, former cookies have had their time of grace. */
const AFTER_GRACE = 30_000
const USERS = ['ada', 'bob']

/** Looks at a world where all is quiet, and names what must not be. */
export class Inspection {
  readonly #world: World
  readonly #serial: SerialOrders
  readonly #options: session.SessionOptions
  readonly #actors: readonly Actor[]
  readonly #violations: Violation[] = []
  #host: Host | undefined
  /** The session that each cookie opens. */
  readonly #opens = new Map<string, string>()

  constructor(world: World, serial: SerialOrders) {
    this.#world = world
    this.#serial = serial
    this.#options = (world.scenario.options ?? {}) as unknown as session.SessionOptions
    this.#actors = [...world.actors.values()]
  }

  async violations(): Promise<Violation[]> {
    this.#errors()
    await this.#data()
    await this.#cookiesThatLeft()
    await this.#browser()
    await this.#everyCookie()
    this.#destroyed()
    this.#updates()
    await this.#messages()
    await this.#users()
    await this.#farewell()
    for (const error of clock.takeThrown()) this.#found('unhandled', String(error))
    if (this.#host) giveBack(this.#world.scenario, this.#host)
    return this.#violations
  }

  #found(rule: string, what: string): void {
    this.#violations.push({ rule, what })
  }

  #does(name: RegExp, actor: Actor): boolean {
    return actor.program.some((action) => name.test(action.name))
  }

  get #isClassic(): boolean {
    return this.#world.scenario.store === 'classic'
  }

  /** Whether something went wrong with a request, so that it may have been done or not. */
  #isUnsure(actor: Actor): boolean {
    const { injected, told } = this.#world
    const isOf = (one: { actor: string }): boolean => one.actor === actor.name
    return injected.some(isOf) || told.some(isOf) || actor.isDead || this.#does(/^gone$/, actor)
  }

  /** Whether all that was stored must have been told to some client. */
  get #canBeReached(): boolean {
    const wasTold = ({ actor, fault }: { actor: string; fault: string }): boolean =>
      fault === 'before' && this.#world.actors.get(actor)?.arrivedAt !== undefined
    if (!this.#world.injected.every(wasTold) || this.#actors.some((actor) => this.#does(/^gone$/, actor))) return false
    // The processes of a classic store tell each other nothing: a renewal that fails may be stored by another request.
    const hasFailed = this.#isClassic && this.#world.injected.length > 0
    return !(hasFailed && this.#actors.some((actor) => this.#does(/^renew$/, actor)))
  }

  /** A process that only looks at what is stored, and waits for nothing. */
  #observer(backend: Backend = this.#world.backend): session.Sessions {
    this.#host ??= takeHost(this.#world.scenario, backend)
    this.#host.store.backend = backend
    return this.#host.sessions
  }

  /** The mark of the session that a cookie opens. */
  async #look(cookie: string | undefined): Promise<string | undefined> {
    return cookie === undefined ? undefined : markOf(await this.#open(cookie))
  }

  async #open(cookie: string, backend?: Backend): Promise<AnySession | undefined> {
    let opened: AnySession | undefined
    const { failure } = await visit(this.#observer(backend), cookie, (_req, live) => void (opened = live))
    if (failure) this.#found('later', `a later request fails: ${textOf(failure)}`)
    return opened
  }

  /** Each error is told once, nothing hangs, and nothing would have ended the process. */
  #errors(): void {
    const { injected, told } = this.#world
    for (const { actor, before, error, fault, method } of injected) {
      if (!error || this.#world.actors.get(actor)?.isDead) continue
      const times = told.filter((one) => one.error === error || (one.error as Error | null)?.cause === error).length
      // An entry of the index is taken back where its session was not written: one that stays does not count.
      const hasFailed = told.some((one) => one.actor === actor)
      const isLooking = /^(read|linked)$/.test(method) && (hasFailed || /^(read|link|unlink)$/.test(before ?? ''))
      // Of sessions that are removed side by side, the first error is told.
      const isBeside = method === 'remove' && hasFailed
      const takesBack = this.#options.user && (isLooking || isBeside || /^(un)?link$/.test(method))
      // While what was prepared is taken back, the time of the whole may be over: that is told then.
      const isTimedOut = injected.some((one) => one.actor === actor && !one.error)
      if (times === 1 || (times === 0 && (takesBack || isTimedOut))) continue
      this.#found('told', `the error of ${actor}'s ${method} (${fault}) was told ${times} times`)
    }
    for (const { error } of told) {
      const { code, message } = error as { code?: string; message?: string }
      if (EXPECTED.test(code ?? '') || /^injected|no session any more/.test(message ?? '')) continue
      this.#found('told', `a strange error: ${String(error)}`)
    }
    for (const actor of this.#actors) if (actor.isWaitedFor) this.#found('hangs', `${actor.name} hangs`)
    for (const error of clock.takeThrown()) this.#found('unhandled', String(error))
  }

  /** The data is what one request after the other would have stored, or what one of them alone would have. */
  async #data(): Promise<void> {
    const unsure = this.#actors.filter((actor) => this.#isUnsure(actor))
    const hasSteps = /renew|regenerate|destroy|end(All|Others)|login/
    if (unsure.some((actor) => this.#does(hasSteps, actor)) || this.#isBeyondOrders) return
    const mayLose = (this.#mustKeepAll() ? unsure : this.#actors).map(({ name }) => name)
    const { text } = this.#world.backend
    const mayLack = (data: Data): boolean => this.#mayBeEnded(data)
    if (await this.#serial.allows(text, mayLose, this.#world.sources, mayLack)) return
    this.#found('data', `no order of the requests stores this:\n${text}`)
  }

  /**
   * What no order explains, and is meant: a logout by a former token that was loaded in time; of logins at once, where their
   * number is limited, the one that stays; on a classic store, a write that keeps a renewal and loses its data.
   */
  get #isBeyondOrders(): boolean {
    const { facts } = this.#world
    const does = (what: string): boolean => facts.some((fact) => fact.what === what)
    const logins = this.#actors.filter((actor) => this.#does(/^login$/, actor)).length
    if (this.#options.maxSessionsPerUser && logins > 1) return true
    return does('renewed') && (this.#isClassic || (does('destroyed') && this.#actors.length > 2))
  }

  /** Whether some request has ended a session, or might have: whoever logs out wins, whatever came meanwhile. */
  #mayBeEnded({ mark, user }: Data): boolean {
    const isEnded = this.#world.facts.some(({ of, what }) => what === 'destroyed' && of.includes(String(mark)))
    const endsUser = ({ name, argument }: Action): boolean =>
      (name === 'endAll' && argument === user) || (name === 'endOthers' && user !== undefined)
    return isEnded || this.#actors.some(({ program }) => program.some(endsUser))
  }

  /** Whether no request looked at what another one wrote, so that none may be lost. */
  #mustKeepAll(): boolean {
    if (this.#isClassic || this.#options.conflict === 'overwrite') return false
    if (this.#actors.some((actor) => this.#does(/renew|regenerate|destroy|end(All|Others)|login|remember/, actor)))
      return false
    const keys = ({ program }: Actor, names: RegExp): (string | undefined)[] =>
      program.flatMap(({ name, argument }) => (names.test(name) ? [argument.split(' ')[0]] : []))
    return this.#actors.every((actor) =>
      this.#actors.every((other) => {
        if (actor === other) return true
        const written = keys(other, /^(set|put|inside|delete|update)$/)
        return !this.#does(/^all$/, actor) && !keys(actor, /^(look|inside)$/).some((key) => written.includes(key))
      }),
    )
  }

  /** A cookie that is sent again names a session that is there at that moment. */
  async #cookiesThatLeft(): Promise<void> {
    // What a classic store has done without an answer, nobody knows.
    if (this.#isClassic && this.#world.injected.some(({ error }) => !error)) return
    const now = clock.now
    for (const { actor, at, backends, cookie } of this.#world.given) {
      if (this.#world.actors.get(actor)?.presented !== cookie) continue
      clock.now = at
      let opens = false
      for (const backend of backends) {
        const opened = await this.#open(cookie, backend.copy())
        opens ||= opened !== undefined && cookie.includes(opened.id)
      }
      clock.now = now
      // A classic store cannot be asked whether a session is there; of other processes its own does not learn.
      if (!opens) this.#found('cookie', `${actor} sets the cookie of a session that is gone`)
    }
  }

  /** The browser is where the one request has put it that changed its session. */
  async #browser(): Promise<void> {
    const { facts, jars } = this.#world
    const moving = facts.filter(({ what }) => what === 'moved' || what === 'renewed' || what === 'destroyed')
    const last = moving.at(-1)
    if (!last || last.what === 'destroyed' || moving.some(({ actor }) => actor !== last.actor)) return
    const mover = this.#world.actors.get(last.actor) as Actor
    const others = this.#actors.filter((actor) => actor !== mover)
    if (mover.client !== 'browser' || mover.arrivedAt === undefined || this.#isUnsure(mover)) return
    if (this.#does(/^(stream|gone)$/, mover)) return
    if (others.some((actor) => this.#does(/end(All|Others)|login/, actor))) return
    if (others.some((actor) => this.#does(/renew|regenerate|destroy/, actor) && this.#isUnsure(actor))) return
    const [mark] = last.of
    // Who has brought no session gets one of its own, and knows of no other.
    if (
      mark === 'undefined' ||
      facts.some(({ actor, what }) => what === 'empty' && (actor !== last.actor || last.what === 'moved'))
    )
      return
    if (this.#isClassic && others.length > 0 && last.what === 'renewed') return
    // What had left before, or what the store had told on its way, and was overtaken there, no server can take back.
    const fact = last.at
    const wasOvertaken = ({ arrivedAt = 0, deeds, leftAt = 0 }: Actor): boolean =>
      arrivedAt > (mover.arrivedAt as number) &&
      (leftAt <= fact || deeds.some(({ at, answeredAt }) => at <= fact && answeredAt === leftAt))
    if (others.some((actor) => actor.client === 'browser' && wasOvertaken(actor))) return
    const now = clock.now
    for (const when of ['at once', 'after the grace']) {
      const found = await this.#look(jars.browser)
      if (found !== mark)
        this.#found('browser', `the browser is in ${found ?? 'no session'} and not in ${mark}, ${when}`)
      clock.now += AFTER_GRACE
    }
    clock.now = now
  }

  /** What each cookie opens that ever was. A former one opens nothing, and its presenter is given none that does. */
  async #everyCookie(): Promise<void> {
    const { actors, cookies, facts, scenario } = this.#world
    const former = new Set<string>()
    for (const { actor, what } of facts) {
      const { presented } = actors.get(actor) as Actor
      if (what !== 'renewed' || !presented || scenario.store === 'classic') continue
      // Who presents what is not stored yet, renews a session of its own.
      if (!facts.some((fact) => fact.actor === actor && fact.what === 'empty')) former.add(presented)
    }
    for (const cookie of cookies) {
      let mark: string | undefined
      const { setCookie } = await visit(this.#observer(), cookie, (_req, live) => void (mark = markOf(live)))
      if (mark !== undefined) this.#opens.set(cookie, mark)
      if (!former.has(cookie)) continue
      if (mark !== undefined) this.#found('former', `a former cookie opens ${mark}`)
      if (setCookie && (await this.#look(setCookie)))
        this.#found('former', 'the bearer of a former cookie is given the new one')
    }
  }

  /** A destroyed session is gone, and one session is one record. */
  #destroyed(): void {
    const { backend, facts } = this.#world
    const marks = backend.sessions().map(({ data }) => String(data['mark']))
    for (const mark of new Set(marks)) {
      const count = marks.filter((one) => one === mark).length
      if (count > 1) this.#found('one record', `${mark} is stored ${count} times`)
    }
    for (const { actor, of, what } of facts) {
      if (what !== 'destroyed') continue
      for (const mark of of)
        if (marks.includes(mark)) this.#found('destroyed', `${mark} is back, which ${actor} destroyed`)
    }
  }

  get #liveData() {
    return this.#world.backend.sessions().find(({ data }) => data['mark'] === 'S0')?.data
  }

  /** Whether some requests had another session than the one that all began with. */
  get #hasSpread(): boolean {
    return this.#world.facts.some(({ what }) => what === 'empty' || what === 'destroyed' || what === 'ended')
  }

  get #isSure(): boolean {
    return !this.#isClassic && !this.#actors.some((actor) => this.#isUnsure(actor))
  }

  /** Each update is there once. */
  #updates(): void {
    const live = this.#liveData
    if (!live || this.#hasSpread) return
    const { conflict } = this.#options
    // A request that looked at it may have put back the whole session that it had.
    const mayBeLost =
      this.#isClassic ||
      conflict === 'overwrite' ||
      this.#actors.some((actor) => this.#does(/^(all|look|put|inside|remember)$/, actor))
    const made = this.#world.facts.filter(({ of, what }) => what === 'updated' && of.join(' ') === 'n S0').length
    const tried = this.#actors.flatMap(({ program }) => program).filter(({ name }) => name === 'update').length
    const n = live['n'] as number
    if (n > tried || (n < made && !mayBeLost) || (n > made && this.#isSure)) {
      this.#found('update', `${made} updates were made, ${tried} tried, and ${n} are there`)
    }
  }

  /** Each flash message is delivered once, or still there. */
  async #messages(): Promise<void> {
    const { facts, scenario } = this.#world
    if (!this.#actors.some((actor) => this.#does(/^(add|take)$/, actor)) && scenario.setup !== 'flash') return
    const delivered = facts.flatMap(({ of, what }) => (what === 'took' ? of : []))
    const [cookie] = [...this.#opens].find(([, mark]) => mark === 'S0') ?? []
    const sessions = this.#observer()
    if (cookie)
      await visit(sessions, cookie, async (req) => delivered.push(...(await sessions.flash(req).take('note'))))
    const waiting = scenario.setup === 'flash' ? ['m0'] : []
    const added = [
      ...waiting,
      ...facts.flatMap(({ of, what }) => (what === 'added' && of[1] === 'S0' ? of.slice(0, 1) : [])),
    ]
    for (const message of new Set([...added, ...delivered])) {
      const times = delivered.filter((one) => one === message).length
      if (times > 1 && !this.#isClassic) this.#found('flash', `${message} was delivered ${times} times`)
      if (times === 0 && this.#isSure && this.#liveData && !this.#hasSpread) this.#found('flash', `${message} is lost`)
    }
  }

  /** Nothing is listed that nobody can open, everything is that somebody can, and no user has too many. */
  async #users(): Promise<void> {
    if (!this.#options.user) return
    const { backend, facts, injected } = this.#world
    const max = this.#options.maxSessionsPerUser || Infinity
    const opened = [...this.#opens.values()]
    for (const user of USERS) {
      const marks = backend.marksOf(user)
      const listed = await this.#observer().users.list(user)
      if (listed.length !== marks.length)
        this.#found('list', `${user} has ${marks.length} sessions, ${listed.length} are listed`)
      if (marks.length > max && injected.length === 0) this.#found('limit', `${user} has ${marks.length} sessions`)
      for (const mark of marks) {
        if (!opened.includes(mark) && this.#canBeReached)
          this.#found('ghost', `${mark} of ${user} is there, and nobody can open it`)
      }
    }
    for (const { actor, of, what } of facts) {
      if (what !== 'ended' || facts.some((fact) => fact.what === 'loggedIn')) continue
      for (const ended of of) {
        const [mark, user] = ended.split(' ') as [string, string]
        if (backend.marksOf(user).includes(mark)) this.#found('destroyed', `${mark} is back, which ${actor} ended`)
      }
    }
  }

  /** Everybody logs out, and nothing is left; then a user who was near the limit can log in. */
  async #farewell(): Promise<void> {
    const { backend, cookies } = this.#world
    const left: string[] = []
    for (const cookie of this.#opens.keys()) {
      await visit(this.#observer(), cookie, async (_req, live) => {
        if (markOf(live) === undefined) return
        left.push(markOf(live) as string)
        await live.destroy()
      })
    }
    for (const cookie of cookies) {
      const mark = await this.#look(cookie)
      if (mark !== undefined) this.#found('destroyed', `${mark} is open after everybody has logged out`)
    }
    for (const { data } of backend.sessions()) {
      const mark = String(data['mark'])
      if (left.includes(mark)) this.#found('destroyed', `${mark} is stored after everybody has logged out`)
      else if (this.#canBeReached) this.#found('ghost', `${mark} is stored, and nobody can log it out`)
    }
    const max = this.#options.maxSessionsPerUser
    if (!max) return
    const login = (_req: unknown, live: object): void => void Object.assign(live, { mark: 'S9', user: 'ada' })
    const { failure } = await visit(this.#observer(), undefined, login)
    if (failure && this.#canBeReached) this.#found('limit', `ada cannot log in any more: ${textOf(failure)}`)
    // Those that nobody can open keep others out until they end.
    const isCorrected = this.#canBeReached || this.#options.onSessionLimit !== 'refuse'
    if (backend.marksOf('ada').length > max && isCorrected) this.#found('limit', 'the next login does not correct it')
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
