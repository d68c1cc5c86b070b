import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const root = path.join(__dirname, '..')
const folder = mkdtempSync(path.join(tmpdir(), 'sessile-docs-'))
const pages = [
  'README.md',
  ...readdirSync(path.join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
]

interface Snippet {
  page: string
  line: number
  language: string
  code: string
}

function snippetsOf(page: string): Snippet[] {
  const text = readFileSync(path.join(root, page), 'utf8')
  return [...text.matchAll(/^```(js|ts)\n([\s\S]*?)^```$/gm)].map(({ index, 1: language = '', 2: code = '' }) => ({
    page,
    line: text.slice(0, index).split('\n').length,
    language,
    code,
  }))
}

beforeAll(() => {
  mkdirSync(path.join(folder, 'node_modules'))
  for (const name of readdirSync(path.join(root, 'node_modules'))) {
    symlinkSync(path.join(root, 'node_modules', name), path.join(folder, 'node_modules', name))
  }
  symlinkSync(root, path.join(folder, 'node_modules', 'sessile'))
})

afterAll(() => rmSync(folder, { recursive: true }))

describe('the code in the documentation runs', () => {
  for (const { page, line, language, code } of pages.flatMap(snippetsOf)) {
    test(`${page}:${line}`, () => {
      const file = path.join(folder, `${page.replaceAll(/\W/g, '-')}-${line}.${language}`)
      writeFileSync(file, code)
      if (language === 'ts') {
        const tsc = path.join(root, 'node_modules/typescript/bin/tsc')
        const options = [
          '--module',
          'node16',
          '--moduleResolution',
          'node16',
          '--esModuleInterop',
          '--strict',
          '--skipLibCheck',
        ]
        execFileSync(process.execPath, [tsc, file, ...options, '--outDir', folder], { cwd: folder, stdio: 'pipe' })
      }
      const preload = path.join(__dirname, 'support/docs-preload.cjs')
      const run = spawnSync(process.execPath, ['--require', preload, file.replace(/\.ts$/, '.js')], {
        cwd: folder,
        encoding: 'utf8',
        env: {
          ...process.env,
          SESSION_SECRET: 'a secret for the documentation, long enough',
          SESSION_KEY: 'a2V5IGZvciB0aGUgZG9jdW1lbnRhdGlvbiwgMzIgYnk=',
          NODE_OPTIONS: '',
        },
      })
      expect(run.stderr).toBe('')
      expect(run.status).toBe(0)
    })
  }
})

test('the links between the pages lead somewhere', () => {
  const headings = (page: string): string[] =>
    [...readFileSync(path.join(root, page), 'utf8').matchAll(/^#+ (.*)$/gm)].map(({ 1: heading = '' }) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(' ', '-'),
    )
  const broken: string[] = []
  for (const page of pages) {
    for (const { 1: link = '' } of readFileSync(path.join(root, page), 'utf8').matchAll(/\]\(((?!https?:)[^)]+)\)/g)) {
      const [file = '', heading] = link.split('#')
      const target = file === '' ? page : path.join(path.dirname(page), file)
      try {
        if (target.endsWith('/') || !target.endsWith('.md')) readdirSync(path.join(root, path.dirname(target)))
        else if (heading !== undefined && !headings(target).includes(heading)) broken.push(`${page}: ${link}`)
        else readFileSync(path.join(root, target))
      } catch {
        broken.push(`${page}: ${link}`)
      }
    }
  }
  expect(broken).toEqual([])
})

test('every hint of the library leads to a heading of the troubleshooting page', () => {
  const page = readFileSync(path.join(root, 'docs/troubleshooting.md'), 'utf8')
  const headings = [...page.matchAll(/^## (.*)$/gm)].map(({ 1: heading = '' }) =>
    heading.toLowerCase().replaceAll(' ', '-'),
  )
  const hints = [...readFileSync(path.join(root, 'src/hints.ts'), 'utf8').matchAll(/hint\(\s*'([a-z-]+)'/g)].map(
    ({ 1: hint = '' }) => hint,
  )
  expect(hints.length).toBeGreaterThan(5)
  expect(hints.filter((hint) => !headings.includes(hint))).toEqual([])
})

test('every error code has a heading on the page of errors', () => {
  const codes = [...readFileSync(path.join(root, 'src/errors.ts'), 'utf8').matchAll(/'(ERR_SESSION_\w+)'/g)].map(
    ({ 1: code = '' }) => code,
  )
  const page = readFileSync(path.join(root, 'docs/errors.md'), 'utf8')
  expect(codes.filter((code) => !page.includes(`## ${code}\n`))).toEqual([])
})

test('every test that the table of security names exists', () => {
  const text = readFileSync(path.join(root, 'docs/security.md'), 'utf8')
  const named = [...text.matchAll(/\| `([\w./-]+\.test\.ts)`: (.+?) +\|$/gm)]
  expect(named.length).toBeGreaterThan(25)
  for (const [, file = '', name = ''] of named) {
    const source = readFileSync(path.join(root, 'test/security', file), 'utf8')
    expect(source, `${file} has a test named: ${name}`).toContain(name)
  }
})
