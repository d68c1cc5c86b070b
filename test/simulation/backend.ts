import session from '../../src'

interface Kept {
  readonly text: string
  readonly expires: number
  readonly version: number
}

/** What a store call asks for: the method's name, and the deed, which answers at once. */
export type Gate = <T>(method: string, deed: () => T) => T | Promise<T>

/** The data of a session, as tests look at it. */
export type Data = Record<string, any>

/** What a database keeps, by the rules of the record contract. Several stores, each of its own process, may share it. */
export class Backend {
  #records = new Map<string, Kept>()
  #links = new Map<string, Set<string>>()
  #versions = 0

  copy(): Backend {
    const copy = new Backend()
    copy.#records = new Map(this.#records)
    copy.#links = new Map([...this.#links].map(([user, ids]) => [user, new Set(ids)]))
    copy.#versions = this.#versions
    return copy
  }

  read(id: string): Kept | null {
    const kept = this.#records.get(id)
    return kept && kept.expires > Date.now() ? kept : null
  }

  write(id: string, text: string, expires: number, condition: session.WriteCondition): number | null {
    const live = this.read(id)
    if (condition === 'absent' && live) return null
    if (condition === 'present' && !live) return null
    if (typeof condition === 'object' && live?.version !== condition.version) return null
    const version = ++this.#versions
    this.#records.set(id, { text, expires, version })
    return version
  }

  renew(id: string, expires: number, from?: number): boolean {
    const live = this.read(id)
    if (!live || (from !== undefined && live.expires !== from)) return false
    this.#records.set(id, { ...live, expires })
    return true
  }

  remove(id: string, version?: session.Version): boolean {
    const live = this.read(id)
    if (!live || (version !== undefined && live.version !== version)) return false
    return this.#records.delete(id)
  }

  link(user: string, id: string): void {
    const ids = this.#links.get(user)
    if (ids) ids.add(id)
    else this.#links.set(user, new Set([id]))
  }

  unlink(user: string, id: string): void {
    this.#links.get(user)?.delete(id)
  }

  linked(user: string): string[] {
    return [...(this.#links.get(user) ?? [])]
  }

  /** The live sessions: those that a simulated program has marked. */
  sessions(): { id: string; data: Data }[] {
    const live: { id: string; data: Data }[] = []
    for (const [id, { text, expires }] of this.#records) {
      if (expires <= Date.now()) continue
      const data = JSON.parse(text) as Data
      if (data['mark'] !== undefined) live.push({ id, data })
    }
    return live
  }

  /** What the index names and no store has. */
  deadLinks(): string[] {
    return [...this.#links].flatMap(([user, ids]) => [...ids].filter((id) => !this.read(id)).map(() => user))
  }
}

/** A record store before a backend. */
class SimulatedStore extends session.RecordStore {
  readonly #backend: Backend
  readonly #gate: Gate

  constructor(backend: Backend, gate: Gate) {
    super()
    this.#backend = backend
    this.#gate = gate
  }

  read(id: string) {
    return this.#gate('read', () => this.#backend.read(id))
  }
  write(id: string, text: string, expires: number, condition: session.WriteCondition) {
    return this.#gate('write', () => this.#backend.write(id, text, expires, condition))
  }
  renew(id: string, expires: number, from?: number) {
    return this.#gate('renew', () => this.#backend.renew(id, expires, from))
  }
  remove(id: string, version?: session.Version) {
    return this.#gate('remove', () => this.#backend.remove(id, version))
  }
  scan(): session.RecordPage {
    return { records: [], cursor: null }
  }
  override link(user: string, id: string) {
    return this.#gate('link', () => this.#backend.link(user, id))
  }
  override unlink(user: string, id: string) {
    return this.#gate('unlink', () => this.#backend.unlink(user, id))
  }
  override linked(user: string) {
    return this.#gate('linked', () => this.#backend.linked(user))
  }
}

type Done = (error?: unknown, result?: any) => void

/** A store of the classic contract before a backend. */
class SimulatedClassicStore extends session.Store {
  readonly #backend: Backend
  readonly #gate: Gate

  constructor(backend: Backend, gate: Gate) {
    super()
    this.#backend = backend
    this.#gate = gate
  }

  #call(method: string, done: Done | undefined, deed: () => unknown): void {
    const answer = this.#gate(method, deed)
    if (!(answer instanceof Promise)) return void done?.(null, answer)
    answer.then(
      (result) => done?.(null, result),
      (error: unknown) => done?.(error),
    )
  }

  get(id: string, done: Done) {
    this.#call('get', done, () => {
      const kept = this.#backend.read(id)
      return kept ? (JSON.parse(kept.text) as session.SessionData) : undefined
    })
  }
  set(id: string, data: session.SessionData, done?: Done) {
    const text = JSON.stringify(data)
    this.#call('set', done, () => void this.#backend.write(id, text, endOf(data), 'always'))
  }
  override touch(id: string, data: session.SessionData, done?: Done) {
    const expires = endOf(data)
    this.#call('touch', done, () => void this.#backend.renew(id, expires))
  }
  destroy(id: string, done?: Done) {
    this.#call('destroy', done, () => void this.#backend.remove(id))
  }
}

function endOf(data: session.SessionData): number {
  const { expires } = data.cookie as { expires?: Date | null }
  return expires ? expires.getTime() : Date.now() + 86_400_000
}

export function storeOver(kind: 'record' | 'classic', backend: Backend, gate: Gate): session.Store {
  return kind === 'record' ? new SimulatedStore(backend, gate) : new SimulatedClassicStore(backend, gate)
}

/** For observers: every call is answered at once. */
export const openGate: Gate = (_method, deed) => deed()
