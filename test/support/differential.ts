import type { IncomingMessage, ServerResponse } from 'node:http'
import express, { type Request, type RequestHandler, type Response } from 'express'
import type session from '../../src'
import { SECRET, settled, type SessionFactory } from './app'
import { exchange, type Received } from './exchange'
import { cookieHeader, signedCookie } from './set-cookie'

/** One point of the option space. */
export interface Combination {
  readonly resave: boolean
  readonly saveUninitialized: boolean
  readonly rolling: boolean
  readonly unset: 'keep' | 'destroy'
  readonly cookie: 'without maxAge' | 'with maxAge'
  readonly handler: keyof typeof handlers
  readonly request: (typeof REQUESTS)[number]
  readonly store: keyof typeof stores
  readonly answer: 'send' | 'end'
}

/** What an application, its store and its user can see of one request and of the next one. */
export interface Outcome {
  status: number
  /** By name. */
  headers: [name: string, value: string][]
  body: string
  /** The calls of the store, what the handler was told, and the end of the response, in their order. */
  events: string[]
  /** What the store holds after it, by ID. */
  records: Record<string, unknown>
  /** The next request, with the cookie that the browser has then. */
  next: { status: number; setCookie: boolean; body: string }
}

const MAX_AGE = 60_000
const REQUESTS = ['no cookie', 'valid', 'expired', 'forged', 'unknown ID'] as const

type Data = session.SessionData & { [key: string]: unknown }
type Done = (what?: string) => void
type Handler = (req: Request & { session: Data }, log: (event: string) => void, done: Done) => void

function told(log: (event: string) => void, what: string, then: () => void): (error?: unknown) => void {
  return (error) => {
    log(error ? `${what} failed: ${(error as Error).message}` : what)
    then()
  }
}

const handlers = {
  nothing: (_req, _log, done) => done(),
  reads: (req, _log, done) => done(`${String(req.session.views)} ${req.sessionID === req.session.id}`),
  writes: (req, _log, done) => {
    req.session.views = Number(req.session.views ?? 0) + 1
    done()
  },
  'writes the same value': (req, _log, done) => {
    const { views } = req.session
    req.session.views = views
    done()
  },
  'deletes its only key': (req, _log, done) => {
    delete req.session.views
    done()
  },
  regenerates: (req, log, done) => req.session.regenerate(told(log, 'regenerated', done)),
  'regenerates and writes': (req, log, done) =>
    req.session.regenerate(
      told(log, 'regenerated', () => {
        req.session.user = 'ada'
        done()
      }),
    ),
  'regenerates, writes and saves': (req, log, done) =>
    req.session.regenerate(
      told(log, 'regenerated', () => {
        req.session.user = 'ada'
        req.session.save(told(log, 'saved', done))
      }),
    ),
  destroys: (req, log, done) => req.session.destroy(told(log, 'destroyed', done)),
  'deletes req.session': (req, _log, done) => {
    delete (req as { session?: unknown }).session
    done()
  },
  'sets req.session to null': (req, _log, done) => {
    ;(req as { session?: unknown }).session = null
    done()
  },
  'sets cookie.maxAge': (req, _log, done) => {
    req.session.cookie.maxAge = 3 * MAX_AGE
    done()
  },
  'sets cookie.expires to null': (req, _log, done) => {
    req.session.cookie.expires = null
    done()
  },
  'sets cookie.sameSite and writes': (req, _log, done) => {
    req.session.cookie.sameSite = 'lax'
    req.session.views = 100
    done()
  },
  'saves unchanged': (req, log, done) => void req.session.save(told(log, 'saved', done)),
  'writes and saves': (req, log, done) => {
    req.session.views = 100
    req.session.save(told(log, 'saved', done))
  },
  'saves, then writes': (req, log, done) =>
    void req.session.save(
      told(log, 'saved', () => {
        req.session.views = 100
        done()
      }),
    ),
  reloads: (req, log, done) => void req.session.reload(told(log, 'reloaded', () => done(String(req.session?.views)))),
  'writes, reloads and writes': (req, log, done) => {
    req.session.lost = true
    req.session.reload(
      told(log, 'reloaded', () => {
        req.session.views = 100
        done(String(req.session.lost))
      }),
    )
  },
  'reloads what another request wrote': (req, _log, done) => {
    if (req.session.views === undefined) return done()
    const theirs = { ...req.session, views: 77 }
    req.sessionStore.set(req.sessionID, theirs, () => void req.session.reload(() => done(String(req.session.views))))
  },
  'writes while another request writes': (req, _log, done) => {
    if (req.session.views === undefined) return done()
    req.session.mine = true
    req.sessionStore.get(req.sessionID, (_error, found) =>
      req.sessionStore.set(req.sessionID, { ...(found as Data), theirs: true } as never, () => done()),
    )
  },
  'writes while another request destroys': (req, _log, done) => {
    if (req.session.views === undefined) return done()
    req.session.mine = true
    req.sessionStore.destroy(req.sessionID, () => done())
  },
  touches: (req, _log, done) => {
    req.session.touch()
    done()
  },
  'loads it from the store': (req, log, done) =>
    req.sessionStore.load(req.sessionID, (error, found) => {
      log(error ? 'load failed' : found ? `loaded ${String((found as Data).views)}` : 'nothing to load')
      done()
    }),
  'makes the ID unusable': (req, _log, done) => {
    ;(req as { sessionID: unknown }).sessionID = 42
    done()
  },
} satisfies Record<string, Handler>

