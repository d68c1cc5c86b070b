import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Request } from 'express'
import type session = require('../../index')
import { notesOf, setNotes, storedNotes, type SessionNotes } from '../../session/cookie'
import { OptionError, SessionError } from '../../base/errors'
import { InThisProcess } from '../../store/in-this-process'
import { timeoutOf, type Lifetimes } from '../timeouts/lifetimes'
import { isPromise, type MaybePromise } from '../../base/maybe-promise'
import type { ResolvedOptions } from '../../options/resolve'
import type { RecordStore, SessionRecord } from '../../store/record-store'
import type { KeyedStore } from '../sealing/sealed-store'
import type { LiveSession } from '../../session/session'
import { waitFor } from '../../store/store-call'

/** One of a user's sessions, as a page that lists them needs it. */
export interface UserSession {
  /** Identifies the session for `end`, as long as it is this user's, whatever its ID. It reveals nothing of the ID. */
  readonly handle: string
  readonly created: Date
  /** The last request, as far as it was stored: with `idleTimeout`, or from the expiry. */
  readonly lastSeen: Date
  /** What the option `describe` recorded. */
  readonly about: unknown
  /** Whether it is the session of the request given to `list`. */
  readonly current: boolean
}

/** The ID of a user; nobody's (`undefined`, `null`) is accepted by the types, for keys that a session may lack. */
export type UserId = string | number | null | undefined

/** The sessions of users, by the option `user`. */
export interface UserSessionsApi {
  /** A user's live sessions, the newest first. */
  list(user: UserId, req?: IncomingMessage): Promise<UserSession[]>
  /** Ends one session of a user; false when it is not theirs, or has ended already. */
  end(user: UserId, handle: string): Promise<boolean>
  /** Ends all sessions of a user and answers how many: "log out everywhere". */
  endAll(user: UserId): Promise<number>
  /** Ends all sessions of the request's user but the request's own, and answers how many. */
  endOthers(req: IncomingMessage): Promise<number>
}

type IndexedStore = RecordStore & Required<Pick<RecordStore, 'link' | 'unlink' | 'linked'>>

const HANDLE_BYTES = 12

/**
 * Logins no further apart than this, in ms, may not have seen each other, so their order decides, the same for all of
 * them. Beyond that a wrong clock may be the reason, and the order is ignored: a user who logs in always gets in.
 */
const AT_ONCE = 10_000

/** The options that concern users' sessions. */
type UserOptions = Pick<ResolvedOptions, 'describe' | 'maxSessionsPerUser' | 'onSessionLimit' | 'timeout'> &
  Lifetimes & { readonly user: NonNullable<ResolvedOptions['user']>; readonly ttl: number }

interface Live {
  readonly key: string
  /** The key under which the same session is stored, too, as it gets a new ID just now. */
  readonly twin?: string | undefined
  readonly record: SessionRecord
  readonly notes: SessionNotes
  readonly lifetime: number
}

/** The notes that say whose session it is. */
const OWNERSHIP = ['user', 'login', 'handle', 'about'] as const

/** A session that is being stored, with its place in the index before (`formerId`, `former.user`) and now (`id`, `user`). */
export interface Entry {
  readonly session: LiveSession
  readonly id: string
  readonly formerId: string
  readonly former: SessionNotes
  readonly user: string | undefined
  /** Whether it was added to the index, under this ID and for this user. */
  readonly isNew: boolean
  /** The index is renewing the place that it had already. */
  readonly renewing?: PromiseLike<void> | undefined
  /** Whether it may be one session too many. */
  readonly isBounded: boolean
}

/** Keeps the index of users' sessions, and limits their number. */
export class UserSessions {
  readonly #store: IndexedStore & Partial<KeyedStore>
  readonly #options: UserOptions
  readonly #max: number

  constructor(store: RecordStore, options: UserOptions) {
    if (!store.link || !store.unlink || !store.linked) {
      throw new OptionError('user option needs a store that implements link, unlink and linked; see RecordStore')
    }
    this.#store = store as IndexedStore
    this.#options = options
    this.#max = options.maxSessionsPerUser || Infinity
  }

  /** Whether the number of a user's sessions is limited. */
  get isBounded(): boolean {
    return this.#max !== Infinity
  }

