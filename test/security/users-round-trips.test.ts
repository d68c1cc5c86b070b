import { expect, test } from 'vitest'
import session from '../../src'
import { appWithSessions } from '../faults/fault'
import { visitAndSettle, type Jar } from '../support/browser'

/** Answers what is asked in one turn of the event loop together in the next, as a server does, and counts the turns. */
class FarStore extends session.RecordStore {
  rounds = 0
  readonly asked: string[] = []
  readonly memory = new session.MemoryStore()
  #waiting: Array<() => void> = []

  async #answer<T>(what: string, answer: () => T): Promise<T> {
    this.asked.push(what)
    await new Promise<void>((resolve) => {
      this.#waiting.push(resolve)
      if (this.#waiting.length === 1) setImmediate(() => setImmediate(() => this.#round()))
    })
    return answer()
  }

  #round(): void {
    this.rounds++
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  read = (id: string) => this.#answer('read', () => this.memory.read(id))
  write = (...args: Parameters<session.MemoryStore['write']>) => this.#answer('write', () => this.memory.write(...args))
  renew = (id: string, expires: number) => this.#answer('renew', () => this.memory.renew(id, expires))
  remove = (id: string) => this.#answer('remove', () => this.memory.remove(id))
  scan = () => this.#answer('scan', () => this.memory.scan(null, 100))
  override link = (user: string, id: string) => this.#answer('link', () => this.memory.link(user, id))
  override unlink = (user: string, id: string) => this.#answer('unlink', () => this.memory.unlink(user, id))
  override linked = (user: string) => this.#answer('linked', () => this.memory.linked(user))
  override readMany = (ids: readonly string[]) =>
    this.#answer(`readMany ${ids.length}`, () => ids.map((id) => this.memory.read(id)))
  override removeLinked = (user: string, ids: readonly string[]) =>
    this.#answer(`removeLinked ${ids.length}`, () => {
      for (const id of ids) this.memory.unlink(user, id)
      return ids.map((id) => this.memory.remove(id))
    })
}

function appOn(store: session.Store, options: session.SessionOptions) {
  const user = (one: object): string | undefined => (one as { user?: string }).user
  const { app, sessions } = appWithSessions({ store, user, ...options }, (req, res) => {
    if (req.url === '/login') (req.session).user = 'ada'
    res.send(String((req.session).user))
  })
  return { go: async (url: string, jar: Jar) => (await visitAndSettle(app, url, jar)).body, sessions }
}

async function costOf(store: FarStore, work: () => Promise<unknown>): Promise<[number, string[]]> {
  store.rounds = 0
  store.asked.length = 0
  await work()
  return [store.rounds, [...store.asked]]
}

test('a login takes three round trips where the number is limited, below the limit and at it', async () => {
  const store = new FarStore()
  const { go, sessions } = appOn(store, { maxSessionsPerUser: 3 })
  const below = ['linked', 'link', 'write', 'linked']
  for (let n = 0; n < 3; n++) expect(await costOf(store, () => go('/login', {}))).toEqual([3, below])
  for (let n = 0; n < 3; n++) {
    const at = ['linked', 'link', 'readMany 3', 'write', 'linked', 'removeLinked 1']
    expect(await costOf(store, () => go('/login', {}))).toEqual([3, at])
    expect(await sessions.users.list('ada')).toHaveLength(3)
  }
})

test('many sessions are read and ended in steps of 200, and one is ended by reading that one', async () => {
  const store = new FarStore()
  const { go, sessions } = appOn(store, {})
  for (let n = 0; n < 450; n++) await go('/login', {})
  const pages = (method: string): string[] => [200, 200, 50].map((count) => `${method} ${count}`)
  expect(await costOf(store, () => sessions.users.list('ada'))).toEqual([4, ['linked', ...pages('readMany')]])
  const [first] = await sessions.users.list('ada')
  const end = (): Promise<unknown> => sessions.users.end('ada', first?.handle ?? '')
  expect(await costOf(store, end)).toEqual([3, ['linked', 'readMany 1', 'removeLinked 1']])
  const login = appOn(store, { maxSessionsPerUser: 5 })
  const jar: Jar = {}
  await login.go('/login', jar)
  expect(await login.go('/me', jar)).toBe('ada')
  expect(await login.sessions.users.list('ada')).toHaveLength(5)
  expect(await sessions.users.endAll('ada')).toBe(5)
})
