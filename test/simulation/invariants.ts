import type session from '../../src'
import { openGate, type Backend } from './backend'
import { clock } from './clock'
import { markOf } from './programs'
import { actionsOf } from './scenario'
import type { SerialOrders } from './serial'
import { marksOf, middlewareOver, visit, type Actor, type World } from './world'

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
  readonly #violations: Violation[] = []
  /** The session that each cookie opens. */
  readonly #opens = new Map<string, string>()

  constructor(world: World, serial: SerialOrders) {
    this.#world = world
    this.#serial = serial
  }

  async violations(): Promise<Violation[]> {
    this.#errors()
    await this.#data()
    await this.#cookiesThatLeft()
    await this.#browser()
    await this.#everyCookie()
    this.#destroyed()
    await this.#updatesAndMessages()
    await this.#users()
    await this.#farewell()
    for (const error of clock.takeThrown()) this.#found('unhandled', String(error))
    return this.#violations
  }

  #found(rule: string, what: string): void {
    this.#violations.push({ rule, what })
  }

  get #options(): session.SessionOptions {
    return (this.#world.scenario.options ?? {}) as unknown as session.SessionOptions
  }

  get #isClassic(): boolean {
    return this.#world.scenario.store === 'classic'
  }

  get #actors(): Actor[] {
    return [...this.#world.actors.values()]
  }

  #does(name: RegExp, { plan }: Actor): boolean {
    return actionsOf(plan).some((action) => name.test(action.name))
  }

  /** Whether something went wrong with a request, so that it may have been done or not. */
  #isUnsure(actor: Actor): boolean {
    const { injected, told } = this.#world
    const isOf = (one: { actor: string }): boolean => one.actor === actor.name
    return injected.some(isOf) || told.some(isOf) || actor.process?.isDead || this.#does(/^gone$/, actor)
  }

  #observer(backend: Backend = this.#world.backend): session.Sessions {
    return middlewareOver(this.#world.scenario, backend, openGate)
  }

  /** The mark of the session that a cookie opens. */
  async #look(cookie: string | undefined, backend?: Backend): Promise<string | undefined> {
    let mark: string | undefined
    if (cookie !== undefined) await visit(this.#observer(backend), cookie, (_req, live) => void (mark = markOf(live)))
    return mark
  }

  /** Each error is told once, nothing hangs, and nothing would have ended the process. */
  #errors(): void {
    const { injected, told } = this.#world
    for (const { actor, error, fault } of injected) {
      if (!error || this.#world.actors.get(actor)?.process.isDead) continue
      const times = told.filter((one) => one.error === error || (one.error as Error | null)?.cause === error)
      if (times.length === 1) continue
      this.#found('told', `the error of ${actor} (${fault}) was told ${times.length} times`)
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
    const serial = this.#serial
    if (!serial.canTell) return
    const unsure = this.#actors.filter((actor) => this.#isUnsure(actor))
    const storesBetween = /save|reload|update|renew|regenerate|destroy|end(All|Others)|add|take/
    if (unsure.some((actor) => this.#does(storesBetween, actor))) return
    const names = this.#actors.map(({ name }) => name)
    const mayLose = unsure.length > 0 || !this.#mustKeepAll() ? names : []
    const { stored } = this.#world
    if (await serial.allows(stored, names, mayLose)) return
    this.#found('data', `no order of the requests stores this:\n${stored}`)
  }

  /** Whether no request looked at what another one wrote, so that none may be lost. */
  #mustKeepAll(): boolean {
    if (this.#isClassic || this.#options.conflict === 'overwrite') return false
    if (this.#actors.some((actor) => this.#does(/renew|regenerate|destroy|end(All|Others)|login|gone/, actor)))
      return false
    const keys = (actor: Actor, names: RegExp): string[] =>
      actionsOf(actor.plan).flatMap(({ name, argument }) =>
        names.test(name) ? [argument.split(' ')[0] as string] : [],
      )
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
    const now = clock.now
    for (const { actor, at, backends, cookie } of this.#world.given) {
      if (this.#world.actors.get(actor)?.presented !== cookie) continue
      clock.now = at
      let opens = false
      for (const backend of backends) opens ||= (await this.#look(cookie, backend.copy())) !== undefined
      clock.now = now
      if (!opens) this.#found('cookie', `${actor} sets the cookie of a session that is gone`)
    }
  }

  /** The browser is where the one request has put it that changed its session. */
  async #browser(): Promise<void> {
    const { facts, jars } = this.#world
    const moving = facts.filter(({ what }) => what === 'moved' || what === 'renewed' || what === 'destroyed')
    const names = new Set(moving.map(({ actor }) => actor))
    const last = moving.at(-1)
    if (!last || last.what === 'destroyed' || names.size !== 1) return
    const mover = this.#world.actors.get(last.actor) as Actor
    if ((mover.plan.from ?? 'browser') !== 'browser' || !mover.hasArrived || this.#isUnsure(mover)) return
    if (
      this.#does(/^(stream|gone)$/, mover) ||
      this.#actors.some((actor) => this.#does(/end(All|Others)|login/, actor) && actor !== mover)
    )
      return
    const mark = last.of[0]
    if (mark === 'undefined' || (last.what === 'moved' && facts.some(({ what }) => what === 'empty'))) return
    if (this.#isClassic && this.#actors.length > 1 && last.what === 'renewed') return
    for (const when of ['at once', 'after the grace']) {
      const found = await this.#look(jars.browser)
      if (found !== mark)
        this.#found('browser', `the browser is in ${found ?? 'no session'} and not in ${mark}, ${when}`)
      clock.now += AFTER_GRACE
    }
  }

  /** What each cookie opens that ever was. A former one opens nothing, and its presenter is given none that does. */
  async #everyCookie(): Promise<void> {
    const { actors, cookies, facts, scenario } = this.#world
    const former = new Set<string>()
    for (const { actor, what } of facts) {
      const { presented } = actors.get(actor) as Actor
      if (what === 'renewed' && presented && scenario.store !== 'classic') former.add(presented)
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

  /** Each update is there once, and each message is delivered once, or still there. */
  async #updatesAndMessages(): Promise<void> {
    const { backend, facts, scenario, setup } = this.#world
    const live = backend.sessions().find(({ data }) => data['mark'] === 'S0')?.data
    const isSure = !this.#actors.some((actor) => this.#isUnsure(actor)) && !this.#isClassic
    const isOverwritten =
      this.#options.conflict === 'overwrite' ||
      this.#actors.some((actor) => this.#does(/^(all|look|put|inside)$/, actor))
    const updates = facts.filter(({ of, what }) => what === 'updated' && of[0] === 'n').length
    const tried = this.#actors.flatMap(({ program }) => program).filter(({ name }) => name === 'update').length
    const hasSpread = facts.some(({ what }) => what === 'empty' || what === 'destroyed' || what === 'ended')
    if (live && !hasSpread) {
      const n = live['n'] as number
      if (n > tried || (n < updates && !isOverwritten && !this.#isClassic) || (isSure && n > updates)) {
        this.#found('update', `${updates} updates were made, ${tried} tried, and ${n} are there`)
      }
    }
    if (!this.#actors.some((actor) => this.#does(/^(add|take)$/, actor)) && scenario.setup !== 'flash') return
    const delivered = facts.flatMap(({ of, what }) => (what === 'took' ? of : []))
    const [cookie] = [...this.#opens].find(([, mark]) => mark === 'S0') ?? []
    const sessions = this.#observer()
    if (cookie)
      await visit(sessions, cookie, async (req) => delivered.push(...(await sessions.flash(req).take('note'))))
    const added = [
      ...(setup === 'flash' ? ['m0'] : []),
      ...facts.flatMap(({ of, what }) => (what === 'added' ? of : [])),
    ]
    for (const message of new Set([...added, ...delivered])) {
      const times = delivered.filter((one) => one === message).length
      if (times > 1 && !this.#isClassic) this.#found('flash', `${message} was delivered ${times} times`)
      if (times === 0 && isSure && live && !hasSpread) this.#found('flash', `${message} is lost`)
    }
  }

  /** Nothing is listed that nobody can open, everything is that somebody can, and no user has too many. */
  async #users(): Promise<void> {
    if (!this.#options.user) return
    const { backend, facts, injected } = this.#world
    const max = this.#options.maxSessionsPerUser || Infinity
    for (const user of USERS) {
      const marks = marksOf(backend, user)
      const listed = await this.#observer().users.list(user)
      if (listed.length !== marks.length)
        this.#found('list', `${user} has ${marks.length} sessions, ${listed.length} are listed`)
      if (marks.length > max && injected.length === 0) this.#found('limit', `${user} has ${marks.length} sessions`)
      const opened = [...this.#opens.values()]
      for (const mark of marks) {
        if (!opened.includes(mark) && this.#canBeReached())
          this.#found('ghost', `${mark} of ${user} is there, and nobody can open it`)
      }
    }
    for (const { actor, of, what } of facts) {
      if (what !== 'ended' || facts.some((fact) => fact.what === 'loggedIn')) continue
      for (const ended of of) {
        const [mark, user] = ended.split(' ') as [string, string]
        if (marksOf(backend, user).includes(mark)) this.#found('destroyed', `${mark} is back, which ${actor} ended`)
      }
    }
  }

  /** Whether all that was stored must have been told to some client. */
  #canBeReached(): boolean {
    return (
      this.#world.injected.every(({ fault }) => fault === 'before') &&
      !this.#actors.some((actor) => this.#does(/^gone$/, actor))
    )
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
      else if (this.#canBeReached()) this.#found('ghost', `${mark} is stored, and nobody can log it out`)
    }
    if (!this.#options.maxSessionsPerUser) return
    const sessions = this.#observer()
    const { failure } = await visit(
      sessions,
      undefined,
      (_req, live) => void Object.assign(live, { mark: 'S9', user: 'ada' }),
    )
    if (failure && this.#canBeReached()) this.#found('limit', `ada cannot log in any more: ${String(failure as Error)}`)
    if (marksOf(backend, 'ada').length > this.#options.maxSessionsPerUser)
      this.#found('limit', 'the next login does not correct it')
  }
}