  /**
   * Whose session it is, by the option `user`.
   * @throws OptionError when that returns something that does not identify a user
   */
  userOf(session: LiveSession): string | undefined {
    const user: unknown = this.#options.user(session)
    if (user === null || user === undefined) return undefined
    if ((typeof user === 'string' && user !== '') || typeof user === 'number') return String(user)
    throw new OptionError(
      `user option must return a string, a number, or undefined for nobody; it returned ${isPromise(user) ? 'a promise' : JSON.stringify(user)}`,
    )
  }

  /** Whether a session belongs to another user than its notes say, and so the index. */
  isChanging(session: LiveSession): boolean {
    return this.userOf(session) !== notesOf(session.cookie)?.user
  }

  /**
   * Stores a session and enters it in the index: before the save, so that "log out everywhere" misses none, and corrected
   * after it, as the session may have been merged with what others wrote.
   * @param isLogin whether it may be one session too many; one that is only entered late is not
   * @param formerId the ID under which it is in the index
   * @throws SessionError when the user has too many sessions and none is to be ended for it
   */
  storing<R extends object | null>(
    session: LiveSession,
    req: IncomingMessage,
    isLogin: boolean,
    save: () => MaybePromise<R>,
    formerId = session.id,
  ): MaybePromise<R> {
    const isNobodys = this.userOf(session) === undefined && notesOf(session.cookie)?.user === undefined
    return isNobodys ? save() : this.#storing(session, req, isLogin, save, formerId)
  }

