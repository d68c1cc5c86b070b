import { hiddenSlot } from '../base/hidden-slot'

const COOKIE = 'cookie'

/**
 * What a request has looked at and written of its session's data, so that it is known which changes of others it may be
 * merged with. Looks at keys that are not there count as well: `if (!req.session.user)` is one.
 *
 * A session notes this by accessors for the keys that it has, and by a proxy among its prototypes for those that it does
 * not have. A proxy around the session would note a little more (whether keys were only listed), but could not be cloned by
 * `structuredClone` or sent to a worker. See docs/decisions/noting-looks.md.
 */
export class Noted {
  #all = false
  #looks: Keys
  #since = asked.count
  /** The keys that are read next if the session is being copied: a copy reads all keys in their order, the cookie first. */
  #copying: string[] | undefined
  #writes: Keys

  /**
   * @param values the data: the values of the session's keys, but for the cookie's
   * @param methods what the session inherits
   */
  constructor(
    readonly session: object,
    readonly values: Record<string, unknown>,
    public cookie: unknown,
    readonly methods: object,
  ) {}

  get(key: string): unknown {
    return key === COOKIE ? this.cookie : this.values[key]
  }

  keep(key: string, value: unknown): void {
    if (!paused) this.#writes = withKey(this.#writes, key)
    if (key === COOKIE) this.cookie = value
    else this.values[key] = value
  }

