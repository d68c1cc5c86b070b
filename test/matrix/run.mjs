// The tests on everything that sessile is for: npm run matrix [-- node20 express4 typescript7 …]
// Each version of Node and of TypeScript comes from npm; the library under test is the packed one.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

const root = path.join(import.meta.dirname, '../..')

/** Installs packages into a folder of their own, and answers where they are. */
function install(name, ...packages) {
  const folder = path.join(tmpdir(), `sessile-matrix-${name}`)
  mkdirSync(folder, { recursive: true })
  writeFileSync(path.join(folder, 'package.json'), '{}')
  execFileSync('npm', ['install', '--no-save', '--silent', ...packages], { cwd: folder, stdio: 'inherit' })
  return path.join(folder, 'node_modules')
}

/** The tarball, where the dependencies of the library are found: below `node_modules`. */
function pack() {
  const folder = path.join(root, 'node_modules/.packed')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: root })
  const [tarball] = readdirSync(folder)
  execFileSync('tar', ['-xzf', path.join(folder, tarball), '-C', folder])
  return path.join(folder, 'package')
}

function node(version) {
  return () => {
    const modules = install(`node${version}`, `node@${version}`, ...(version > 20 ? ['better-sqlite3@13'] : []))
    const bin = path.join(modules, 'node/bin')
    return { PATH: `${bin}:${process.env.PATH}`, NODE_PATH: modules }
  }
}

function typescript(version) {
  return () => ({ TYPESCRIPT: path.join(install(`typescript${version}`, `typescript@${version}`), 'typescript') })
}

/** Stores of others that bring a database's client along: their published types. */
function stores() {
  const packages =
    'connect-mongo mongodb connect-typeorm typeorm @quixo3/prisma-session-store connect-session-knex knex ' +
    'connect-session-sequelize sequelize @google-cloud/connect-firestore @google-cloud/firestore connect-dynamodb ' +
    '@types/express-mysql-session @types/connect-mongodb-session @types/connect-memcached'
  return { STORES: install('stores', '--ignore-scripts', '--legacy-peer-deps', ...packages.split(' ')) }
}

const wholeSuite = []
/** What CI has time for, beside the whole suite on the oldest version. */
const withoutTheLongest = [
  'processes',
  'browser',
  'examples',
  'docs',
  'registry',
  'kit',
  'cluster',
  'contract',
  'sealed',
  'at-once',
  'users',
  'alias',
  'differential',
  'forged',
  'tarball',
  'audit',
  'crash',
].flatMap((name) => ['--exclude', `**/*${name}*`])
const runs = {
  node20: { environment: node(20), tests: wholeSuite },
  node22: { environment: node(22), tests: wholeSuite },
  node24: { environment: node(24), tests: wholeSuite },
  node26: { environment: node(26), tests: wholeSuite },
  newest: { environment: node(26), tests: withoutTheLongest },
  express4: { environment: () => ({ EXPRESS: 'express4' }), tests: wholeSuite },
  stores: { environment: stores, tests: ['test/types/published.test.ts'] },
  'typescript4.5': { environment: typescript('4.5'), tests: ['test/types/published.test.ts'] },
  'typescript5.0': { environment: typescript('5.0'), tests: ['test/package', 'test/types/published.test.ts'] },
  'typescript5.9': { environment: typescript('5.9'), tests: ['test/package', 'test/types/published.test.ts'] },
  typescript7: { environment: typescript('7'), tests: ['test/package', 'test/types/published.test.ts'] },
}

const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(runs).filter((name) => name !== 'newest')
const unknown = chosen.filter((name) => !(name in runs))
if (unknown.length > 0) throw new Error(`unknown: ${unknown.join(', ')}; there are ${Object.keys(runs).join(', ')}`)

const PACKED_LIBRARY = pack()
const failed = []
if (process.argv.length === 2) {
  console.log('\n== simulation: every order of two requests, then 200,000 schedules by chance')
  const env = { ...process.env, SIMULATE_LIBRARY: path.join(PACKED_LIBRARY, 'dist/index.js') }
  const { status } = spawnSync('node', ['test/simulation/run.cjs'], { cwd: root, stdio: 'inherit', env })
  chosen.push('simulation')
  if (status !== 0) failed.push('simulation')
}
for (const name of chosen.filter((one) => one in runs)) {
  const { environment, tests } = runs[name]
  const thorough = tests === wholeSuite ? '1' : ''
  const env = { ...process.env, THOROUGH: thorough, PACKED_LIBRARY, ...environment() }
  const version = execFileSync('node', ['--version'], { env, encoding: 'utf8' }).trim()
  console.log(`\n== ${name} (Node ${version})`)
  const { status } = spawnSync('node', ['node_modules/vitest/vitest.mjs', 'run', '--reporter=dot', ...tests], {
    cwd: root,
    stdio: 'inherit',
    env,
  })
  if (status !== 0) failed.push(name)
}

for (const name of chosen) console.log(`${failed.includes(name) ? 'FAILED' : 'passed'}  ${name}`)
process.exit(failed.length > 0 ? 1 : 0)