  async #storing<R extends object | null>(
    session: LiveSession,
    req: IncomingMessage,
    isLogin: boolean,
    save: () => MaybePromise<R>,
    formerId: string,
  ): Promise<R> {
    const entry = await this.enter(session, req, isLogin, formerId)
    let result: R
    try {
      result = await save()
    } catch (error) {
      await this.leave(entry, error)
      throw error
    }
    if (result && 'stored' in result) await this.settle(entry)
    else await this.leave(entry)
    return result
  }

  /** The first half of `storing`: notes whose session it is, and enters it in the index. */
  async enter(session: LiveSession, req: IncomingMessage, isLogin: boolean, formerId = session.id): Promise<Entry> {
    const { id } = session
    const notes = notesOf(session.cookie) ?? {}
    const former = { ...notes }
    const user = this.userOf(session)
    const isChanging = user !== former.user
    if (isChanging) this.#note(session, notes, user, req)
    const isNew = user !== undefined && (isChanging || id !== formerId)
    const entry = { session, id, formerId, former, user, isNew, isBounded: isLogin && isChanging && this.isBounded }
    if (user === undefined) return entry
    const linking = this.#link(user, id, this.#store.expiresOf(session))
    if (!isNew) {
      if (!isPromise(linking)) return entry
      // `settle` waits for it; if that is never called, the rejection must not end the process.
      linking.then(undefined, () => undefined)
      return { ...entry, renewing: linking }
    }
    await linking
    if (entry.isBounded && this.#options.onSessionLimit === 'refuse') {
      const others = await this.#others(user, id)
      if (others.length >= this.#max) {
        await this.leave(entry)
        throw this.#tooMany(others.length)
      }
    }
    return entry
  }

  #note(session: LiveSession, notes: SessionNotes, user: string | undefined, req: IncomingMessage): void {
    const { describe } = this.#options
    for (const name of OWNERSHIP) delete notes[name]
    if (user !== undefined) {
      notes.user = user
      notes.login = Date.now()
      notes.handle = randomBytes(HANDLE_BYTES).toString('base64url')
      notes.created ??= notes.login
      if (describe) notes.about = describe(req as Request)
    }
    setNotes(session.cookie, notes)
  }

  /**
   * Undoes `enter`, as the session was not stored. After an error of the store it may be stored all the same: then it stays
   * in the index, so that whoever ends all of the user's sessions finds it.
   */
  async leave({ former, id, isNew, session, user }: Entry, error?: unknown): Promise<void> {
    const notes = notesOf(session.cookie)
    for (const name of OWNERSHIP) if (notes) Object.assign(notes, { [name]: former[name] })
    if (error !== undefined && isUncertain(error)) return
    try {
      if (isNew && user !== undefined) await this.unlink(user, id)
    } catch {
      // Without its session the entry does not count, and is removed when the store prunes.
    }
  }

  /** The second half of `storing`: corrects the index by how the session was really stored. */
  async settle({ former, formerId, id, isBounded, isNew, renewing, session, user }: Entry): Promise<void> {
    await renewing
    const owner = notesOf(session.cookie)?.user
    const isAsEntered = owner === user && session.id === id
    if (owner !== undefined && !isAsEntered) await this.#link(owner, session.id, this.#store.expiresOf(session))
    if (user !== undefined && isNew && !isAsEntered) await this.unlink(user, id)
    if (former.user !== undefined && (former.user !== owner || formerId !== session.id)) {
      await this.unlink(former.user, formerId)
    }
    // Another request may have made it this user's, under the ID that it had by then.
    if (owner !== undefined && owner !== former.user && formerId !== session.id) await this.unlink(owner, formerId)
    if (isBounded && owner !== undefined && owner === user) await this.#bound(owner, session.id)
  }

  /**
   * Limits the number of the user's sessions, after the new one is stored: of several logins at the same time, the last to
   * get here sees all of them.
   * @throws SessionError when the new one is one too many and none is to be ended for it
   */
  async #bound(user: string, id: string): Promise<void> {
    const live = await this.#live(user)
    const ownKey = this.#keyOf(id)
    const own = live.find(({ key, twin }) => key === ownKey || twin === ownKey)
    const others = live.filter((other) => other !== own)
    if (!own || others.length < this.#max) return

    // Of logins at the same time the later ones stay, or the earlier ones if logins are to be refused.
    const refuses = this.#options.onSessionLimit === 'refuse'
    const isBefore = (a: Live, b: Live): boolean => isLater(a, b) !== refuses
    const isAhead = (other: Live): boolean => (areAtOnce(own, other) ? isBefore(other, own) : refuses)
    const ahead = others.filter(isAhead)
    const behind = others.filter((other) => !isAhead(other)).sort((a, b) => (isBefore(a, b) ? -1 : 1))
    const isKept = ahead.length < this.#max
    if (!isKept) {
      await this.#end(user, ownKey)
      InThisProcess.of(this.#store).destroyed(id)
    }
    for (const { key, twin } of behind.slice(Math.max(0, this.#max - ahead.length - Number(isKept)))) {
      await this.#end(user, key)
      if (twin !== undefined) await this.#end(user, twin)
    }
    if (refuses && !isKept) throw this.#tooMany(ahead.length)
  }

  async #others(user: string, id: string): Promise<Live[]> {
    const own = this.#keyOf(id)
    return (await this.#live(user)).filter(({ key, twin }) => key !== own && twin !== own)
  }

  #tooMany(count: number): SessionError {
    return new SessionError('ERR_SESSION_LIMIT', `this user has ${count} sessions, and may have ${this.#max}`)
  }

  /** Keeps a renewed session in the index, if its entries end by themselves. */
  renew(user: string, id: string, expires: number): MaybePromise<void> {
    if (this.#store.linksExpire) return this.#link(user, id, expires)
  }

  unlink(user: string, id: string): MaybePromise<void> {
    return this.#within('unlink', this.#store.unlink(user, id))
  }

  #link(user: string, id: string, expires: number): MaybePromise<void> {
    return this.#within('link', this.#store.link(user, id, expires))
  }

  #linked(user: string): MaybePromise<string[]> {
    return this.#within('linked', this.#store.linked(user))
  }

  /** Waits for an answer of the store as long as the option `timeout` says. */
  #within<T>(method: string, answer: MaybePromise<T>): MaybePromise<T> {
    return waitFor(answer, method, this.#options.timeout)
  }

  async list(user: string, current: LiveSession | undefined): Promise<UserSession[]> {
    return (await this.#live(user)).map((live) => {
      const { key, record, notes, lifetime } = live
      return {
        handle: handleOf(key, notes),
        created: new Date(notes.created ?? record.expires - lifetime),
        lastSeen: new Date(Math.max(notes.seen ?? 0, record.expires - lifetime)),
        about: notes.about,
        current: this.#isSame(live, current),
      }
    })
  }

  /** By the handle as well, which stays when another request gives the session a new ID. */
  #isSame({ key, notes }: Live, session: LiveSession | undefined): boolean {
    if (!session) return false
    const handle = notesOf(session.cookie)?.handle
    return key === this.#keyOf(session.id) || (handle !== undefined && handle === notes.handle)
  }

  /** Looks twice: a session that is just being given a new ID may be missed once. */
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
   * Looks again until there are no new keys: a session that is just being given a new ID has one at the next look. Or it is
   * in the index already and not stored yet, but is so by the time its old ID is gone; hence the last loop.
   */
  async endAllBut(user: string, kept: LiveSession | undefined): Promise<number> {
    const seen = new Set(kept && [this.#keyOf(kept.id)])
    const missing: string[] = []
    let ended = 0
    for (;;) {
      const keys = (await this.#linked(user)).filter((key) => !seen.has(key))
      if (keys.length === 0) break
      for (const key of keys) {
        seen.add(key)
        const live = kept && (await this.#read(key))
        // Word of a new ID is no session, and requests under way need that of the session kept.
        if (live && (live.notes.movedTo !== undefined || this.#isSame(live, kept))) continue
        if (live !== null && (await this.#end(user, key))) ended++
        else missing.push(key)
      }
    }
    for (const key of missing) {
      // By now it may be the session kept, or be about to be.
      const live = kept && (await this.#read(key))
      if (live === null || (live && this.#isSame(live, kept))) continue
      if (await this.#end(user, key)) ended++
    }
    return ended
  }

  /** A missing session stays in the index, as it may be about to be stored; else it is removed when the store prunes. */
  async #end(user: string, key: string): Promise<boolean> {
    const store = this.#store
    const ended = await this.#within('remove', store.removeKey ? store.removeKey(key) : store.remove(key))
    if (ended) await this.#within('unlink', store.unlinkKey ? store.unlinkKey(user, key) : store.unlink(user, key))
    return ended
  }

  /**
   * The user's live sessions, the newest first. One that is just being given a new ID is stored twice for a moment. Where
   * there is a forwarding note, the new ID may have been entered in the index since that was read: so it is read again.
   */
  async #live(user: string): Promise<Live[]> {
    const live: Live[] = []
    const seen = new Set<string>()
    for (let hasMoved = true; hasMoved;) {
      hasMoved = false
      for (const key of await this.#linked(user)) {
        if (seen.has(key)) continue
        seen.add(key)
        const found = await this.#read(key)
        if (found?.notes.movedTo !== undefined) hasMoved = true
        if (found?.notes.user !== user || timeoutOf(found.notes, this.#options, Date.now())) continue
        const { handle } = found.notes
        const at = handle === undefined ? -1 : live.findIndex(({ notes }) => notes.handle === handle)
        if (at === -1) live.push(found)
        else live[at] = { ...found, twin: (live[at] as Live).key }
      }
    }
    return live.sort((a, b) => (b.notes.created ?? 0) - (a.notes.created ?? 0))
  }

  /** `null` if there is none. A record that cannot be read (`undefined`) counts as none, too: nobody can use its session. */
  async #read(key: string): Promise<Live | null | undefined> {
    const store = this.#store
    try {
      const record = await this.#within('read', store.readKey ? store.readKey(key) : store.read(key))
      if (!record) return null
      const cookie = (store.parse(key, record) as Partial<session.SessionData> | null)?.cookie
      if (!cookie) return undefined
      return { key, record, notes: storedNotes(cookie) ?? {}, lifetime: cookie.originalMaxAge ?? this.#options.ttl }
    } catch (error) {
      const { code } = error as SessionError
      if (code === 'ERR_SESSION_SEALED' || code === 'ERR_SESSION_INVALID_RECORD') return undefined
      throw error
    }
  }

  #keyOf(id: string): string {
    return this.#store.keyOf ? this.#store.keyOf(id) : id
  }
}

/** Whether what failed may have been done all the same. */
function isUncertain(error: unknown): boolean {
  return !(error instanceof SessionError) || error.code === 'ERR_SESSION_STORE_TIMEOUT'
}

function loginOf({ notes }: Live): number {
  return notes.login ?? notes.created ?? 0
}

function areAtOnce(a: Live, b: Live): boolean {
  return Math.abs(loginOf(a) - loginOf(b)) <= AT_ONCE
}

function isLater(a: Live, b: Live): boolean {
  return loginOf(a) === loginOf(b) ? a.key > b.key : loginOf(a) > loginOf(b)
}

/** The handle was made when the session became the user's; a session stored before there were handles has its key. */
function handleOf(key: string, { handle }: SessionNotes): string {
  return handle ?? key
}

/** The part of it that applications see. */
export function userSessionsApi(
  users: UserSessions,
  sessionOf: (req: IncomingMessage) => LiveSession | undefined,
): UserSessionsApi {
  return {
    list: (user, req) => users.list(String(user), req && sessionOf(req)),
    end: (user, handle) => users.end(String(user), handle),
    endAll: (user) => users.endAllBut(String(user), undefined),
    async endOthers(req) {
      const session = sessionOf(req)
      const user = session && (users.userOf(session) ?? notesOf(session.cookie)?.user)
      return user === undefined ? 0 : users.endAllBut(user, session)
    },
  }
}
