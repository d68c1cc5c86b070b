import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { defineConfig, type Plugin } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

// `npm run matrix` has the tests run on the packed library, and on other versions of Express.
const { PACKED_LIBRARY: packed, EXPRESS: express = 'express' } = process.env
const library = [
  { find: /^(?:\.\.\/)+src$/, replacement: `${packed}/dist/index.js` },
  { find: /^(?:\.\.\/)+src\/testing$/, replacement: `${packed}/dist/testing/index.js` },
  { find: /^(?:\.\.\/)+src\/(.+)$/, replacement: `${packed}/dist/$1.js` },
]

/** The packed library has its entries only: it cannot run tests that import one of the modules within. */
const INNER =
  /^(?!import type ).* from '(?:\.\.\/)+src\/(?!testing'|index'|stores\/(?:sqlite|redis|postgres|mysql|dynamodb|moving)')/m
const testFiles = readdirSync('test', { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.test.ts'))
  .map((file) => path.join('test', file))
const filesWith = (pattern: RegExp): string[] => testFiles.filter((file) => pattern.test(readFileSync(file, 'utf8')))
const testsOfInnerModules = filesWith(INNER)

/** All that such a file has is tagged: `npm test` need not load it to leave it out, and what it imports neither. */
const TAGGED_WHOLE = /^\/\/ @module-tag (?:server|slow|long)$/m

/** Whether a file speaks of tags, or one of those under `test` that it imports: else `npm run test:rest` need not load it. */
function speaksOfTags(file: string): boolean {
  const text = readFileSync(file, 'utf8')
  if (/@module-tag|\btags\b/.test(text)) return true
  const imported = [...text.matchAll(/ from '(\.[^']+)'/g)].map(
    ([, at = '']) => `${path.join(path.dirname(file), at)}.ts`,
  )
  return imported.some((one) => one.startsWith(`test${path.sep}`) && existsSync(one) && speaksOfTags(one))
}

/** Node cannot require TypeScript: what the source requires later is imported, at its end so that lines keep their numbers. */
const REQUIRED_LATER = /\brequire\('(\.[^']+)'\)(?= as typeof import)/g
const importRequired: Plugin = {
  name: 'import-what-is-required-later',
  enforce: 'pre',
  transform(code, id) {
    if (!/\/src\/.*\.ts$/.test(id)) return
    const imports: string[] = []
    const imported = code.replace(REQUIRED_LATER, (_, path: string) => {
      imports.push(`import * as later${imports.length} from '${path}'`)
      return `later${imports.length - 1}`
    })
    return { code: `${imported}\n${imports.join('\n')}`, map: null }
  },
}

const notLoaded: Record<string, () => string[]> = {
  quick: () => filesWith(TAGGED_WHOLE),
  rest: () => testFiles.filter((file) => !speaksOfTags(file)),
}

/** `npm test` is the mode `quick`, `npm run test:rest` are the others that take no minutes, `npm run test:all` are all. */
const filters: Record<string, string[]> = { quick: ['!server && !slow && !long'], rest: ['(server || slow) && !long'] }

/** So that no core is idle at the end of a run for one of these: where nothing is known of former runs, Vitest goes by size. */
const LONGEST =
  /(?:stores\/(?:dynamodb-contract|processes|redis-cluster)|commands|differential|bounds|tarball|published|docs|examples|servers)\.test/
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files)
    return sorted.toSorted((a, b) => Number(LONGEST.test(b.moduleId)) - Number(LONGEST.test(a.moduleId)))
  }
}

export default defineConfig(({ mode }) => ({
  plugins: [importRequired],
  resolve: { alias: [...(packed ? library : []), { find: /^express$/, replacement: express }] },
  test: {
    include: ['test/**/*.test.ts'],
    exclude: [...(packed ? testsOfInnerModules : []), ...(notLoaded[mode]?.() ?? [])],
    globalSetup: 'test/support/build.ts',
    env: { NO_DEPRECATION: 'express-session', TEST_MODE: mode },
    tags: [
      { name: 'server', description: 'needs a server or another program' },
      { name: 'slow', description: 'takes seconds: compilers, packing, many processes, long searches' },
      { name: 'long', description: 'takes a minute or more: the full size of what a smaller test shows' },
    ],
    tagsFilter: filters[mode],
    testTimeout: mode === 'quick' ? 30_000 : 120_000,
    hookTimeout: mode === 'quick' ? 60_000 : 120_000,
    // Many of the tests that need servers wait for them.
    maxWorkers: mode === 'quick' ? 2 : 4,
    sequence: { sequencer: LongestFirst },
    maxConcurrency: 20,
  },
}))