type Callback = (error?: any, value?: any) => void
type Log = (event: string) => void
type MakeStore = (session: SessionFactory, log: Log) => session.Store

interface Manners {
  readonly reply: (callback: Callback | undefined, value?: unknown) => void
  readonly touch: boolean
  readonly checksExpiry: boolean
}

/** A store as others write them, on the base class of the implementation under test, that tells of every call. */
function classicStore({ reply, touch, checksExpiry }: Manners): MakeStore {
  return ({ Store }, log) => {
    const records = new Map<string, string>()
    class ClassicStore extends Store {
      get(id: string, callback: Callback): void {
        log(`get ${id}`)
        const text = records.get(id)
        const data = text && (JSON.parse(text) as Data)
        const expires = data ? ((data.cookie as { expires?: unknown }).expires as string) : undefined
        const ended = checksExpiry && expires && Date.parse(expires) <= Date.now()
        reply(callback, ended ? undefined : data)
      }
      set(id: string, data: Data, callback?: Callback): void {
        log(`set ${id}`)
        records.set(id, JSON.stringify(data))
        reply(callback)
      }
      destroy(id: string, callback?: Callback): void {
        log(`destroy ${id}`)
        records.delete(id)
        reply(callback)
      }
      override all(callback: Callback): void {
        reply(callback, Object.fromEntries([...records].map(([id, text]) => [id, JSON.parse(text) as Data])))
      }
    }
    const store = new ClassicStore()
    if (!touch) return store
    return Object.assign(store, {
      touch(id: string, data: Data, callback?: Callback) {
        log(`touch ${id}`)
        const text = records.get(id)
        if (text) records.set(id, JSON.stringify({ ...(JSON.parse(text) as Data), cookie: data.cookie }))
        reply(callback)
      },
    })
  }
}

const later: Manners['reply'] = (callback, value) => void (callback && setImmediate(callback, null, value))
const atOnce: Manners['reply'] = (callback, value) => callback?.(null, value)

const stores = {
  memory: ({ MemoryStore }) => new MemoryStore(),
  classic: classicStore({ reply: later, touch: true, checksExpiry: true }),
  'touch-less': classicStore({ reply: later, touch: false, checksExpiry: true }),
  synchronous: classicStore({ reply: atOnce, touch: true, checksExpiry: false }),
} satisfies Record<string, MakeStore>

const keys = <T extends object>(object: T): (keyof T)[] => Object.keys(object) as (keyof T)[]
const BOTH = [false, true] as const

/** All combinations. `end` in place of `send` shows the bare response; one store is enough for that. */
export function* combinations(): Generator<Combination> {
  for (const store of keys(stores))
    for (const answer of store === 'memory' ? (['send', 'end'] as const) : (['send'] as const))
      for (const handler of keys(handlers))
        for (const request of REQUESTS)
          for (const cookie of ['without maxAge', 'with maxAge'] as const)
            for (const unset of ['keep', 'destroy'] as const)
              for (const resave of BOTH)
                for (const saveUninitialized of BOTH)
                  for (const rolling of BOTH)
                    yield { resave, saveUninitialized, rolling, unset, cookie, handler, request, store, answer }
}

/** One Express app for many combinations, as making one takes longer than a request. */
const apps = new Map<Combination['answer'], ScriptedApp>()

function appThat(answer: Combination['answer']): ScriptedApp {
  const app = apps.get(answer) ?? new ScriptedApp(answer)
  apps.set(answer, app)
  return app
}

/** Runs the requests of one combination against one implementation. */
export async function outcomeOf(implementation: SessionFactory, combination: Combination): Promise<Outcome> {
  const { handler, request, store: kind, answer, cookie, ...options } = combination
  const maxAge = cookie === 'with maxAge' ? MAX_AGE : null
  const events: string[] = []
  const store = stores[kind](implementation, (event) => events.push(event))
  await seed(store, maxAge)
  events.length = 0

  const middleware = implementation({
    ...options,
    secret: SECRET,
    store,
    ...(maxAge === null ? {} : { cookie: { maxAge } }),
  })
  const app = appThat(answer)
  const headers = cookieFor(request)
  const first = await app.run({ middleware, handler: handlers[handler] as Handler, log: events }, headers)
  const told = [...events]
  const records = await allOf(store)
  const browserHas = cookieHeader(Object.fromEntries(first.headers.filter(([name]) => name === 'set-cookie')))
  const next = await app.run({ middleware, handler: shows, log: events }, browserHas ? { cookie: browserHas } : headers)

  const names = new Names()
  return {
    ...(names.replace({ headers: sorted(first.headers), events: told, body: first.body, records }) as Outcome),
    status: first.status,
    next: {
      status: next.status,
      setCookie: next.headers.some(([name]) => name === 'set-cookie'),
      body: names.replace(next.body) as string,
    },
  }
}

