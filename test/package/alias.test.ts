// @module-tag slow
import { execFile, execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

/**
 * What `npm install express-session@npm:sessile` does beside packages that want express-session. npm compares the
 * ranges of these packages with sessile's own version. The registry is one of this test's, with few packages.
 */
interface Manifest {
  name: string
  version: string
  dependencies?: Record<string, string>
  peerDependencies?: Record<string, string>
}

const root = path.join(__dirname, '../..')
const folder = mkdtempSync(path.join(tmpdir(), 'sessile-alias-'))
const published = new Map<string, { manifest: Manifest; tarball: string }>()
let registry: Server
let address = ''

function manifestOf(at: string): Manifest {
  return JSON.parse(readFileSync(path.join(at, 'package.json'), 'utf8')) as Manifest
}

/** Publishes a folder as it is. */
function publish(at: string): void {
  const manifest = manifestOf(at)
  const staged = path.join(folder, 'staged', manifest.name)
  cpSync(at, path.join(staged, 'package'), { recursive: true })
  const tarball = path.join(folder, `${manifest.name}.tgz`)
  execFileSync('tar', ['-czf', tarball, '-C', staged, 'package'])
  published.set(manifest.name, { manifest, tarball })
}

function publishOneFile(manifest: Manifest, code: string): void {
  const at = path.join(folder, 'made', manifest.name)
  mkdirSync(at, { recursive: true })
  writeFileSync(path.join(at, 'package.json'), JSON.stringify(manifest))
  writeFileSync(path.join(at, 'index.js'), code)
  publish(at)
}

/** Publishes a package that requires express-session and exports what it got. */
function publishOneThatWants(name: string, wants: Partial<Manifest>): void {
  publishOneFile({ name, version: '1.0.0', ...wants }, `module.exports = require('express-session')`)
}

/** Publishes sessile, as it is packed, and all that it depends on. */
function publishSessile(): void {
  const tarballs = path.join(folder, 'packed')
  mkdirSync(tarballs)
  const output = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', tarballs], {
    cwd: root,
    encoding: 'utf8',
  })
  const [packed] = Object.values(JSON.parse(output) as Record<string, { filename: string }>)
  execFileSync('tar', ['-xzf', path.join(tarballs, packed?.filename ?? ''), '-C', tarballs])
  publish(path.join(tarballs, 'package'))
  const wanted = Object.keys(manifestOf(root).dependencies ?? {})
  for (const name of wanted) {
    if (published.has(name)) continue
    const at = path.join(root, 'node_modules', name)
    publish(at)
    wanted.push(...Object.keys(manifestOf(at).dependencies ?? {}))
  }
}

/** Runs `npm install` in a project, and answers what express-session is there, and which other packages get the same. */
async function install(name: string, packageJson: { dependencies: Record<string, string>; overrides?: object }) {
  const at = path.join(folder, 'projects', name)
  mkdirSync(at, { recursive: true })
  writeFileSync(path.join(at, 'package.json'), JSON.stringify(packageJson))
  const options = ['--no-audit', '--no-fund', '--registry', address, '--cache', path.join(folder, 'cache')]
  await promisify(execFile)('npm', ['install', ...options], { cwd: at, shell: process.platform === 'win32' })
  const code = `const session = require('express-session')
    const [, ...others] = Object.keys(require('./package.json').dependencies)
    console.log(JSON.stringify({
      sessile: typeof session.RecordStore === 'function',
      others: others.filter((name) => require(name) === session),
    }))`
  return JSON.parse(execFileSync(process.execPath, ['-e', code], { cwd: at, encoding: 'utf8' })) as unknown
}

beforeAll(async () => {
  publishSessile()
  publishOneThatWants('peer', { peerDependencies: { 'express-session': '^1.17.1' } })
  publishOneThatWants('open-peer', { peerDependencies: { 'express-session': '>=1.17.1' } })
  publishOneThatWants('dependent', { dependencies: { 'express-session': '^1.15.6' } })
  publishOneThatWants('pinned', { dependencies: { 'express-session': '1.19.0' } })
  publishOneFile({ name: 'express-session', version: '1.19.0' }, `module.exports = 'the original'`)

  registry = createServer((req, res) => {
    const [, name = '', file] = (req.url ?? '').split('/')
    const found = published.get(name)
    if (!found) return void res.writeHead(404).end('{}')
    if (file) return void res.end(readFileSync(found.tarball))
    const { version } = found.manifest
    const manifest = { ...found.manifest, dist: { tarball: `${address}/${name}/${name}.tgz` } }
    res.setHeader('Content-Type', 'application/json')
    res.end(JSON.stringify({ name, 'dist-tags': { latest: version }, versions: { [version]: manifest } }))
  }).listen(0, '127.0.0.1')
  await once(registry, 'listening')
  address = `http://127.0.0.1:${(registry.address() as AddressInfo).port}`
})

afterAll(() => {
  registry.close()
  rmSync(folder, { recursive: true })
})

describe('express-session@npm:sessile', { timeout: 120_000 }, () => {
  const alias = { 'express-session': 'npm:sessile' }
  const overrides = { 'express-session': '$express-session' }

  test('is the one copy for packages that have express-session as a peer or as a dependency', async () => {
    const packageJson = { dependencies: { ...alias, peer: '*', 'open-peer': '*', dependent: '*' } }
    expect(await install('ranges', packageJson)).toEqual({ sessile: true, others: ['peer', 'open-peer', 'dependent'] })
  })

  test('is overlooked by a package that depends on one version, unless package.json overrides that', async () => {
    const dependencies = { ...alias, pinned: '*' }
    expect(await install('pinned', { dependencies })).toEqual({ sessile: true, others: [] })
    expect(await install('overridden', { dependencies, overrides })).toEqual({ sessile: true, others: ['pinned'] })
  })

  test('takes the place of the original in a project that has a lock file, if both entries are written at once', async () => {
    const dependencies = { 'express-session': '1.19.0', pinned: '*', dependent: '*' }
    expect(await install('locked', { dependencies })).toEqual({ sessile: false, others: ['pinned', 'dependent'] })
    expect(
      await install('locked', {
        dependencies: { ...dependencies, 'express-session': 'npm:sessile@^1.20.0' },
        overrides,
      }),
    ).toEqual({
      sessile: true,
      others: ['pinned', 'dependent'],
    })
  })
})
