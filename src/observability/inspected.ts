import { isUnreadable, shortened } from '../base/errors'
import { handleOf } from '../features/users/user-index'
import type { KeyedStore } from '../features/sealing/sealed-store'
import type { Settings } from '../request/settings'
import { storedNotes, type SessionNotes } from '../session/notes'
import { endOf, isRecordStore, type RecordStore } from '../store/record-store'
import type { Sessions } from '../sessions'

/** A session as the inspector shows it. Nothing here opens it, and nothing is a value of its data. Times are ms since the epoch. */
export interface InspectedSession {
  /** Identifies the session, and reveals nothing of its ID. */
  readonly handle: string
  /** The beginning of its key in the store. */
  readonly key: string
  /** By the option `user`. */
  readonly user: string | undefined
  /** By the option `describe`. */
  readonly about: unknown
  readonly created: number | undefined
  readonly seen: number | undefined
  readonly ends: number | undefined
  /** The size of its record, in bytes; without encryption. */
  readonly bytes: number
  /** The names of its data. */
  readonly data: readonly string[]
  /** What has become of it lately, and why, in this process. */
  readonly last: Happening | undefined
}

/** What has happened to a session. */
export interface Happening {
  readonly at: number
  readonly what: string
  readonly why: string
}

/** A session that has ended while somebody was looking. */
export type EndedSession = InspectedSession & { readonly ended: Happening }

export interface Snapshot {
  /** The most recently seen first. */
  readonly live: readonly InspectedSession[]
  /** The latest first. */
  readonly ended: readonly EndedSession[]
  /** Whether there are more than are shown. */
  readonly hasMore: boolean
  /** Whether these are only the sessions of which this process has had a request, as a classic store cannot list its own. */
  readonly isPartial: boolean
}

/** What is known of a session; its ID, as this process knows it, is for nobody else. */
type Row = InspectedSession & { readonly id: string }

interface Found {
  readonly found: readonly Row[]
  readonly hasMore: boolean
}

/** How many of those that have ended are kept. */
const MOST_ENDED = 50

/** What there is to know of the sessions of a middleware. It keeps what has happened to the last `limit` that had a request. */
export class Inspected {
  readonly #sessions: Sessions
  readonly #settings: Settings
  readonly #limit: number
  readonly #onChange: () => void
  /** By key, those to which something has happened last at the end. */
  readonly #happened = new Map<string, Happening>()
  #live = new Map<string, Row>()
  #ended: EndedSession[] = []

  /** @param onChange is called when something has happened to a session, perhaps very often */
  constructor(sessions: Sessions, settings: Settings, limit: number, onChange: () => void) {
    this.#sessions = sessions
    this.#settings = settings
    this.#limit = limit
    this.#onChange = onChange
    const { events } = sessions
    events.on('decided', ({ id, action, why, cookie }) =>
      this.#note(id, action, cookie === undefined ? why : `${why}; its cookie is sent: ${cookie}`),
    )
    events.on('renewed', ({ id }) => this.#note(id, 'renew', 'its client is given a new token'))
    events.on('staleId', ({ id }) =>
      this.#note(id, 'stale token', 'a token that was replaced was used: perhaps stolen'),
    )
    events.on('conflict', ({ id, merged }) =>
      this.#note(
        id,
        'conflict',
        `another request had changed it, ${merged ? 'and both changes are kept' : 'and is written over'}`,
      ),
    )
    events.on('expired', ({ id, reason }) => this.#end(this.#keyOf(id), 'expired', `by the ${reason} timeout`))
    // Of one that was ended by its user's list, the key is known and not the ID.
    events.on('destroyed', ({ id }) =>
      this.#end(
        this.#live.has(id) ? id : this.#keyOf(id),
        'destroyed',
        'by the application: a logout, or users.endAll',
      ),
    )
  }

