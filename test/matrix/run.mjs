// The tests on other versions of Node: npm run matrix [-- 20 22 24 26]. Each comes from the npm package `node`.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

const versions = process.argv.length > 2 ? process.argv.slice(2) : ['20', '22', '24', '26']
const results = []

for (const version of versions) {
  const folder = path.join(tmpdir(), `sessile-node-${version}`)
  mkdirSync(folder, { recursive: true })
  writeFileSync(path.join(folder, 'package.json'), '{}')
  execFileSync('npm', ['install', '--no-save', '--silent', `node@${version}`], { cwd: folder, stdio: 'inherit' })
  const bin = path.join(folder, 'node_modules/node/bin')
  const exact = execFileSync(path.join(bin, 'node'), ['--version'], { encoding: 'utf8' }).trim()
  console.log(`\n== Node ${exact}`)
  const { status } = spawnSync(path.join(bin, 'node'), ['node_modules/vitest/vitest.mjs', 'run', '--reporter=dot'], {
    stdio: 'inherit',
    env: { ...process.env, PATH: `${bin}:${process.env.PATH}` },
  })
  results.push({ node: exact, status })
}

console.log('')
for (const { node, status } of results) console.log(`Node ${node}: ${status === 0 ? 'passed' : 'FAILED'}`)
process.exit(results.some(({ status }) => status !== 0) ? 1 : 0)
