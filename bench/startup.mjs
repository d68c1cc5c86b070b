import { execFileSync } from 'node:child_process'
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ask } from './processes.mjs'
import { short, spread, summary, table } from './numbers.mjs'

export const title = 'Start-up: time and memory of require, installed size'

const program = new URL('./startup-require.cjs', import.meta.url)
const root = fileURLToPath(new URL('..', import.meta.url))
const original = createRequire(import.meta.url)('express-session/package.json')

export async function run({ quick }) {
  const folder = mkdtempSync(join(tmpdir(), 'sessile-bench-'))
  try {
    return await measure(folder, quick ? 7 : 41)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Installs both packages as a user would, each alone, and both with Express, and loads them in turns, each time in a new process. */
async function measure(folder, runs) {
  const packed = execFileSync('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], {
    cwd: root,
    encoding: 'utf8',
  })
  const specs = {
    'express-session': `express-session@${original.version}`,
    sessile: join(folder, packed.trim().split('\n').at(-1)),
  }
  const packages = Object.fromEntries(
    Object.entries(specs).map(([name, spec]) => [name, install(folder, name, [spec])]),
  )
  const withExpress = install(folder, 'express', ['express@5', ...Object.values(specs)])
  const measured = Object.fromEntries(Object.keys(packages).map((name) => [name, []]))
  const besideExpress = Object.fromEntries(Object.keys(packages).map((name) => [name, []]))
  for (let run = -1; run < runs; run++) {
    for (const [name, place] of Object.entries(packages)) {
      const one = await ask(program, [join(place, 'node_modules', name)], { execArgv: ['--expose-gc'] })
      const [sessions, express] = [name, 'express'].map((of) => join(withExpress, 'node_modules', of))
      const beside = await ask(program, [sessions, express], { execArgv: ['--expose-gc'] })
      if (run < 0) continue
      measured[name].push(one)
      besideExpress[name].push(beside.milliseconds)
    }
  }
  return Object.fromEntries(
    Object.entries(packages).map(([name, place]) => {
      const of = (key) => summary(measured[name].map((one) => one[key]))
      return [
        name,
        {
          milliseconds: of('milliseconds'),
          besideExpress: summary(besideExpress[name]),
          bytes: of('bytes'),
          files: measured[name][0].files,
          installed: installed(join(place, 'node_modules')),
        },
      ]
    }),
  )
}

function install(folder, name, what) {
  const place = join(folder, `with-${name}`)
  mkdirSync(place)
  writeFileSync(join(place, 'package.json'), '{ "private": true }\n')
  execFileSync(
    'npm',
    ['install', '--omit=dev', '--no-audit', '--no-fund', '--no-package-lock', '--ignore-scripts', '--silent', ...what],
    {
      cwd: place,
      stdio: ['ignore', 'ignore', 'inherit'],
    },
  )
  return place
}

/** Bytes and files of a folder, as their lengths say, whatever the file system's block size. */
function installed(folder) {
  const files = readdirSync(folder, { recursive: true })
    .map((name) => lstatSync(join(folder, name)))
    .filter((stat) => stat.isFile())
  return { bytes: files.reduce((sum, { size }) => sum + size, 0), files: files.length }
}

export function tables(results) {
  const rows = Object.entries(results).map(([name, { milliseconds, besideExpress, bytes, files, installed }]) => [
    name,
    spread(milliseconds),
    spread(besideExpress),
    short(bytes.median / 1024),
    short(files),
    short(installed.bytes / 1024),
    short(installed.files),
  ])
  return table(
    ['package', 'require, ms', 'after Express, ms', 'memory, KiB', 'files loaded', 'installed, KiB', 'files installed'],
    rows,
  )
}