  /** @throws what the store fails with */
  async snapshot(): Promise<Snapshot> {
    const { store } = this.#settings
    const before = this.#live
    const isPartial = !isRecordStore(store)
    const { found, hasMore } = isPartial ? await this.#thoseSeen() : await this.#thoseIn(store)
    this.#live = new Map(found.map((one) => [one.key, one]))
    if (!hasMore) {
      for (const [key, { ends = Infinity }] of before) {
        if (this.#live.has(key) || this.#hasEnded(key)) continue
        if (ends <= Date.now()) this.#end(key, 'expired', 'its lifetime is over', before)
        else this.#end(key, 'gone', 'ended by another process, or by a login beyond maxSessionsPerUser', before)
      }
    }
    const live = found.map((one) => this.#shown(one)).sort((a, b) => (b.seen ?? 0) - (a.seen ?? 0))
    return { live, ended: this.#ended, hasMore, isPartial }
  }

  /** Ends the session with this handle; false when it was not in the last snapshot. */
  async end(handle: string): Promise<boolean> {
    const found = [...this.#live.values()].find((one) => one.handle === handle)
    if (!found) return false
    await this.#sessions.destroy(found.id)
    this.#ended = this.#ended.map((one) =>
      one.handle === handle ? { ...one, ended: { ...one.ended, why: 'by whoever looks at this page' } } : one,
    )
    return true
  }

  #keyOf(id: string): string {
    return (this.#settings.store as Partial<KeyedStore>).keysOf?.(id)[0] ?? id
  }

  #note(id: string, what: string, why: string): void {
    const key = this.#keyOf(id)
    this.#happened.delete(key)
    this.#happened.set(key, { at: Date.now(), what, why })
    const [oldest] = this.#happened.keys()
    if (this.#happened.size > this.#limit) this.#happened.delete(oldest as string)
    this.#onChange()
  }

  #hasEnded(key: string): boolean {
    return this.#ended.some(({ handle }) => handle === handleOf(key))
  }

  #end(key: string, what: string, why: string, known = this.#live): void {
    const session = known.get(key)
    // One that nobody has seen, as the empty one that a login replaces.
    if (!session) return
    const ended = { ...this.#shown(session), ended: { at: Date.now(), what, why } }
    this.#happened.delete(key)
    this.#ended = [ended, ...this.#ended].slice(0, MOST_ENDED)
    this.#onChange()
  }

  async #thoseIn(store: RecordStore & Partial<KeyedStore>): Promise<Found> {
    const found: Row[] = []
    for await (const { id: key, ...record } of store.records()) {
      if (found.length === this.#limit) return { found, hasMore: true }
      const data = readable(() => store.parse(key, record))
      const id = store.idOf?.(key) ?? key
      found.push(
        this.#row(
          key,
          id,
          data,
          readable(() => storedNotes(data.cookie ?? {})),
          record.expires,
          Buffer.byteLength(record.text),
        ),
      )
    }
    return { found, hasMore: false }
  }

  async #thoseSeen(): Promise<Found> {
    const access = this.#settings.access()
    const found = await Promise.all(
      [...this.#happened.keys()].map(async (id) => {
        const known = await access.load(id)
        if (!known) return []
        const data = access.dataOf(id, known)
        return [this.#row(id, id, data, known.notes, endOf(data), Buffer.byteLength(JSON.stringify(data)))]
      }),
    )
    return { found: found.flat(), hasMore: false }
  }

  #row(
    key: string,
    id: string,
    stored: object,
    notes: SessionNotes | undefined,
    ends: number | undefined,
    bytes: number,
  ): Row {
    const { cookie, ...data } = stored as { cookie?: { originalMaxAge?: number | null } }
    const began = ends === undefined ? undefined : ends - (cookie?.originalMaxAge ?? this.#settings.ttl)
    return {
      id,
      key,
      handle: handleOf(key),
      user: notes?.user,
      about: notes?.about,
      created: notes?.created,
      seen: notes?.seen ?? began,
      ends,
      bytes,
      data: Object.keys(data),
      last: undefined,
    }
  }

  #shown({ id, ...session }: Row): InspectedSession {
    const last = this.#happened.get(session.key)
    const seen = Math.max(session.seen ?? 0, last?.at ?? 0)
    return { ...session, key: shortened(session.key), last, seen: seen || undefined }
  }
}

/** What of a record can be read: that of one that is no session, or was encrypted by another key, is nothing. */
function readable<T extends object>(read: () => T | undefined): Partial<T> {
  try {
    return read() ?? {}
  } catch (error) {
    if (isUnreadable(error)) return {}
    throw error
  }
}
