// Shows that a feature is a folder and its place in src/settings.ts: without them the rest compiles and passes its tests.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const root = path.join(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '../..')

/** Features, and the words of tests that are about them. */
const FEATURES = { timeouts: /idleTimeout|absoluteTimeout/, renewal: /renewalTimeout/ }
const FOLDERS = ['request', 'session', 'store', 'features', 'faults']

for (const [feature, itsWords] of Object.entries(FEATURES)) {
  const copy = mkdtempSync(path.join(root, '.without-'))
  try {
    for (const name of [
      'src',
      'test',
      'docs',
      'scripts',
      'package.json',
      'tsconfig.json',
      'tsconfig.build.json',
      'vitest.config.mts',
    ])
      cpSync(path.join(root, name), path.join(copy, name), { recursive: true })
    symlinkSync(path.join(root, 'node_modules'), path.join(copy, 'node_modules'))
    rmSync(path.join(copy, 'src/features', feature), { recursive: true })
    unwire(path.join(copy, 'src/settings.ts'), feature)
    const tests = testsWithout(copy, itsWords)
    run(copy, 'tsc', ['--noEmit', '-p', 'tsconfig.build.json'])
    run(copy, 'vitest', ['run', '--mode', 'quick', ...tests])
    console.log(`Without ${feature} the rest compiles and passes ${tests.length} files of tests.`)
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}

/** Takes out the import of a feature, and its name from the list of features. */
function unwire(file, feature) {
  const lines = readFileSync(file, 'utf8').split('\n')
  const name = new RegExp(`\\b${feature}, |, ${feature}\\b`)
  const left = lines
    .filter((line) => !line.includes(`/features/${feature}/`))
    .map((line) => (line.startsWith('const FEATURES') ? line.replace(name, '') : line))
  writeFileSync(file, left.join('\n'))
}

function testsWithout(copy, words) {
  const files = FOLDERS.flatMap((folder) =>
    readdirSync(path.join(copy, 'test', folder), { recursive: true }).map((name) => path.join('test', folder, name)),
  )
  return files.filter((file) => file.endsWith('.test.ts') && !words.test(readFileSync(path.join(copy, file), 'utf8')))
}

function run(cwd, program, args) {
  execFileSync(path.join(root, 'node_modules/.bin', program), args, {
    cwd,
    stdio: ['ignore', program === 'tsc' ? 'inherit' : 'ignore', 'inherit'],
  })
}
