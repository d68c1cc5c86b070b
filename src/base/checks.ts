import { OptionError, warnOnce } from './errors'

/** Returns what the value must be, or `undefined` when it is valid. Not called for `undefined` and `null`. */
export type Check = (value: unknown, option: string) => string | undefined

export const a =
  (what: string, test: (value: unknown) => boolean): Check =>
  (value) =>
    test(value) ? undefined : what

export const anything: Check = () => undefined
export const aBoolean = a('true or false', (value) => typeof value === 'boolean')
/** For options that express-session and its stores use as a condition, whatever their type: a warning, no error. */
export const aFlag: Check = (value, option) => {
  const effect = `${show(value)} counts as ${Boolean(value)}`
  if (typeof value !== 'boolean') warnOnce('SESSION_OPTION', `${option} must be true or false; ${effect}`, option)
  return undefined
}
export const aFunction = a('a function', (value) => typeof value === 'function')
export const aString = a('a string', (value) => typeof value === 'string')
export const aName = a('a string that is not empty', (value) => typeof value === 'string' && value !== '')
export const milliseconds = a('a number of ms, not below 0', (value) => typeof value === 'number' && value >= 0)
export const isPositive = (value: unknown): boolean => typeof value === 'number' && value > 0
export const aSerializer = a('an object with the functions stringify and parse', (value) =>
  has(value, 'stringify', 'parse'),
)
export const oneOf = (...choices: unknown[]): Check =>
  a(`one of ${choices.map((choice) => JSON.stringify(choice)).join(', ')}`, (value) => choices.includes(value))

/** To express-session, a falsy option is one that is not given. `NaN` is checked nevertheless: it is always a mistake. */
export const given =
  (check: Check): Check =>
  (value, option) =>
    value || Number.isNaN(value) ? check(value, option) : undefined

/** For options that the store of another package has and ours does not: an error, unless it is switched off. */
export const unsupported =
  (why: string): Check =>
  (value, option) => {
    if (value) throw new OptionError(`${option} is not supported${why}`)
    return undefined
  }

export function has(value: unknown, ...methods: string[]): boolean {
  return methods.every((method) => typeof (value as Record<string, unknown> | null)?.[method] === 'function')
}

/**
 * Checks the options of a store, and returns those that it knows. A subclass may have more, which are its own to check.
 * @throws OptionError when a value is not valid
 */
export function optionsOf<Options extends object>(
  store: object,
  base: { readonly name: string; readonly prototype: object },
  options: Options | null | undefined,
  checks: Record<keyof Options, Check>,
): Options {
  const given: Record<string, unknown> = {}
  for (const [name, check] of Object.entries<Check>(checks)) {
    given[name] = (options as Record<string, unknown> | null | undefined)?.[name] ?? undefined
    demand(given[name], check, `${base.name}: option ${name}`)
  }
  // Anything but a plain object may be a client passed by mistake, or another class: its names say nothing.
  if (options?.constructor === Object && Object.getPrototypeOf(store) === base.prototype) {
    warnOfUnknown(options, checks, base.name)
  }
  return given as Options
}

/** @throws OptionError when the check does not accept the value */
function demand(value: unknown, check: Check, option: string): void {
  const wanted = value === undefined || value === null ? undefined : check(value, option)
  if (wanted) throw new OptionError(`${option} must be ${wanted}; it is ${show(value)}`)
}

/**
 * Checks each option of `session()`, and warns of unknown ones.
 * @throws OptionError when a value is not valid
 */
export function demandEach(
  options: object,
  checks: Record<string, Check>,
  owner: string,
  prefix: string,
  elsewhere?: (name: string) => string | undefined,
): void {
  warnOfUnknown(options, checks, owner, prefix, elsewhere)
  for (const [name, test] of Object.entries(checks)) {
    demand((options as Record<string, unknown>)[name], test, `${prefix}${name} option`)
  }
}

/** Warns of unknown options, and suggests what may be meant: by `elsewhere`, else the most similar name. */
function warnOfUnknown(
  options: object,
  checks: object,
  owner: string,
  prefix = '',
  elsewhere: (name: string) => string | undefined = () => undefined,
): void {
  for (const name of Object.keys(options)) {
    if (Object.hasOwn(checks, name)) continue
    const meant = elsewhere(name) ?? nearest(name, Object.keys(checks))
    const hint = meant ? `; did you mean ${prefix}${meant}?` : ''
    const option = prefix + name
    warnOnce('SESSION_UNKNOWN_OPTION', `${owner} has no option ${option}${hint}`, `option ${owner} ${option}`)
  }
}

/** A value as messages show it. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'function')
    return value.toString().startsWith('class') ? `the class ${value.name}` : 'a function'
  if (typeof value !== 'object' || value === null) return String(value)
  const { name } = (value.constructor as { name?: string } | undefined) ?? {}
  return !name || name === 'Object' ? 'an object' : `${/^[aeiou]/i.test(name) ? 'an' : 'a'} ${name}`
}

/** The name that differs in the fewest letters, if those are few. */
function nearest(name: string, names: string[]): string | undefined {
  const ranked = names.map((known) => ({ known, distance: distance(name.toLowerCase(), known.toLowerCase()) }))
  ranked.sort((a, b) => a.distance - b.distance)
  const best = ranked[0]
  return best && best.distance <= Math.max(2, name.length / 3) ? best.known : undefined
}

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[j] as number) + 1, (next[j - 1] as number) + 1))
    }
    row = next
  }
  return row[b.length] as number
}
