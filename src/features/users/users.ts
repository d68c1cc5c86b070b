import type { Request } from 'express'
import { destroyed, OptionError, SessionError } from '../../base/errors'
import { afterwards, atOnce, isPromise, oneByOne, type MaybePromise } from '../../base/maybe-promise'
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

/** What tells the order of logins. */
type Login = Pick<Live, 'key' | 'notes'>

/** The session that is logged in. */
interface Own extends Login {
  readonly id: string
  /** Those that it may be stored under; `key` is the first. */
  readonly keys: readonly string[]
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
    // It is no look of the request's: whose a session is, is seen to by `overtaken`.
    const user = atOnce(
      unnoted(() => this.#options.user(session)),
      'user option must return a string, a number, or undefined for nobody',
    )
    return user === null || user === undefined ? undefined : userText(user, 'user option must return')
  }

  /** One that is noted as a user's is still theirs, unless a request changes it. Others may be of before the option `user`. */
  isDue(stored: SessionNotes | undefined, session?: LiveSession): boolean {
    return session ? this.userOf(session) !== stored?.user : stored?.user === undefined
  }

  overtaken(session: LiveSession, stored: SessionNotes | undefined, now: SessionNotes | undefined): void {
    if (now?.user !== stored?.user && now?.user !== this.userOf(session)) throw destroyed(session.id)
  }

  gaveUp(session: LiveSession, stored: SessionNotes | undefined): MaybePromise<void> {
    const user = this.userOf(session)
    return user === undefined || user === stored?.user ? undefined : this.#leave(user, session.id)
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
    if (user === undefined) return this.#after(saving, user, expires)
    if (saving.isChanged && this.#max !== Infinity) return this.#login(saving, user, expires)
    return afterwards(this.index.link(user, key, expires), () => this.#after(saving, user, expires))
  }

  /** A login where their number is limited. The others are read while the session is being stored, so that it takes no longer. */
  async #login(saving: Saving, user: string, expires: number): Promise<AfterSaving> {
    const ownKeys = this.index.keysOf(saving.key)
    const own = { id: saving.key, key: ownKeys[0] as string, keys: ownKeys, notes: saving.notes }
    const [keys] = await Promise.all([this.index.keys(user), this.index.link(user, saving.key, expires)])
    const others = this.#othersAmong(keys, user, own)
    // Where the session is then not stored, nobody waits for them.
    others.catch(() => undefined)
    const after = this.#after(saving, user, expires, () => this.#bound(user, own, others))
    if (this.#options.onSessionLimit === 'refuse') {
      const { length } = await others
      if (length < this.#max) return after
      await after.failed()
      throw this.#tooMany(length)
    }
    return after
  }

  #after(
    { isNew, key, stored }: Saving,
    user: string | undefined,
    expires: number,
    bound = (): MaybePromise<void> => undefined,
  ): AfterSaving {
    // Another request that has given up, or given the session to another user, may have taken the entry out meanwhile.
    const enterAgain = (): MaybePromise<void> =>
      isNew || user === undefined ? undefined : this.index.link(user, key, expires)
    const takeOutOfFormer = (): MaybePromise<void> =>
      stored?.user === undefined ? undefined : this.#takeOut(stored.user, key)
    return {
      saved: () => oneByOne([enterAgain, takeOutOfFormer, bound], (step) => step()),
      failed: (error) => (user === undefined ? undefined : this.#leave(user, key, error)),
    }
  }

  #note(notes: SessionNotes, user: string | undefined, req: Request | undefined): void {
    delete notes.user
    delete notes.login
    delete notes.about
    if (user === undefined) return
    notes.user = user
    notes.login = Date.now()
    notes.created ??= notes.login
    const about = req && atOnce(this.#options.describe?.(req), 'describe option must return what is to be recorded')
    if (about !== undefined) notes.about = about
  }

  /**
   * The session was not stored as this user's. After an error of the store it may be all the same: then it stays in the index,
   * so that whoever ends all of the user's sessions finds it.
   */
  async #leave(user: string, key: string, error?: unknown): Promise<void> {
    if (error !== undefined && isUncertain(error)) return
    // Without its session an entry that stays does not count, and is removed when the store prunes.
    await this.#takeOut(user, key).catch(() => undefined)
  }

  /** Takes a session out of a user's list, unless it is theirs: another request may have stored it so, or may do so meanwhile. */
  async #takeOut(user: string, key: string): Promise<void> {
    if (await this.#stored(user, key)) return
    await this.index.unlink(user, key)
    const stored = await this.#stored(user, key)
    if (stored) await this.index.link(user, key, stored.record.expires)
  }

  /** A session that is stored as this user's. */
  async #stored(user: string, key: string): Promise<Live | undefined> {
    const found = await this.index.read(this.index.keysOf(key))
    return found.find((now) => now?.notes.user === user)
  }

