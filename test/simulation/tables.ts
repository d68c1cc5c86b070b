import { numbersOf } from './clock'
import type { Client, Options, Plan, Scenario, Setup } from './scenario'

/** What handlers of real applications do, in a few actions. */
export const PROGRAMS: readonly string[] = [
  'end',
  'look a; end',
  'all; end',
  'set a; end',
  'set b; end',
  'look a; set b; end',
  'look b; set a; end',
  'look a; set a; end',
  'put a "a0"; end',
  'put b "b0"; put a 1; end',
  'put o {"x":1,"y":0}; end',
  'put o {"x":0,"y":1}; end',
  'inside o; end',
  'delete a; end',
  'touch; end',
  'set a; save; set b; end',
  'look a; save; set b; end',
  'set a; wait; end',
  'look a; wait; end',
  'reload; look a; set b; end',
  'set a; get; end',
  'update n; end',
  'update n; set a; end',
  'update n; update n; end',
  'renew; end',
  'set a; renew; end',
  'renew; set b; end',
  'regenerate; end',
  'regenerate; set a; save; end',
  'destroy; end',
  'set a; destroy; end',
  'add mA; end',
  'take; end',
  'take; set a; end',
  'remember; end',
  'stream; set a; end',
  'set a; stream; end',
  'stream; look a; end',
  'set a; gone',
  'gone; set a',
]

/** For those that know users. */
export const USER_PROGRAMS: readonly string[] = [
  'login ada; end',
  'login bob; end',
  'regenerate; login ada; end',
  'renew; login ada; end',
  'login ada; renew; end',
  'login bob; save; end',
  'endAll ada; end',
  'endOthers; end',
]

const AGED: Options = { cookie: { maxAge: 86_400_000 } }

/** Options that have a part in what is simulated. */
export const OPTIONS: readonly Options[] = [
  {},
  { conflict: 'overwrite' },
  { conflict: 'error' },
  AGED,
  { ...AGED, rolling: true },
  { ...AGED, onSaveError: 'error' },
  { rolling: true, clearCookie: true },
  { resave: true },
  { hashIds: true },
  { hashIds: { migrate: true } },
  { idleTimeout: 1_800_000 },
  { renewalTimeout: 20, renewalGrace: 10_000 },
  { touchAfter: 60_000 },
  { user: true },
  { user: true, rolling: true, ...AGED },
  { user: true, hashIds: true },
  { user: true, maxSessionsPerUser: 1 },
  { user: true, maxSessionsPerUser: 1, onSessionLimit: 'refuse' },
  { user: true, maxSessionsPerUser: 2 },
  { user: true, renewalTimeout: 20 },
]

/** Each request leaves a message of its own. */
function named(program: string, name: string): string {
  return program.replace('add mA', `add m${name}`)
}

/** Every pair of programs, in one process and in two. */
export function* pairs(
  programs: readonly string[] = PROGRAMS,
  options: readonly Options[] = [{}],
): Generator<Scenario> {
  for (const one of options) {
    for (const [i, first] of programs.entries()) {
      for (const second of programs.slice(i)) {
        const setup = /take/.test(first + second) && { setup: 'flash' as const }
        const B = { does: named(second, 'B') }
        for (const place of [{}, { in: 2 as const }])
          yield { options: one, ...setup, requests: { A: { does: first }, B: { ...B, ...place } } }
      }
    }
  }
}

/** How many schedules in a row are of the same scenario. */
const SCHEDULES_EACH = 20

export interface Chance {
  readonly scenario: Scenario
  readonly random: () => number
  /** How often a store call goes wrong. */
  readonly rate: number
}

/** The scenario of this number, and the chance that makes its schedule. */
export function byNumber(seed: number): Chance {
  const rest = numbersOf(seed)
  const random = numbersOf(Math.floor(seed / SCHEDULES_EACH) * 7919 + 1)
  const one = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T
  const isClassic = random() < 0.15
  const options = one(
    isClassic ? OPTIONS.filter((some) => !/user|hash|renewal|conflict/.test(JSON.stringify(some))) : OPTIONS,
  )
  const programs = options.user ? [...PROGRAMS, ...USER_PROGRAMS, ...USER_PROGRAMS] : PROGRAMS
  const setup = one<Setup>([
    'visitor',
    'flash',
    ...(options.user ? (['ada', 'ada'] as const) : []),
    ...(typeof options.hashIds === 'object' ? (['plain', 'plain', 'plain'] as const) : []),
  ])
  const requests: Record<string, Plan> = {}
  const count = one([1, 2, 2, 2, 3, 3, 4])
  const hasTwo = !isClassic && random() < 0.6
  for (const name of ['A', 'B', 'C', 'D'].slice(0, count)) {
    const from: Client =
      random() < 0.7 ? 'browser' : one(options.user ? ['attacker', 'phone', 'stranger'] : ['attacker', 'stranger'])
    requests[name] = {
      does: named(one(programs), name),
      ...(hasTwo && random() < 0.5 && { in: 2 as const }),
      ...(from !== 'browser' && { from }),
    }
  }
  const scenario: Scenario = {
    options,
    ...(isClassic && { store: 'classic' as const }),
    ...(setup !== 'visitor' && { setup }),
    requests,
    ...(random() < 0.3 && { split: true }),
  }
  return { scenario, random: rest, rate: random() < 0.5 ? 0 : 0.15 }
}
