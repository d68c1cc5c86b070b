import type { IncomingMessage } from 'node:http'
import { OptionError } from '../../base/errors'
import type { RecordStore, SessionRecord } from '../../store/record-store'
import type { LiveSession } from '../../session/session'
import { handleOf, inPages, type Live } from './user-index'
import { userText, type Users } from './users'

/** One of a user's sessions, as a page that lists them needs it. */
export interface UserSession {
  /** Identifies the session for `end`. It reveals nothing of the ID. */
  readonly handle: string
  readonly created: Date
  /** The last request, as far as it was stored: with `idleTimeout`, or from the expiry. */
  readonly lastSeen: Date
  /** What the option `describe` recorded. */
  readonly about: unknown
  /** Whether it is the session of the request given to `list`. */
  readonly current: boolean
}

/** Some of a user's sessions. */
export interface UserSessionPage {
  readonly sessions: UserSession[]
  /** Leads to the next page; `null` when this was the last. */
  readonly cursor: string | null
}

/** The ID of a user; nobody's (`undefined`, `null`) is accepted by the types, for keys that a session may lack: it is an error. */
export type UserId = string | number | null | undefined

/** The sessions of users, by the option `user`. In place of a user a request may be given: then it is about that of its session. */
export interface UserSessionsApi {
  /**
   * A user's live sessions, the newest first.
   * @throws TypeError when nobody is given, here and below
   */
  list(user: UserId, req?: IncomingMessage): Promise<UserSession[]>
  list(req: IncomingMessage): Promise<UserSession[]>
  /**
   * Some of a user's live sessions: for those who have thousands, of which `list` reads all. The order is not that of time, and
   * stays the same: a session that lives on while the pages are looked at is in one of them.
   * @param options.cursor that of the page before; anything else begins, so it may come from a client
   * @param options.limit how many, fewer only at the end. Default: 100
   */
  page(
    user: UserId | IncomingMessage,
    options?: { cursor?: string | null | undefined; limit?: number | undefined },
  ): Promise<UserSessionPage>
  /** Ends one session of a user; false when it is not theirs, or has ended already. */
  end(user: UserId | IncomingMessage, handle: string): Promise<boolean>
  /** Ends all sessions of a user and answers how many: "log out everywhere", the request's own included. */
  endAll(user: UserId | IncomingMessage): Promise<number>
  /** Ends all sessions of the request's user but the request's own, and answers how many. */
  endOthers(req: IncomingMessage): Promise<number>
  /**
   * Enters the sessions in the index that were stored before the option `user` was switched on, or that an index has lost, and
   * answers how many. Until it has run, or they have made a request, the methods above do not know of them.
   * @param onProgress is told how many sessions were looked at, every few hundred
   */
  index(onProgress?: (count: number) => void): Promise<number>
}

/** What the requests of this middleware have of users' sessions. */
export interface Requests {
  sessionOf(req: IncomingMessage): LiveSession | undefined
  /** Sessions were ended: takes them off the requests of this process that have them, and tells of it. */
  ended(keys: readonly string[]): void
  /** Stores a session again, if its user is not the one that is noted; false if that is so. */
  enter(id: string): Promise<boolean>
}

export function userSessionsApi(users: Users, store: RecordStore, requests: Requests): UserSessionsApi {
  const { index } = users

  function userOf(target: unknown): string {
    if (!isRequest(target)) return userText(target, 'the user given to sessions.users must be')
    const session = requests.sessionOf(target)
    return userText(session && users.userOf(session), "the user of the request's session must be")
  }

  function keysOfOwn(req: IncomingMessage | undefined): readonly string[] {
    const session = req && requests.sessionOf(req)
    return session ? index.keysOf(session.id) : []
  }

  const { ended } = requests

  return {
    async list(target: unknown, req?: IncomingMessage) {
      const own = keysOfOwn(isRequest(target) ? target : req)
      const sessions: UserSession[] = []
      await inPages(await index.live(userOf(target)), (page) => {
        for (const live of page) sessions.push(shown(live, own))
      })
      return sessions
    },
    async page(target, { cursor, limit = 100 } = {}) {
      if (!Number.isInteger(limit) || limit < 1) throw new OptionError('limit must be a whole number of at least 1')
      const own = keysOfOwn(isRequest(target) ? target : undefined)
      const { live, next } = await index.page(userOf(target), typeof cursor === 'string' ? cursor : '', limit)
      return { sessions: live.map((one) => shown(one, own)), cursor: next }
    },
    async end(target, handle) {
      const user = userOf(target)
      const key = (await index.keys(user)).find((one) => handleOf(one) === handle)
      if (key === undefined || (await index.read([key]))[0]?.notes.user !== user) return false
      return (await index.end(user, [key], ended)) > 0
    },
    endAll: async (target) => index.endAllBut(userOf(target), [], ended),
    async endOthers(req) {
      const session = requests.sessionOf(req)
      if (!session || users.userOf(session) === undefined) return 0
      return index.endAllBut(userOf(req), index.keysOf(session.id), ended)
    },
    async index(onProgress) {
      let looked = 0
      let entered = 0
      let page: Array<SessionRecord & { id: string }> = []
      const enter = async (): Promise<void> => {
        await inPages(page, async (records) => {
          entered += await index.enterLost(records)
          await Promise.all(records.map(async ({ id }) => void ((await requests.enter(index.idOf(id))) && entered++)))
        })
        looked += page.length
        page = []
        onProgress?.(looked)
      }
      for await (const record of store.records()) {
        page.push(record)
        if (page.length === PAGE) await enter()
      }
      await enter()
      return entered
    },
  }
}

const PAGE = 500

function isRequest(target: unknown): target is IncomingMessage {
  return typeof target === 'object' && target !== null && 'headers' in target
}

function shown({ key, notes, record, lifetime }: Live, own: readonly string[]): UserSession {
  return {
    handle: handleOf(key),
    created: new Date(notes.created ?? record.expires - lifetime),
    lastSeen: new Date(Math.max(notes.seen ?? 0, record.expires - lifetime)),
    about: notes.about,
    current: own.includes(key),
  }
}
