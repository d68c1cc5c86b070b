import type session from '../../src'

/** A simulation as a test writes it down: `replay` takes it, and a failure prints it. */
export interface Scenario {
  /** The options of `session()`, except that `user: true` stands for the key `user` of a session. Default: none. */
  readonly options?: Options
  /** Which contract the store is of. Default: the record contract. */
  readonly store?: 'record' | 'classic'
  /** What is there before: see `SETUPS`. Default: `visitor`. */
  readonly setup?: Setup
  /** The requests, by their names, which are single letters. */
  readonly requests: Readonly<Record<string, Plan>>
  /** Whether what a store call answers is a step of its own, after the call. Default: false. */
  readonly split?: boolean
  /**
   * Whose step comes next, as names of requests: `A` does what request A waits for, `A2` the second of two such things;
   * `A!before` and the like have its store call go wrong, see `FAULTS`. What is left after it goes on in the order in
   * which it came to wait.
   */
  readonly schedule?: string
}

export interface Plan {
  /** What the handler does, see `ACTIONS`: names with an argument, separated by semicolons. */
  readonly does: string
  /** Which process serves it. Default: 1. */
  readonly in?: 1 | 2
  /** Whose cookie it presents: see `CLIENTS`. Default: `browser`. */
  readonly from?: Client
}

/** What can go wrong with a store call. */
export const FAULTS = {
  before: 'it fails and does nothing',
  after: 'it does its deed and fails',
  lost: 'it does its deed and never answers',
  unheard: 'it does nothing and never answers',
  dead: 'the process dies before it',
  died: 'the process dies after it',
} as const
export type Fault = keyof typeof FAULTS

/** Who sends requests. */
export const CLIENTS = {
  browser: 'has the session S0, in all its tabs',
  attacker: 'has a copy of the cookie of S0',
  phone: 'has the session S1, where there are users',
  stranger: 'has no cookie',
} as const
export type Client = keyof typeof CLIENTS

/** What is there before the requests. */
export const SETUPS = {
  visitor: 'S0 is of nobody; S1, with the option user, of ada',
  ada: 'S0 is of ada, and so is S1 with the option user',
  flash: 'S0 is of nobody, and a flash message waits in it',
  plain: 'S0 is of nobody, stored as before the option hashIds was switched on',
} as const
export type Setup = keyof typeof SETUPS

export type Options = Omit<session.SessionOptions, 'user' | 'store' | 'secret' | 'conflict'> & {
  readonly user?: true
  readonly conflict?: 'merge' | 'overwrite' | 'error'
}

export interface Action {
  readonly name: string
  readonly argument: string
  /** Whether the handler goes on without waiting for it, and without a look at its error. */
  readonly isLoose: boolean
}

export function actionsOf({ does }: Plan): Action[] {
  return does.split(';').map((text) => {
    const [, loose = '', name = '', argument = ''] = /^\s*(~?)(\S+)\s*(.*?)\s*$/.exec(text) ?? []
    return { name, argument, isLoose: loose === '~' }
  })
}

export interface Step {
  readonly actor: string
  /** Which of the things that the request waits for: 0 is the oldest. */
  readonly place: number
  readonly fault: Fault | undefined
}

export function stepsOf(schedule: string): Step[] {
  return [...schedule.matchAll(/([A-Z])(\d*)(?:!(\w+))?/g)].map(([, actor, place, fault]) => ({
    actor: actor as string,
    place: place ? Number(place) - 1 : 0,
    fault: fault as Fault | undefined,
  }))
}

export function textOf({ actor, place, fault }: Step): string {
  return `${actor}${place ? place + 1 : ''}${fault ? `!${fault}` : ''}`
}

/** The scenario as the call that a test repeats it with. */
export function literalOf(scenario: Scenario): string {
  const { requests, ...rest } = scenario
  const lines = Object.entries(rest).map(([name, value]) => `  ${name}: ${show(value)},`)
  const plans = Object.entries(requests).map(([name, plan]) => `    ${name}: ${show(plan)},`)
  return ['replay({', ...lines.slice(0, -1), '  requests: {', ...plans, '  },', ...lines.slice(-1), '})'].join('\n')
}

function show(value: unknown): string {
  if (typeof value === 'string') return value.includes("'") ? JSON.stringify(value) : `'${value}'`
  if (typeof value !== 'object' || value === null) return String(value)
  const inner = Object.entries(value).map(([name, one]) => `${name}: ${show(one)}`)
  return inner.length > 0 ? `{ ${inner.join(', ')} }` : '{}'
}
