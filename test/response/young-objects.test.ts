// @module-tag slow
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const SCRIPT = `
  import { respond, send } from './bench/requests.mjs'
  import session from './dist/index.js'
  const sessions = session({ secret: 'a secret of thirty-two characters', resave: false, saveUninitialized: false, hints: false })
  await send((req, res) => sessions(req, res, () => respond(res, 'Ada Lovelace')), [undefined], 12_000)
`

// See docs/decisions/young-objects.md.
test('a request that is over does not live through the next collection of young objects', async () => {
  const flags = ['--trace-gc', '--no-opt', '--min-semi-space-size=16', '--input-type=module', '--eval', SCRIPT]
  const { stdout } = await promisify(execFile)(process.execPath, flags)
  const left = [...stdout.matchAll(/Scavenge [\d.]+ \([\d.]+\) -> ([\d.]+)/g)].map(([, megabytes]) => Number(megabytes))
  expect(left.length).toBeGreaterThan(4)
  expect(Math.max(...left.slice(2)) - Math.min(...left)).toBeLessThan(3)
})
