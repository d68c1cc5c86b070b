import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import request from 'supertest'
import { afterEach, describe, expect, test } from 'vitest'
import { BREAKABLE, codeOf, RecipeFolder } from '../support/recipes'
import { until } from '../support/servers'

const root = path.join(__dirname, '../..')
const program = (name: string): string => path.join(root, 'node_modules', name)

let folder: RecipeFolder
afterEach(() => folder.close())

/** Each visitor has views of their own, which the session counts. */
async function countsViews(address: string): Promise<void> {
  const agent = request.agent(address)
  for (const views of [1, 2, 3]) await agent.get('/').expect(200, new RegExp(`views: ${views}\\b`))
  await request(address)
    .get('/')
    .expect(200, /views: 1\b/)
}

describe('recipes of frameworks', { tags: ['slow'] }, () => {
  const [koa = ''] = codeOf('Koa')
  const [fastify = ''] = codeOf('Fastify')
  const [hono = ''] = codeOf('Hono')
  const [nest = ''] = codeOf('NestJS')
  const [next = '', page = ''] = codeOf('Next.js')

  test.each([
    ['Koa', 'app.js', koa],
    ['Fastify with @fastify/express', 'app.js', fastify],
    [
      'Fastify with @fastify/middie',
      'app.js',
      fastify.replace("require('@fastify/express')", "require('@fastify/middie')"),
    ],
    ['Hono', 'app.mjs', hono],
  ])('%s', async (_, file, code) => {
    folder = new RecipeFolder({ [file]: code })
    const address = await folder.start('node', ['--require', BREAKABLE, file])
    await countsViews(address)
    expect(folder.told).toBe('')

    // A store that fails changes nothing of the answer, and the application is told.
    folder.switchStores()
    await until(async () => (await answer(address)) === 200 && folder.told.includes('the store is broken'))
    // What cannot be stored at all is found out before the answer leaves.
    folder.switchStores()
    await until(async () => (await answer(address)) === 500 && folder.told.includes('it cannot be stored'))
    folder.switchStores()
    await until(async () => (await answer(address)) === 200)
    await countsViews(address)
  })

  test('NestJS', async () => {
    folder = new RecipeFolder({ 'main.ts': nest })
    const options = '--module node16 --target es2022 --strict --skipLibCheck --esModuleInterop --types node'.split(' ')
    const decorators = ['--experimentalDecorators', '--emitDecoratorMetadata']
    const tsc = program('typescript/bin/tsc')
    execFileSync('node', [tsc, 'main.ts', ...options, ...decorators], { cwd: folder.path, stdio: 'pipe' })
    await countsViews(await folder.start('node', ['main.js']))
    expect(folder.told).toBe('')
  })

  test('Next.js', { timeout: 180_000 }, async () => {
    folder = new RecipeFolder({ 'server.js': next, 'pages/index.js': page })
    const env = { ...process.env, NODE_ENV: 'production', NEXT_TELEMETRY_DISABLED: '1' } as const
    // Its own bundler does not follow the links to the packages.
    execFileSync('node', [program('next/dist/bin/next'), 'build', '--webpack'], {
      cwd: folder.path,
      env,
      stdio: 'pipe',
    })
    await countsViews(await folder.start('node', ['server.js'], env))
  })
})

describe('recipes of runtimes', { tags: ['slow'] }, () => {
  const [app = ''] = codeOf('Deno')
  const [, viteConfig = ''] = codeOf('Bundles')

  test('Deno', async () => {
    folder = new RecipeFolder({ 'app.js': app, 'package.json': '{ "type": "module" }' })
    const run = /^deno (run .*)$/m.exec(codeOf('Deno')[1] ?? '')?.[1] ?? ''
    await countsViews(await folder.start(program('.bin/deno'), run.split(' ')))
    expect(folder.told).toBe('')
  })

  test('Bun', async () => {
    folder = new RecipeFolder({ 'app.js': app })
    await countsViews(await folder.start(program('.bin/bun'), ['app.js']))
    expect(folder.told).toBe('')
  })

  /** What a bundler has made runs where no package is installed. */
  async function runsAlone(file: string, name = file): Promise<void> {
    const alone = new RecipeFolder({ [name]: readFileSync(path.join(folder.path, file), 'utf8') }, false)
    try {
      await countsViews(await alone.start('node', [name]))
      expect(alone.told).toBe('')
    } finally {
      await alone.close()
    }
  }

  test('a bundle of esbuild', async () => {
    folder = new RecipeFolder({ 'app.js': app })
    const [command = ''] = codeOf('Bundles')
    const [, name = '', ...args] = command.trim().split(' ')
    execFileSync(program(`.bin/${name}`), args, { cwd: folder.path, stdio: 'pipe' })
    await runsAlone('server.cjs')
  })

  test('a bundle of Vite', async () => {
    folder = new RecipeFolder({ 'app.js': app, 'vite.config.js': viteConfig, 'package.json': '{ "type": "module" }' })
    execFileSync(program('.bin/vite'), ['build', '--ssr', 'app.js'], { cwd: folder.path, stdio: 'pipe' })
    await runsAlone('dist/app.js', 'server.mjs')
  })
})

describe('recipes of test runners', { tags: ['slow'] }, () => {
  const [jest = ''] = codeOf('Jest with fake timers')
  const [vitest = ''] = codeOf('Vitest with fake timers')

  test('Jest', () => {
    folder = new RecipeFolder({ 'session.test.js': jest, 'package.json': '{}' })
    execFileSync(program('.bin/jest'), { cwd: folder.path, stdio: 'pipe' })
  })

  test('Vitest', () => {
    folder = new RecipeFolder({ 'session.test.js': vitest })
    execFileSync(program('.bin/vitest'), ['run'], { cwd: folder.path, stdio: 'pipe' })
  })
})

test('every recipe has a test', () => {
  folder = new RecipeFolder({})
  const page = readFileSync(path.join(root, 'docs/recipes.md'), 'utf8')
  const tests = readFileSync(__filename, 'utf8') + readFileSync(path.join(__dirname, 'lambda.test.ts'), 'utf8')
  const recipes = [...page.matchAll(/^## (.*)$/gm)].map(({ 1: name = '' }) => name)
  expect(recipes.length).toBeGreaterThan(9)
  expect(recipes.filter((name) => !tests.includes(`'${name}'`))).toEqual([])
})

async function answer(address: string): Promise<number> {
  return (await fetch(address, { signal: AbortSignal.timeout(5000) })).status
}
