import type { IncomingMessage } from 'node:http'
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
  /** Takes a session off the requests of this process that have it, as it was ended. */
  leave(key: string): void
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

  function ended(keys: readonly string[]): number {
    for (const key of keys) requests.leave(key)
    return keys.length
  }

  return {
    async list(target: unknown, req?: IncomingMessage) {
      const request = isRequest(target) ? target : req
      const current = request && requests.sessionOf(request)
      const own = current ? index.keysOf(current.id) : []
      return (await index.live(userOf(target))).map((live) => shown(live, own))
    },
    async end(target, handle) {
      const user = userOf(target)
      const key = (await index.keys(user)).find((one) => handleOf(one) === handle)
      if (key === undefined || (await index.read([key]))[0]?.notes.user !== user) return false
      return ended(await index.end(user, [key])) > 0
    },
    endAll: async (target) => ended(await index.endAllBut(userOf(target))),
    async endOthers(req) {
      const session = requests.sessionOf(req)
      if (!session || users.userOf(session) === undefined) return 0
      return ended(await index.endAllBut(userOf(req), index.keysOf(session.id)))
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