function sorted(headers: Outcome['headers']): Outcome['headers'] {
  return [...headers].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
}

const shows: Handler = (req, _log, done) => done(`${req.sessionID} ${JSON.stringify({ ...req.session, cookie: 0 })}`)

/** What an app does with one request. */
interface Script {
  readonly middleware: RequestHandler
  readonly handler: Handler
  readonly log: string[]
}

class ScriptedApp {
  #script!: Script
  readonly #app = express()

  constructor(answer: Combination['answer']) {
    this.#app.disable('x-powered-by')
    this.#app.use((req, res, next) => this.#script.middleware(req, res, next))
    this.#app.use((req: Request, res: Response) => {
      const { handler, log } = this.#script
      handler(
        req as Request & { session: Data },
        (event) => log.push(event),
        (what = 'done') => (answer === 'send' ? res.send(what) : res.end(what)),
      )
    })
    this.#app.use((error: Error, _req: Request, res: Response, _next: unknown) => {
      this.#script.log.push(`error: ${error.message}`)
      if (!res.headersSent) res.status(500).send(error.name)
    })
  }

  async run(script: Script, headers: Record<string, string>): Promise<Received> {
    this.#script = script
    const received = await exchange(
      (req: IncomingMessage, res: ServerResponse) => {
        res.once('finish', () => script.log.push('finish'))
        this.#app(req as Request, res as Response)
      },
      { headers },
    )
    await settled(3)
    return received
  }
}

async function seed(store: session.Store, maxAge: number | null): Promise<void> {
  const record = (age: number | null, expires: number | null): Data => ({
    cookie: {
      originalMaxAge: age,
      expires: expires === null ? null : new Date(Date.now() + expires),
      httpOnly: true,
      path: '/',
    } as never,
    views: 5,
  })
  await put(store, 'valid-id', record(maxAge, maxAge === null ? null : maxAge / 2))
  await put(store, 'expired-id', record(2000, -1000))
}

function put(store: session.Store, id: string, data: Data): Promise<void> {
  return new Promise((resolve, reject) => store.set(id, data, (error) => (error ? reject(error as Error) : resolve())))
}

function allOf(store: session.Store): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) =>
    store.all?.((error, all) => (error ? reject(error as Error) : resolve({ ...(all as Record<string, unknown>) }))),
  )
}

function cookieFor(request: Combination['request']): Record<string, string> {
  switch (request) {
    case 'no cookie':
      return {}
    case 'forged':
      return { cookie: signedCookie('valid-id', 'another secret') }
    default:
      return { cookie: signedCookie(`${request.split(' ', 1)[0]}-id`, SECRET) }
  }
}

/** Replaces what differs by chance: IDs by the order in which they appear, signatures, and times, which are rounded. */
class Names {
  readonly #ids = new Map<string, string>()
  readonly #now = Date.now()

  replace(value: unknown): unknown {
    if (typeof value === 'string') return this.#text(value)
    if (value instanceof Date) return this.#distance(value.getTime())
    if (Array.isArray(value)) return value.map((item) => this.replace(item))
    if (typeof value === 'number' && value > 1000) return Math.round(value / 1000) * 1000
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [this.#text(key), this.replace(item)]))
  }

  #text(text: string): string {
    if (/^\d{4}-\d\d-\d\dT/.test(text)) return this.#distance(Date.parse(text))
    return text
      .replace(/Expires=([^;]+)/, (_, date: string) => `Expires=${this.#distance(Date.parse(date))}`)
      .replace(/(s%3A[\w-]+)\.[\w%]+/, '$1.signature')
      .replace(/(?<![\w-])[\w-]{32}(?![\w-])/g, (id) => this.#name(id))
      .replace(/(?<=s%3A)[\w-]{32}(?=\.)/, (id) => this.#name(id))
  }

  #name(id: string): string {
    let name = this.#ids.get(id)
    if (!name) this.#ids.set(id, (name = `new-${this.#ids.size + 1}`))
    return name
  }

  /** In steps of 10 s, as a cookie's date has whole seconds. */
  #distance(time: number): string {
    return `in ${Math.round((time - this.#now) / 10_000) * 10} s`
  }
}
