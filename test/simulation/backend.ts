import session from '../../src'

interface Kept {
  readonly text: string
  readonly expires: number
  readonly version: number
}

/** What a store call asks for: the method's name, the deed, which answers at once, and what it was called with, to be shown. */
export type Gate = <T>(method: string, deed: () => T, ...asked: unknown[]) => T | Promise<T>

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

  /** The marks of the live sessions of a user. */
  marksOf(user: string): string[] {
    return this.sessions().flatMap(({ data }) => (data['user'] === user ? [data['mark'] as string] : []))
  }

  /** The data of all live sessions, as text. */
  get text(): string {
    const texts = this.sessions().map(({ data: { cookie: _cookie, ...data } }) =>
      JSON.stringify(Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1))),
    )
    return texts.sort().join('\n')
  }
}

/** A record store before a backend. */
class SimulatedStore extends session.RecordStore {
  constructor(
    public backend: Backend,
    public gate: Gate,
  ) {
    super()
  }

  read(id: string) {
    return this.gate('read', () => this.backend.read(id), id)
  }
  write(id: string, text: string, expires: number, condition: session.WriteCondition) {
    return this.gate('write', () => this.backend.write(id, text, expires, condition), id, text, condition)
  }
  renew(id: string, expires: number, from?: number) {
    return this.gate('renew', () => this.backend.renew(id, expires, from), id)
  }
  remove(id: string, version?: session.Version) {
    return this.gate('remove', () => this.backend.remove(id, version), id, version)
  }
  scan(): session.RecordPage {
    return { records: [], cursor: null }
  }
  override link(user: string, id: string) {
    return this.gate('link', () => this.backend.link(user, id), user, id)
  }
  override unlink(user: string, id: string) {
    return this.gate('unlink', () => this.backend.unlink(user, id), user, id)
  }
  override linked(user: string) {
    return this.gate('linked', () => this.backend.linked(user), user)
  }
}

type Done = (error?: unknown, result?: any) => void

/** A store of the classic contract before a backend. */
class SimulatedClassicStore extends session.Store {
  constructor(
    public backend: Backend,
    public gate: Gate,
  ) {
    super()
  }

  #call(method: string, done: Done | undefined, deed: () => unknown, ...asked: unknown[]): void {
    const answer = this.gate(method, deed, ...asked)
    if (!(answer instanceof Promise)) return void done?.(null, answer)
    answer.then(
      (result) => done?.(null, result),
      (error: unknown) => done?.(error),
    )
  }

  get(id: string, done: Done) {
    this.#call(
      'get',
      done,
      () => {
        const kept = this.backend.read(id)
        return kept ? (JSON.parse(kept.text) as session.SessionData) : undefined
      },
      id,
    )
  }
  set(id: string, data: session.SessionData, done?: Done) {
    const text = JSON.stringify(data)
    this.#call('set', done, () => void this.backend.write(id, text, endOf(data), 'always'), id, text)
  }
  override touch(id: string, data: session.SessionData, done?: Done) {
    const expires = endOf(data)
    this.#call('touch', done, () => void this.backend.renew(id, expires), id)
  }
  destroy(id: string, done?: Done) {
    this.#call('destroy', done, () => void this.backend.remove(id), id)
  }
}

function endOf(data: session.SessionData): number {
  const { expires } = data.cookie as { expires?: Date | null }
  return expires ? expires.getTime() : Date.now() + 86_400_000
}

/** Which contract a store is of. */
export type Kind = 'record' | 'classic'

export function storeOver(kind: Kind, backend: Backend, gate: Gate) {
  return kind === 'record' ? new SimulatedStore(backend, gate) : new SimulatedClassicStore(backend, gate)
}

/** For observers: every call is answered at once. */
export const openGate: Gate = (_method, deed) => deed()