  look(key: string): void {
    if (this.#all) return
    if (key === COOKIE) return this.#beginCopy()
    if (this.#copying) this.#goOnCopying(this.#copying, key)
    if (!this.#all) this.#looks = withKey(this.#looks, key)
  }

  #beginCopy(): void {
    this.#copying = Object.keys(this.session).filter((key) => key !== COOKIE)
    if (this.#copying.length === 0) this.#all = true
  }

  #goOnCopying(expected: string[], key: string): void {
    this.#copying = expected.shift() === key ? expected : undefined
    if (this.#copying?.length === 0) this.#all = true
  }

  /** The keys that were written since the session was stored. */
  get writes(): Iterable<string> {
    return typeof this.#writes === 'string' ? [this.#writes] : (this.#writes ?? [])
  }

  forgetWrites(): void {
    this.#writes = undefined
  }

  lookAtAll(): void {
    this.#all = true
  }

  hasLookedAt(key: string): boolean {
    return this.#all || hasKey(this.#looks, key) || asked.hasBeen(key, this.#since)
  }
}

/** Keys that were looked at or written. Mostly it is one, for which a set would be dear. */
type Keys = undefined | string | Set<string>

function withKey(keys: Keys, key: string): Keys {
  if (keys === undefined || keys === key) return key
  return typeof keys === 'string' ? new Set([keys, key]) : keys.add(key)
}

function hasKey(keys: Keys, key: string): boolean {
  return typeof keys === 'string' ? keys === key : keys?.has(key) === true
}

/** How many keys are told apart here; their names may come from clients. */
const MANY_KEYS = 1000

/**
 * Keys that were asked for by `in` or `for in`, where a proxy among the prototypes is not told which session it is about:
 * so each session of the time counts as asked. `count` is the clock.
 */
const asked = {
  count: 0,
  all: 0,
  keys: new Map<string, number>(),

  note(key: string | undefined): void {
    this.count++
    if (key === undefined || this.keys.size === MANY_KEYS) {
      this.all = this.count
      this.keys.clear()
    } else this.keys.set(key, this.count)
  },

  hasBeen(key: string, since: number): boolean {
    return this.all > since || (this.keys.get(key) ?? 0) > since
  },
}

const slot = hiddenSlot<Noted>()

/** What was noted of a session; `undefined` for an object that notes nothing: all of it counts as looked at. */
export function notedOf(session: object): Noted | undefined {
  return slot.get(session)
}

let paused = false

/** Does something that is no look of the application. */
export function unnoted<T>(work: () => T): T {
  const before = paused
  paused = true
  try {
    return work()
  } finally {
    paused = before
  }
}

/** A session's cookie, for the library itself. */
export function cookieOf<C>(session: { readonly cookie: C }): C {
  const noted = slot.get(session)
  return noted?.session === session ? (noted.cookie as C) : unnoted(() => session.cookie)
}

/**
 * The data of a session as a plain object, which is much faster to serialise than accessors. `undefined` where the session
 * notes nothing, or has a `toJSON`, or keys that the application has deleted or defined anew.
 */
export function plainDataOf(session: object): object | undefined {
  const noted = slot.get(session)
  if (noted?.session !== session || Object.hasOwn(session, 'toJSON') || 'toJSON' in noted.methods) return undefined
  const { values } = noted
  const keys = Object.keys(session)
  let n = keys[0] === COOKIE ? 1 : 0
  for (const key in values) {
    if (keys[n++] !== key || (session as Record<string, unknown>)[key] !== values[key]) return undefined
  }
  return n === keys.length ? values : undefined
}

/** The session that an object is, or inherits from. */
function notedBehind(object: object | null): Noted | undefined {
  for (let at = object; at; at = Object.getPrototypeOf(at) as object | null) {
    const noted = slot.get(at)
    if (noted) return noted
  }
  return undefined
}

/** The accessors of a key, which all sessions share. */
const shared = new Map<string, PropertyDescriptor>()

function accessorOf(key: string): PropertyDescriptor {
  const known = shared.get(key)
  if (known) return known
  const accessor: PropertyDescriptor = {
    configurable: true,
    enumerable: true,
    get(this: object) {
      const noted = slot.get(this) ?? notedBehind(this)
      if (!paused) noted?.look(key)
      return noted?.get(key)
    },
    set(this: object, value: unknown) {
      const noted = slot.get(this)
      // An object that only inherits from a session gets keys of its own.
      if (!noted)
        return void Object.defineProperty(this, key, { value, configurable: true, enumerable: true, writable: true })
      noted.keep(key, value)
    },
  }
  if (shared.size < MANY_KEYS) shared.set(key, accessor)
  return accessor
}

/** Methods by which an object tells which keys it has, or what JSON has of it. */
const LISTING = ['hasOwnProperty', 'propertyIsEnumerable', 'toJSON']

/** A prototype for sessions that note: what is neither a key of theirs nor a method is a key that they do not have. */
export function notingPrototype(methods: object): object {
  const note = (receiver: unknown, key: string | symbol): void => {
    if (paused || typeof key !== 'string') return
    if (LISTING.includes(key)) notedBehind(receiver as object)?.lookAtAll()
    else if (!(key in methods)) notedBehind(receiver as object)?.look(key)
  }
  return new Proxy(Object.create(methods) as object, {
    get(target, key, receiver) {
      note(receiver, key)
      return Reflect.get(target, key, receiver) as unknown
    },
    set(target, key, value, receiver: object) {
      const noted = slot.get(receiver)
      if (!noted || typeof key !== 'string' || key in methods) return Reflect.set(target, key, value, receiver)
      noted.keep(key, value)
      return Reflect.defineProperty(receiver, key, accessorOf(key))
    },
    has(target, key) {
      if (!paused && typeof key === 'string' && !(key in methods)) asked.note(key)
      return Reflect.has(target, key)
    },
    ownKeys(target) {
      if (!paused) asked.note(undefined)
      return Reflect.ownKeys(target)
    },
  })
}

/** Has a session that was made on a noting prototype keep these values; the object is taken, not copied. */
export function startNoting(session: object, values: Record<string, unknown>, cookie: unknown, methods: object): void {
  slot.set(session, new Noted(session, values, cookie, methods))
  Object.defineProperty(session, COOKIE, accessorOf(COOKIE))
  for (const key in values) {
    if (key in methods) Reflect.deleteProperty(values, key)
    else Object.defineProperty(session, key, accessorOf(key))
  }
}

/** Has what stands for a session (a proxy of it, or what inherits from it) note where the session does. */
export function noteFor(value: object, session: object): void {
  const noted = slot.get(session)
  if (noted && !slot.get(value)) slot.set(value, noted)
}
