import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Request } from 'express'
import { notesOf, setNotes, storedNotes, type SessionNotes } from './cookie'
import { SessionError } from './errors'
import type { ResolvedOptions } from './options'
import type { RecordStore, SessionRecord } from './record-store'
import type { KeyedStore } from './sealed-store'
import type { LiveSession } from './session'

/** One of a user's sessions, for a page that lists them. */
export interface UserSession {
  /** Names the session towards `end`, as long as it is the user's, whatever its ID. It tells nothing about the ID. */
  readonly handle: string
  readonly created: Date
  readonly lastSeen: Date
  /** What the option `describe` recorded. */
  readonly about: unknown
  /** Whether it is the session of the request that asks. */
  readonly current: boolean
}

/** The sessions of users, by the option `user`. */
export interface UserSessionsApi {
  /** A user's live sessions, the newest first. */
  list(user: string | number, req?: IncomingMessage): Promise<UserSession[]>
  /** Ends one session of a user; false when it is none of theirs, or has ended. */
  end(user: string | number, handle: string): Promise<boolean>
  /** Ends all sessions of a user and answers how many: "log out everywhere". */
  endAll(user: string | number): Promise<number>
  /** Ends all sessions of the request's user but the request's own, and answers how many. */
  endOthers(req: IncomingMessage): Promise<number>
}

type IndexedStore = RecordStore & Required<Pick<RecordStore, 'link' | 'unlink' | 'linked'>>

const HANDLE_BYTES = 12

/** The options that bear on it. */
type UserOptions = Pick<ResolvedOptions, 'describe' | 'maxSessionsPerUser' | 'onSessionLimit'> & {
  readonly user: NonNullable<ResolvedOptions['user']>
}

interface Live {
  readonly key: string
  readonly record: SessionRecord
  readonly notes: SessionNotes
  readonly lifetime: number
}

/** Keeps the index of users' sessions, and the bound on their number. */
export class UserSessions {
  readonly #store: IndexedStore & Partial<KeyedStore>
  readonly #options: UserOptions
  readonly #max: number

  constructor(store: RecordStore, options: UserOptions) {
    if (!store.link || !store.unlink || !store.linked) {
      throw new TypeError('user option needs a store that implements link, unlink and linked; see RecordStore')
    }
    this.#store = store as IndexedStore
    this.#options = options
    this.#max = options.maxSessionsPerUser || Infinity
  }

  /** Whether sessions may be refused to users who have too many. */
  get refuses(): boolean {
    return this.#max !== Infinity && this.#options.onSessionLimit === 'refuse'
  }

