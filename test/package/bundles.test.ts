// @module-tag slow
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import commonjs from '@rollup/plugin-commonjs'
import json from '@rollup/plugin-json'
import nodeResolve from '@rollup/plugin-node-resolve'
import { build } from 'esbuild'
import { rollup } from 'rollup'
import { afterEach, describe, expect, test } from 'vitest'
import { RecipeFolder } from '../support/recipes'

/** An app that makes a mistake, so that the library, which is somewhere else now, tells where to read of it. */
const APP = `
  import express from 'express'
  import session from 'sessile'
  import { SqliteStore } from 'sessile/sqlite'
  if (typeof SqliteStore !== 'function') throw new Error('no store')
  const app = express()
  app.use(session('a secret for tests only, 3f9c2a7d51', { cookie: { secure: true } }))
  app.get('/', (req, res) => {
    req.session.views = 1
    res.send('viewed')
  })
  process.on('warning', ({ message }) => console.log(message))
  const server = app.listen(0, async () => {
    console.log(await (await fetch('http://127.0.0.1:' + server.address().port)).text())
    setImmediate(() => process.exit())
  })
`
const banner = `import { createRequire } from 'node:module'; const require = createRequire(import.meta.url)`

/** Each puts the app and all that it needs into one ES module. */
const bundlers: Record<string, (input: string, file: string) => Promise<unknown>> = {
  esbuild: (input, outfile) =>
    build({
      entryPoints: [input],
      outfile,
      bundle: true,
      platform: 'node',
      format: 'esm',
      preserveSymlinks: true,
      banner: { js: banner },
    }),
  async Rollup(input, file) {
    const plugins = [nodeResolve({ preferBuiltins: true }), json(), commonjs({ ignoreDynamicRequires: true })]
    const bundle = await rollup({ input, plugins, preserveSymlinks: true, logLevel: 'silent' })
    await bundle.write({ file, format: 'es', inlineDynamicImports: true })
  },
  async Rolldown(input, file) {
    const { rolldown } = await import('rolldown')
    const bundle = await rolldown({ input, platform: 'node', resolve: { symlinks: false }, logLevel: 'silent' })
    await bundle.write({ file, format: 'esm' })
  },
}

let folders: RecipeFolder[] = []
afterEach(async () => {
  await Promise.all(folders.map((folder) => folder.close()))
  folders = []
})

describe('as one ES module', { timeout: 120_000 }, () => {
  test.each(Object.keys(bundlers))(
    'made by %s, an app starts where no package is, and its hint names a page',
    async (name) => {
      const source = new RecipeFolder({ 'app.mjs': APP })
      const alone = new RecipeFolder({}, false)
      folders = [source, alone]
      await bundlers[name]!(path.join(source.path, 'app.mjs'), path.join(source.path, 'out.mjs'))
      alone.write('server.mjs', readFileSync(path.join(source.path, 'out.mjs'), 'utf8'))
      const told = execFileSync(process.execPath, ['--no-warnings', 'server.mjs'], {
        cwd: alone.path,
        encoding: 'utf8',
      })
      expect(told).toMatch(/^viewed$/m)
      const [, link = ''] = /secure: true was not set.*\((.*#secure-cookie)\)/.exec(told) ?? []
      expect(link).toMatch(/troubleshooting/)
      // What is not there is not linked to.
      expect(link).not.toMatch(/^file:/)
    },
  )
})