  /** The user's sessions among these keys that can be used, but those that are known; none where there are not too many. */
  async #othersAmong(keys: readonly string[], user: string, own: Own, known: readonly Live[] = []): Promise<Live[]> {
    const others = keys.filter((key) => !own.keys.includes(key))
    if (others.length < this.#max) return []
    const knownKeys = new Set(known.map(({ key }) => key))
    return this.index.liveOf(
      user,
      others.filter((key) => !knownKeys.has(key)),
      (live) => this.index.isUsable(live),
    )
  }

  /**
   * Limits the number of the user's sessions, after the new one is stored: at once by those that were read before, then by
   * those that came meanwhile, if any. Of several logins at the same time, the last to get here sees all of them.
   * @throws SessionError when the new one is one too many and none is to be ended for it
   */
  async #bound(user: string, own: Own, before: Promise<Live[]>): Promise<void> {
    const others = await before
    const [keys] = await Promise.all([this.index.keys(user), this.#endBeyond(user, own, others)])
    const late = await this.#othersAmong(keys, user, own, others)
    if (late.length > 0) await this.#endBeyond(user, own, [...others, ...late])
  }

  async #endBeyond(user: string, own: Own, others: readonly Live[]): Promise<void> {
    if (others.length < this.#max) return
    // Of logins at the same time the later ones stay, or the earlier ones if logins are to be refused.
    const refuses = this.#options.onSessionLimit === 'refuse'
    const isBefore = (a: Login, b: Login): boolean => isLater(a, b) !== refuses
    const isAhead = (other: Live): boolean => (areAtOnce(own, other) ? isBefore(other, own) : refuses)
    const ahead = others.filter(isAhead)
    const behind = others.filter((other) => !isAhead(other)).sort((a, b) => (isBefore(a, b) ? -1 : 1))
    const isKept = ahead.length < this.#max
    const over = behind.slice(Math.max(0, this.#max - ahead.length - Number(isKept)))
    await this.index.end(user, [...(isKept ? [] : own.keys), ...over.map(({ key }) => key)])
    if (isKept) return
    throw refuses ? this.#tooMany(ahead.length) : destroyed(own.id)
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
      : user === ''
        ? 'empty'
        : String(user)
  throw new OptionError(`${where} a string, a number, or undefined for nobody; it is ${what}`)
}

/** Whether what failed may have been done all the same. */
function isUncertain(error: unknown): boolean {
  return !(error instanceof SessionError) || error.code === 'ERR_SESSION_STORE_TIMEOUT'
}

function loginOf({ notes }: Login): number {
  return notes.login ?? notes.created ?? 0
}

function areAtOnce(a: Login, b: Login): boolean {
  return Math.abs(loginOf(a) - loginOf(b)) <= AT_ONCE
}

function isLater(a: Login, b: Login): boolean {
  return loginOf(a) === loginOf(b) ? a.key > b.key : loginOf(a) > loginOf(b)
}
