import { ask } from './processes.mjs'
import { short, table } from './numbers.mjs'

export const title = 'Scale: the memory store'

const program = new URL('./scale-store.mjs', import.meta.url)

const SIZES = [
  { sessions: 1000, size: 200 },
  { sessions: 100_000, size: 200 },
  { sessions: 1_000_000, size: 200 },
  { sessions: 200, size: 64_000 },
  { sessions: 50, size: 1_000_000 },
]

export const nameOf = ({ sessions, size }) => `${sessions.toLocaleString('en-US')} of ${sizeName(size)}`

function sizeName(size) {
  if (size >= 1_000_000) return `${size / 1_000_000} MB`
  return size >= 1000 ? `${size / 1000} KB` : `${size} B`
}

export async function run({ quick }) {
  const results = {}
  for (const scale of SIZES) {
    if (quick && scale.sessions === 1_000_000) continue
    results[nameOf(scale)] = {}
    for (const library of ['a Map', 'express-session', 'sessile']) {
      console.error(`  ${nameOf(scale)}: ${library}`)
      results[nameOf(scale)][library] = await ask(program, [library, String(scale.sessions), String(scale.size)], {
        execArgv: ['--expose-gc', '--max-old-space-size=6144'],
      })
    }
  }
  return results
}

const OPERATIONS = ['get', 'set', 'touch', 'set new, destroy', 'request, reads']

export function tables(results) {
  const rows = Object.entries(results).flatMap(([name, libraries]) =>
    Object.entries(libraries).map(([library, { bytes, operations, expiry }]) => [
      `${name}: ${library}`,
      short(bytes),
      ...OPERATIONS.map((name) => short(operations[name])),
      short(expiry?.longestPauseWithoutGc),
      short(expiry?.longestPause),
      short(expiry?.bytesLeft),
    ]),
  )
  const header = [
    'sessions',
    'bytes each',
    'get, µs',
    'set, µs',
    'touch, µs',
    'set new + destroy, µs',
    'request that reads, µs',
    'longest pause while all expire, ms',
    'with garbage collection, ms',
    'bytes each after expiry',
  ]
  return table(header, rows)
}
