import type { Request } from 'express'
import { destroyed, OptionError, SessionError } from '../../base/errors'
import { afterwards, isPromise, type MaybePromise } from '../../base/maybe-promise'
import { unnoted } from '../../session/noted'
import type { SessionNotes } from '../../session/notes'
import type { LiveSession } from '../../session/session'
import type { AfterSaving, Feature, Saving } from '../feature'
import { UserIndex, type IndexedStore, type Live } from './user-index'

/**
 * Logins no further apart than this, in ms, may not have seen each other, so their order decides, the same for all of
 * them. Beyond that a wrong clock may be the reason, and the order is ignored: a user who logs in always gets in.
 */
const AT_ONCE = 10_000

export interface UserOptions {
  readonly user: (session: LiveSession) => unknown
  readonly describe: ((req: Request) => unknown) | undefined
  readonly maxSessionsPerUser: number
  readonly onSessionLimit: 'endOldest' | 'refuse'
}

/** Keeps the index of users' sessions, and limits their number. */
export class Users implements Feature {
  readonly #options: UserOptions
  readonly #max: number
  readonly #store: IndexedStore
  readonly index: UserIndex

  constructor(index: UserIndex, store: IndexedStore, options: UserOptions) {
    this.index = index
    this.#store = store
    this.#options = options
    this.#max = options.maxSessionsPerUser || Infinity
  }

  /**
   * Whose session it is, by the option `user`.
   * @throws OptionError when that returns something that does not identify a user
   */
  userOf(session: LiveSession): string | undefined {
    const user = this.#options.user(session)
    return user === null || user === undefined ? undefined : userText(user, 'user option must return')
  }

  isDue(session: LiveSession, stored: SessionNotes | undefined): boolean {
    return this.userOf(session) !== stored?.user
  }

  overtaken(session: LiveSession, stored: SessionNotes | undefined, now: SessionNotes | undefined): void {
    if (now?.user !== stored?.user && now?.user !== this.userOf(session)) throw destroyed(session.id)
  }

  /** Enters the session in the index before it is stored, so that "log out everywhere" misses none. */
  saving(saving: Saving): MaybePromise<AfterSaving | undefined> {
    const { key, notes, session, stored } = saving
    const user = this.userOf(session)
    if (user === undefined && stored?.user === undefined) return undefined
    const expires = unnoted(() => this.#store.expiresOf(session))
    if (user === stored?.user) {
      if (!this.#store.linksExpire) return undefined
      return { saved: () => this.index.link(user as string, key, expires), failed: () => undefined }
    }
    this.#note(notes, user, saving.req as Request | undefined)
    const after: AfterSaving = {
      saved: () => this.#settle(saving, user),
      failed: (error) => (user === undefined ? undefined : this.#leave(user, key, error)),
    }
    if (user === undefined) return after
    return afterwards(this.index.link(user, key, expires), () =>
      afterwards(saving.isChanged ? this.#refuse(user, key, after) : undefined, () => after),
    )
  }

  #note(notes: SessionNotes, user: string | undefined, req: Request | undefined): void {
    delete notes.user
    delete notes.login
    delete notes.about
    if (user === undefined) return
    notes.user = user
    notes.login = Date.now()
    notes.created ??= notes.login
    const about = req && this.#options.describe?.(req)
    if (isPromise(about)) {
      throw new OptionError('describe option must return what is to be recorded, not a promise of it')
    }
    if (about !== undefined) notes.about = about
  }

  /** @throws SessionError when the user has too many sessions, and none is to be ended for a new one */
  #refuse(user: string, key: string, after: AfterSaving): MaybePromise<void> {
    if (this.#max === Infinity || this.#options.onSessionLimit !== 'refuse') return
    return this.#othersOf(user, key).then(async (others) => {
      if (others.length < this.#max) return
      await after.failed()
      throw this.#tooMany(others.length)
    })
  }

  #settle({ key, stored, isChanged }: Saving, user: string | undefined): MaybePromise<void> {
    const left = stored?.user === undefined ? undefined : this.index.unlink(stored.user, key)
    return afterwards(left, () => {
      return user !== undefined && isChanged && this.#max !== Infinity ? this.#bound(user, key) : undefined
    })
  }

  /**
   * The session was not stored as this user's. After an error of the store it may be all the same: then it stays in the index,
   * so that whoever ends all of the user's sessions finds it.
   */
  async #leave(user: string, key: string, error: unknown): Promise<void> {
    if (error !== undefined && isUncertain(error)) return
    try {
      const now = await this.index.readById(key)
      if (now?.notes.user !== user) await this.index.unlink(user, key)
    } catch {
      // Without its session the entry does not count, and is removed when the store prunes.
    }
  }

  /**
   * Limits the number of the user's sessions, after the new one is stored: of several logins at the same time, the last to
   * get here sees all of them.
   * @throws SessionError when the new one is one too many and none is to be ended for it
   */
  async #bound(user: string, id: string): Promise<void> {
    const live = await this.index.live(user)
    const ownKeys = this.index.keysOf(id)
    const own = live.find(({ key }) => ownKeys.includes(key))
    const others = live.filter((other) => other !== own)
    if (!own || others.length < this.#max) return

    // Of logins at the same time the later ones stay, or the earlier ones if logins are to be refused.
    const refuses = this.#options.onSessionLimit === 'refuse'
    const isBefore = (a: Live, b: Live): boolean => isLater(a, b) !== refuses
    const isAhead = (other: Live): boolean => (areAtOnce(own, other) ? isBefore(other, own) : refuses)
    const ahead = others.filter(isAhead)
    const behind = others.filter((other) => !isAhead(other)).sort((a, b) => (isBefore(a, b) ? -1 : 1))
    const isKept = ahead.length < this.#max
    const over = behind.slice(Math.max(0, this.#max - ahead.length - Number(isKept)))
    await Promise.all([...(isKept ? [] : [own]), ...over].map(({ key }) => this.index.end(user, key)))
    if (isKept) return
    throw refuses ? this.#tooMany(ahead.length) : destroyed(id)
  }

  async #othersOf(user: string, id: string): Promise<Live[]> {
    const own = this.index.keysOf(id)
    return (await this.index.live(user)).filter(({ key }) => !own.includes(key))
  }

  #tooMany(count: number): SessionError {
    return new SessionError('ERR_SESSION_LIMIT', `this user has ${count} sessions, and may have ${this.#max}`)
  }

  /** Keeps a session that lives on in the index, if its entries end by themselves. */
  touched(key: string, notes: SessionNotes | undefined, expires: number): MaybePromise<void> {
    if (notes?.user !== undefined && this.#store.linksExpire) return this.index.link(notes.user, key, expires)
  }

  destroyed(key: string, notes: SessionNotes | undefined): MaybePromise<void> {
    if (notes?.user !== undefined) return this.index.unlink(notes.user, key)
  }
}

/**
 * The text by which a user is known.
 * @throws OptionError when the value does not identify one
 */
export function userText(user: unknown, where: string): string {
  if ((typeof user === 'string' && user !== '') || (typeof user === 'number' && !Number.isNaN(user)))
    return String(user)
  const what = isPromise(user)
    ? 'a promise'
    : typeof user === 'object' && user !== null
      ? 'an object'
      : JSON.stringify(user)
  throw new OptionError(`${where} a string, a number, or undefined for nobody; it is ${what ?? String(user)}`)
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
