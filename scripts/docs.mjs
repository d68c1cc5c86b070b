// npm run docs: the documentation as a static site, in docs/.vitepress/dist; DOCS_BASE is the path it is served below.
// The guide is docs/*.md. The API reference comes from the docstrings, the pages of examples from their folders, and both are written
// into docs/ for VitePress. A link that leads nowhere is an error.
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const root = path.join(import.meta.dirname, '..')
const docs = path.join(root, 'docs')
const site = path.join(docs, '.vitepress/dist')
const { DOCS_BASE: base = '/' } = process.env

run('typedoc/bin/typedoc')
writeExamples(path.join(root, 'examples'), path.join(docs, 'examples'))
cpSync(path.join(root, 'CHANGELOG.md'), path.join(docs, 'changelog/index.md'))
run('vitepress/bin/vitepress.js', 'build', 'docs')

const dead = deadLinks()
if (dead.length > 0) {
  console.error(`Links that lead nowhere:\n${dead.join('\n')}`)
  process.exitCode = 1
} else {
  console.log(path.relative(process.cwd(), site))
}

function run(program, ...args) {
  execFileSync(process.execPath, [path.join(root, 'node_modules', program), ...args], { cwd: root, stdio: 'inherit' })
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

/** VitePress looks for the pages that texts link to; this also for their headings, and for the links of the menus. */
function deadLinks() {
  const files = readdirSync(site, { recursive: true }).filter((file) => file.endsWith('.html'))
  const pages = new Map(files.map((file) => [path.join(site, file), readFileSync(path.join(site, file), 'utf8')]))
  const found = new Set()
  for (const [page, html] of pages) {
    const address = new URL(path.relative(site, page), `http://site${base}`)
    for (const [, href] of html.matchAll(/<a [^>]*?href="([^"]*)"/g)) {
      const { host, pathname, hash } = new URL(href, address)
      if (host !== 'site') continue
      const asked = path.join(site, decodeURIComponent(pathname.slice(base.length)))
      const target = [asked, `${asked}.html`, path.join(asked, 'index.html')].find(
        (file) => existsSync(file) && statSync(file).isFile(),
      )
      const anchor = decodeURIComponent(hash.slice(1))
      if (!target || (anchor && !pages.get(target)?.includes(` id="${anchor}"`))) {
        found.add(`${path.relative(site, page)}: ${href}`)
      }
    }
  }
  return [...found]
}
