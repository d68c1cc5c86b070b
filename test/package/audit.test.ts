// @module-tag slow
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { json } from 'node:stream/consumers'
import { createGunzip } from 'node:zlib'
import { expect, test } from 'vitest'

const root = path.join(__dirname, '../..')

/** What GitHub's advisory database has on the packages that users get along with the library: name, advisory, versions. */
const PUBLISHED = [
  ['cookie', 'GHSA-pxg6-pf52-xh8x', '<0.7.0'],
  ['cookie-signature', 'GHSA-92vm-wfm5-mxvv', '<1.0.4'],
  ['debug', 'GHSA-9vvw-cc9w-f27h', '<2.6.9'],
  ['debug', 'GHSA-gxpj-cx7g-858c', '<2.6.9 || >=3.0.0 <3.1.0 || >=3.2.0 <3.2.7 || >=4.0.0 <4.3.1'],
  ['debug', 'GHSA-4x49-vf9v-38px', '=4.4.2'],
  ['ms', 'GHSA-3fx5-fwvr-xrjg', '<0.7.1'],
  ['ms', 'GHSA-w9mr-4mfr-499f', '<2.0.0'],
  ['on-headers', 'GHSA-76c9-3jph-rj3q', '<1.1.0'],
] as const

type Advisories = readonly (readonly [name: string, id: string, versions: string])[]

/** Runs the audit against a registry that answers in this way. */
async function audit(
  answer: (req: IncomingMessage, res: ServerResponse) => unknown,
): Promise<{ code: number | null; output: string }> {
  const registry = createServer((req, res) => void answer(req, res)).listen(0, '127.0.0.1')
  await once(registry, 'listening')
  const { port } = registry.address() as AddressInfo
  const child = spawn(process.execPath, [path.join(__dirname, 'audit.mjs')], {
    cwd: root,
    env: { ...process.env, npm_config_registry: `http://127.0.0.1:${port}` },
  })
  let output = ''
  child.stdout.on('data', (chunk) => (output += String(chunk)))
  child.stderr.on('data', (chunk) => (output += String(chunk)))
  const [code] = (await once(child, 'close')) as [number | null]
  registry.close()
  return { code, output }
}

/** A registry that has these advisories, and answers for the packages that it is asked about. */
function having(advisories: Advisories): (req: IncomingMessage, res: ServerResponse) => Promise<void> {
  return async (req, res) => {
    if (req.method !== 'POST') return notFound(res)
    const asked = (await json(req.pipe(createGunzip()))) as object
    const found: Record<string, object[]> = {}
    for (const [number, [name, id, versions]] of advisories.entries()) {
      if (!(name in asked)) throw new Error(`${name} is no package that users get`)
      const advisory = { id: number, title: id, url: id, severity: 'high', vulnerable_versions: versions }
      ;(found[name] ??= []).push(advisory)
    }
    res.setHeader('Content-Type', 'application/json')
    res.end(JSON.stringify(found))
  }
}

function notFound(res: ServerResponse): void {
  res.statusCode = 404
  res.end('{}')
}

test('no published advisory is about the versions that users get', async () => {
  const { code, output } = await audit(having(PUBLISHED))
  expect(output).toBe('0 known vulnerabilities in 10 packages\n')
  expect(code).toBe(0)
})

test('the audit fails when one is', async () => {
  const { code, output } = await audit(having([...PUBLISHED, ['cookie', 'GHSA-test', '<99']]))
  expect(output).toContain('cookie')
  expect(output).toContain('GHSA-test')
  expect(output).toContain('1 known vulnerabilities')
  expect(code).toBe(1)
})

test('a registry that does not audit is said to be none', async () => {
  const { code, output } = await audit((_req, res) => {
    res.statusCode = 405
    res.end()
  })
  expect(output).toContain('NOT AUDITED')
  expect(code).toBe(0)
})

test('any other failure is one', async () => {
  const { code, output } = await audit((_req, res) => {
    res.statusCode = 401
    res.end()
  })
  expect(output).toContain('npm audit failed: 401')
  expect(code).toBe(1)
})