  /**
   * Notes whose a session is that is about to be stored, if it has become somebody's or somebody else's; else there is
   * nothing to wait for.
   * @throws SessionError when the user has too many sessions and none is to be ended for it
   */
  note(session: LiveSession, notes: SessionNotes, req: IncomingMessage): Promise<void> | undefined {
    const { describe, user: userOf } = this.#options
    const { id } = session
    const given = userOf(session)
    const user = given === null || given === undefined ? undefined : String(given)
    const before = notes.user
    if (before === user) return undefined
    setNotes(session.cookie, notes)
    const leave = async (): Promise<void> => (before === undefined ? undefined : this.unlink(before, id))
    if (user === undefined) {
      delete notes.user
      return leave()
    }
    notes.user = user
    notes.handle = randomBytes(HANDLE_BYTES).toString('base64url')
    notes.created ??= Date.now()
    if (describe) notes.about = describe(req as Request)
    return this.#add(user, id, this.#store.expiresOf(session)).then(leave, (error: unknown) => {
      if (before === undefined) delete notes.user
      else notes.user = before
      throw error
    })
  }

  /**
   * Notes that a session is about to become the user's; noted before the session is stored, so that none is missed.
   * @throws SessionError when the user has too many sessions and none is to be ended for it
   */
  async #add(user: string, id: string, expires: number): Promise<void> {
    await this.#store.link(user, id, expires)
    if (!this.refuses) return
    const others = await this.#others(user, id)
    if (others.length < this.#max) return
    await this.#store.unlink(user, id)
    throw this.#tooMany(others.length)
  }

  /**
   * Bounds the number of the user's sessions, when the new one is stored: of several that log in at the same time, the
   * last to get here sees all of them.
   * @throws SessionError when there are too many and none is to be ended for the new one, which is ended itself then
   */
  async bound(user: string, id: string): Promise<void> {
    if (this.#max === Infinity) return
    const others = await this.#others(user, id)
    if (others.length < this.#max) return
    if (this.#options.onSessionLimit === 'refuse') {
      await this.#end(user, this.#keyOf(id))
      throw this.#tooMany(others.length)
    }
    for (const { key } of others.slice(this.#max - 1)) await this.#end(user, key)
  }

  async #others(user: string, id: string): Promise<Live[]> {
    const own = this.#keyOf(id)
    return (await this.#live(user)).filter(({ key }) => key !== own)
  }

  #tooMany(count: number): SessionError {
    return new SessionError('ERR_SESSION_LIMIT', `this user has ${count} sessions, and may have ${this.#max}`)
  }

  /** Has the index keep a session that lives on, where entries end by themselves. */
  async renew(user: string, id: string, expires: number): Promise<void> {
    if (this.#store.linksExpire) await this.#store.link(user, id, expires)
  }

  /** Enters a session that is about to be stored under another ID; it is no new one, whatever the bound. */
  async link(user: string, id: string, expires: number): Promise<void> {
    await this.#store.link(user, id, expires)
  }

  /** Enters a session under the ID that it has by now. */
  async move(user: string, from: string, to: string, expires: number): Promise<void> {
    await this.#store.link(user, to, expires)
    await this.#store.unlink(user, from)
  }

  async unlink(user: string, id: string): Promise<void> {
    await this.#store.unlink(user, id)
  }

  async list(user: string, currentId: string | undefined): Promise<UserSession[]> {
    const current = currentId === undefined ? undefined : this.#keyOf(currentId)
    return (await this.#live(user)).map(({ key, record, notes, lifetime }) => ({
      handle: handleOf(key, notes),
      created: new Date(notes.created ?? record.expires - lifetime),
      lastSeen: new Date(Math.max(notes.seen ?? 0, record.expires - lifetime)),
      about: notes.about,
      current: key === current,
    }))
  }

  /** A session that goes on under another ID just then may be missed at one look, and is found at the next. */
  async end(user: string, handle: string): Promise<boolean> {
    let ended = false
    for (let misses = 0; misses < 2;) {
      const found = (await this.#live(user)).find(({ key, notes }) => handleOf(key, notes) === handle)
      if (found && (await this.#end(user, found.key))) ended = true
      else misses++
    }
    return ended
  }

  /**
   * A session that goes on under another ID just then is among the keys that are new at the next look; or it is in the
   * index and not yet stored, but is when its old ID is gone.
   */
  async endAllBut(user: string, keptId: string | undefined): Promise<number> {
    const seen = new Set(keptId === undefined ? [] : [this.#keyOf(keptId)])
    const missing: string[] = []
    let ended = 0
    for (;;) {
      const keys = (await this.#store.linked(user)).filter((key) => !seen.has(key))
      if (keys.length === 0) break
      for (const key of keys) {
        seen.add(key)
        if (await this.#end(user, key)) ended++
        else missing.push(key)
      }
    }
    for (const key of missing) if (await this.#end(user, key)) ended++
    return ended
  }

  /** What is not there stays in the index: it may be about to be stored. If it is not, it leaves when the store prunes. */
  async #end(user: string, key: string): Promise<boolean> {
    const store = this.#store
    const ended = await (store.removeKey ? store.removeKey(key) : store.remove(key))
    if (ended) await (store.unlinkKey ? store.unlinkKey(user, key) : store.unlink(user, key))
    return ended
  }

  /** The user's sessions that are still there, the newest first. What is gone leaves the index when the store prunes. */
  async #live(user: string): Promise<Live[]> {
    const store = this.#store
    const live: Live[] = []
    for (const key of await store.linked(user)) {
      const record = await (store.readKey ? store.readKey(key) : store.read(key))
      const data = record && store.parse(key, record)
      const notes = data ? storedNotes(data.cookie) : undefined
      if (!record || notes?.user !== user) continue
      live.push({ key, record, notes, lifetime: data?.cookie.originalMaxAge ?? store.ttl })
    }
    return live.sort((a, b) => (b.notes.created ?? 0) - (a.notes.created ?? 0))
  }

  #keyOf(id: string): string {
    return this.#store.keyOf ? this.#store.keyOf(id) : id
  }
}

/** Made when the session became the user's; before there were handles, its key. */
function handleOf(key: string, { handle }: SessionNotes): string {
  return handle ?? key
}

/** What applications see of it. */
export function userSessionsApi(
  users: UserSessions,
  sessionOf: (req: IncomingMessage) => { id: string; cookie: object } | undefined,
): UserSessionsApi {
  return {
    list: (user, req) => users.list(String(user), req && sessionOf(req)?.id),
    end: (user, handle) => users.end(String(user), handle),
    endAll: (user) => users.endAllBut(String(user), undefined),
    async endOthers(req) {
      const session = sessionOf(req)
      const user = session && notesOf(session.cookie)?.user
      return user === undefined ? 0 : users.endAllBut(user, session?.id)
    },
  }
}
