// npm run build [-- --if-changed]: dist, from src.
// Declarations come from the TypeScript compiler, one for each source file. The code comes from Rolldown, one file for each
// entry of `exports` in package.json. What `sessile` itself is made of lies in core.js, which all entries require: so there is one
// copy of each class in a process. What the source requires in the middle of its code is a file of its own, loaded then.
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import path from 'node:path'
import { rolldown } from 'rolldown'

const root = path.join(import.meta.dirname, '..')
const src = path.join(root, 'src')
const dist = path.join(root, 'dist')

function isNew() {
  const timeOf = (file) => statSync(path.join(root, file), { throwIfNoEntry: false })?.mtimeMs ?? 0
  const sources = readdirSync(src, { recursive: true }).map((file) => path.join('src', file))
  const all = [...sources, 'package.json', 'tsconfig.json', 'tsconfig.build.json', 'scripts/build.mjs']
  return timeOf('dist/index.js') > Math.max(...all.map(timeOf))
}

function entries() {
  const { exports, bin } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'))
  const files = [...Object.values(exports).flatMap((entry) => entry.default ?? []), ...Object.values(bin)]
  return Object.fromEntries(
    files.map((file) => {
      const name = file.replace(/^\.\/dist\/|\.js$/g, '')
      return [name, path.join(src, `${name}.ts`)]
    }),
  )
}

async function bundle() {
  const input = entries()
  const core = new Set()
  const middleware = new Set()
  const later = new Set()
  const cuts = {
    name: 'cuts',
    async resolveId(source, importer, { kind }) {
      if (kind !== 'require-call' || !source.startsWith('.')) return null
      const { id } = await this.resolve(source, importer, { kind: 'import-statement', skipSelf: true })
      const fileName = `${path.basename(id, '.ts')}.js`
      if (!later.has(fileName)) this.emitFile({ type: 'chunk', id, fileName })
      later.add(fileName)
      return { id: `./${fileName}`, external: true }
    },
    // A module looks from its folder in `src`; its code lies at the top of `dist`.
    transform(code, id) {
      const folder = path.relative(src, path.dirname(id)).replaceAll(path.sep, '/')
      return { code: code.replaceAll('join(__dirname,', `join(__dirname, '${folder}',`), map: null }
    },
    buildEnd() {
      const add = (id, to) => {
        for (const imported of this.getModuleInfo(id)?.importedIds ?? []) {
          if (core.has(imported) || to.has(imported)) continue
          to.add(imported)
          add(imported, to)
        }
      }
      add(input.index, core)
      const last = path.join(src, 'middleware.ts')
      middleware.add(last)
      add(last, middleware)
    },
    generateBundle(_, files) {
      for (const { fileName, code } of Object.values(files)) {
        const lost = [...later].find((file) => fileName.includes('/') && code?.includes(`require("./${file}")`))
        if (lost) throw new Error(`${fileName} cannot require ${lost} later: it is in another folder of dist`)
      }
    },
  }
  const build = await rolldown({
    cwd: root,
    input,
    platform: 'node',
    external: /^[^./]/,
    plugins: [cuts],
    onLog(level, log) {
      if (level !== 'debug' && level !== 'info') throw new Error(log.message)
    },
  })
  await build.write({
    dir: dist,
    format: 'cjs',
    strict: true,
    sourcemap: true,
    comments: false,
    chunkFileNames: '[name].js',
    codeSplitting: {
      groups: [
        { name: 'core', test: (id) => core.has(id) || id.includes('rolldown/runtime') },
        { name: 'middleware', test: (id) => middleware.has(id) },
      ],
    },
  })
}

if (!process.argv.includes('--if-changed') || !isNew()) {
  rmSync(dist, { recursive: true, force: true })
  execFileSync(process.execPath, [path.join(root, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json'], {
    cwd: root,
    stdio: 'inherit',
  })
  await bundle()
}
