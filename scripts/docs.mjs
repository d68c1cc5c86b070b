// npm run docs: the documentation as a static site, in docs/.vitepress/dist. With --versions, also that of each tag, in a folder of its name.
// The guide is docs/*.md. The API reference comes from the docstrings, the pages of examples from their folders, and both are written
// into docs/ for VitePress, which fails on a link that leads nowhere.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

const root = path.join(import.meta.dirname, '..')
const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' })
const tags = process.argv.includes('--versions')
  ? git('tag', '--list', 'v*', '--sort=-v:refname').split('\n').filter(Boolean)
  : []
const DOCS_VERSIONS = tags.length > 0 ? ['latest', ...tags].join(' ') : ''
const { DOCS_BASE = '/' } = process.env

const site = build(root, DOCS_BASE)
for (const tag of tags) {
  const checkout = path.join(mkdtempSync(path.join(tmpdir(), 'docs-')), tag)
  git('worktree', 'add', '--detach', checkout, tag)
  symlinkSync(path.join(root, 'node_modules'), path.join(checkout, 'node_modules'))
  cpSync(build(checkout, `${DOCS_BASE}${tag}/`), path.join(site, tag), { recursive: true })
  git('worktree', 'remove', '--force', checkout)
}
console.log(path.relative(process.cwd(), site))

/** Builds the site of a checkout, to be served below a path. */
function build(checkout, base) {
  const docs = path.join(checkout, 'docs')
  const run = (program, ...args) => {
    const env = { ...process.env, DOCS_BASE: base, DOCS_VERSIONS }
    execFileSync(process.execPath, [path.join(root, 'node_modules', program), ...args], {
      cwd: checkout,
      env,
      stdio: 'inherit',
    })
  }
  run('typedoc/bin/typedoc')
  writeExamples(path.join(checkout, 'examples'), path.join(docs, 'examples'))
  cpSync(path.join(checkout, 'CHANGELOG.md'), path.join(docs, 'changelog.md'))
  run('vitepress/bin/vitepress.js', 'build', 'docs')
  return path.join(docs, '.vitepress/dist')
}

/** A page for each example: its README, and its files. */
function writeExamples(from, to) {
  rmSync(to, { recursive: true, force: true })
  mkdirSync(to, { recursive: true })
  // Links of the repository, as the pages have them.
  const pageOf = (text) => text.replaceAll('](../../docs/', '](../')
  writeFileSync(path.join(to, 'index.md'), pageOf(readFileSync(path.join(from, 'README.md'), 'utf8')))
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue
    const folder = path.join(from, entry.name)
    const files = readdirSync(folder).filter((file) => /\.(m?js|ts)$/.test(file))
    const shown = files.map(
      (file) => `## ${file}\n\n<<< @/../examples/${entry.name}/${file}{${file.endsWith('.ts') ? 'ts' : 'js'}}\n`,
    )
    const readme = readFileSync(path.join(folder, 'README.md'), 'utf8')
    writeFileSync(path.join(to, `${entry.name}.md`), pageOf([readme, ...shown].join('\n')))
  }
}
