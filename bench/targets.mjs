import { timesLess } from './end-to-end.mjs'

/**
 * What the numbers are held to. Each target reads one figure from the results and says how large it has to be
 * (`atLeast`) or may be (`atMost`).
 */
export const TARGETS = [
  less('returning, reads, 200 B', 4.5),
  floor('returning, reads, 200 B', 1.3),
  less('returning, writes, 200 B', 4.5),
  floor('returning, writes, 200 B', 1.4),
  less('returning, reads, 4.4 KB', 4.5),
  floor('returning, reads, 4.4 KB', 1.15),
  less('returning, writes, 4.4 KB', 4),
  floor('returning, writes, 4.4 KB', 1.25),
  less('returning, never looked at, 4.4 KB', 25),
  less('new visitor, untouched', 3),
  less('new visitor, looked at, untouched', 4),
  less('new visitor, logs in', 2.5),
  ...Object.entries({
    'idleTimeout, absoluteTimeout, renewalTimeout': { reads: 1.15, writes: 1.15 },
    hashIds: { reads: 1.25, writes: 1.25 },
    user: { reads: 1.1, writes: 1.3 },
  }).flatMap(([option, limits]) => Object.entries(limits).map(([kind, atMost]) => costOf(option, kind, atMost))),
  encryption('reads', 'opening'),
  encryption('writes', 'opening', 'sealing'),
  {
    in: 'end-to-end',
    name: 'Express 5, returning, reads: times less than express-session',
    figure: (results) => timesLess(results, 'express', 'express-session', 'sessile'),
    atLeast: 3.2,
  },
  ...[
    ['fastify', '@fastify/session'],
    ['koa', 'koa-session'],
  ].map(([framework, sessions]) => ({
    in: 'end-to-end',
    name: `Express 5, returning, reads: added cost over that of ${sessions}`,
    figure: (results) => results['express: sessile'].read.median / results[`${framework}: ${sessions}`].read.median,
    atMost: 1,
  })),
  {
    in: 'end-to-end',
    name: 'Express 5 and Redis, returning, reads: times less than with connect-redis',
    figure: (results) => timesLess(results, 'express', 'express-session+connect-redis', 'sessile+redis'),
    atLeast: 1.8,
  },
  {
    in: 'round-trips',
    name: 'Redis, returning, reads: commands',
    figure: (results) => results['sessile/redis']['returning, reads'].length,
    atMost: 1,
  },
  {
    in: 'round-trips',
    name: 'Redis, regenerate then save: writes of a session',
    figure: (results) =>
      results['sessile/redis']['login by regenerate, then save'].filter((name) =>
        ['SET', 'EVALSHA', 'EVAL'].includes(name),
      ).length,
    atMost: 1,
  },
  {
    in: 'scale',
    name: 'memory store, 200 B session at a million: bytes',
    figure: (results) => results['1,000,000 of 200 B'].sessile.bytes,
    atMost: 415,
  },
  ...['get', 'set', 'touch', 'set new, destroy', 'request, reads'].map((operation) => ({
    in: 'scale',
    name: `memory store, ${operation}: time at a million sessions over that at a thousand`,
    figure: (results) =>
      results['1,000,000 of 200 B'].sessile.operations[operation] /
      results['1,000 of 200 B'].sessile.operations[operation],
    atMost: 1.5,
  })),
  {
    in: 'scale',
    name: 'memory store, a million sessions expire: longest pause, ms',
    figure: (results) => results['1,000,000 of 200 B'].sessile.expiry.longestPauseWithoutGc,
    atMost: 10,
  },
  {
    in: 'startup',
    name: 'time of require where Express is loaded, over that of express-session',
    figure: (results) => results.sessile.besideExpress.median / results['express-session'].besideExpress.median,
    atMost: 1.2,
  },
]

function less(scenario, atLeast) {
  return {
    in: 'in-process',
    name: `${scenario}: times less than express-session`,
    figure: (results) => results[scenario].timesLess.median,
    atLeast,
  }
}

function costOf(option, kind, atMost) {
  return {
    in: 'options',
    name: `${option}, ${kind}: over the same without it`,
    figure: (results) => results[kind][option].median / results[kind].none.median,
    atMost,
  }
}

function encryption(kind, ...works) {
  return {
    in: 'options',
    name: `encryption, ${kind}: what it adds, over the time of Node's crypto`,
    figure: ({ crypto, [kind]: sets }) =>
      (sets.encryption.median - sets.none.median) /
      works.reduce((sum, work) => sum + crypto[`AES-256-GCM, ${work} a session`], 0),
    atMost: 1.2,
  }
}

function floor(scenario, atMost) {
  return {
    in: 'in-process',
    name: `${scenario}: over the floor`,
    figure: (results) => results[scenario].overFloor.median,
    atMost,
  }
}

/** Each target of the benchmarks that there are results of, with its figure and whether it is met. */
export function checkTargets(results) {
  return TARGETS.filter((target) => results[target.in]).map((target) => {
    const figure = target.figure(results[target.in])
    const met = target.atLeast === undefined ? figure <= target.atMost : figure >= target.atLeast
    return { ...target, figure, met }
  })
}
