import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { defineConfig, type DefaultTheme } from 'vitepress'

// `npm run docs` (scripts/docs.mjs) has written api/, changelog/ and examples/ before.
const docs = path.join(import.meta.dirname, '..')
const { version } = JSON.parse(readFileSync(path.join(docs, '../package.json'), 'utf8')) as { version: string }
const { DOCS_BASE: base = '/' } = process.env

type Items = DefaultTheme.SidebarItem[]

/** The groups and pages of docs/README.md. */
function pages(): Items {
  const readme = readFileSync(path.join(docs, 'README.md'), 'utf8')
  return readme
    .split(/^## /m)
    .slice(1)
    .map((group) => ({
      text: group.slice(0, group.indexOf('\n')),
      items: [...group.matchAll(/^- \[(.*?)\]\((.*?)\.md\)/gm)].map(([, text = '', page]) => ({
        text,
        link: `/${page}`,
      })),
    }))
}

/** The pages of a folder, each by its heading. */
function pagesIn(folder: string, heading = /^# (.*)$/m): Items {
  const at = path.join(docs, folder)
  if (!existsSync(at)) return []
  return readdirSync(at)
    .filter((file) => file.endsWith('.md') && file !== 'index.md')
    .map((file) => ({
      text: heading.exec(readFileSync(path.join(at, file), 'utf8'))?.[1] ?? file,
      link: `/${folder}/${file.replace(/\.md$/, '')}`,
    }))
}

/** The anchor of a heading, as in the repository, where the same links lead to it. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(' ', '-')
}

export default defineConfig({
  title: 'sessile',
  description: 'Server-side sessions for Express: a drop-in for express-session that is faster, safer and typed',
  lang: 'en',
  base,
  cleanUrls: true,
  rewrites: { 'README.md': 'index.md', 'grafana/README.md': 'grafana/index.md' },
  head: [['link', { rel: 'icon', href: 'data:,' }]],
  markdown: {
    theme: { light: 'github-light-high-contrast', dark: 'github-dark' },
    anchor: { slugify: anchorOf },
  },
  // The search index is one file.
  vite: { build: { chunkSizeWarningLimit: 2000 } },
  themeConfig: {
    search: { provider: 'local' },
    outline: [2, 3],
    nav: [
      { text: 'Guide', link: '/getting-started', activeMatch: '^/(?!api|examples|decisions|changelog)' },
      { text: 'API', link: '/api/', activeMatch: '^/api/' },
      { text: 'Examples', link: '/examples/', activeMatch: '^/examples/' },
      { text: version, link: '/changelog/', activeMatch: '^/changelog/' },
    ],
    sidebar: {
      '/': [
        ...pages(),
        {
          text: 'In the repository',
          items: [
            { text: 'Dashboard for Grafana', link: '/grafana/' },
            { text: 'Decisions', collapsed: true, items: pagesIn('decisions') },
          ],
        },
      ],
      '/examples/': [{ text: 'Examples', items: pagesIn('examples') }],
      '/api/': apiPages(),
    },
  },
  transformPageData(page) {
    if (page.relativePath === 'index.md') page.frontmatter = { ...home(), ...page.frontmatter }
  },
})

/** A group for each module of the API, with all of its pages. */
function apiPages(): Items {
  const of = (module: string): Items =>
    ['functions', 'classes', 'interfaces', 'type-aliases'].flatMap((kind) =>
      pagesIn(`api/${module}/${kind}`, /^# .*?: (\w+)/m),
    )
  const parts = ['sqlite', 'redis', 'postgres', 'mysql', 'dynamodb', 'moving', 'opentelemetry', 'inspector', 'testing']
  return ['sessile', ...parts.map((part) => `sessile/${part}`)].map((module) => ({
    text: module,
    link: `/api/${module}/`,
    collapsed: module !== 'sessile',
    items: of(module),
  }))
}

function home(): object {
  return {
    layout: 'home',
    hero: {
      name: 'sessile',
      text: 'Sessions for Express',
      tagline:
        'A drop-in for express-session that is faster, safer and typed, with stores for SQLite, Redis, PostgreSQL, MySQL and DynamoDB.',
      actions: [
        { theme: 'brand', text: 'Getting started', link: '/getting-started' },
        { theme: 'alt', text: 'Switch from express-session', link: '/migrating' },
      ],
    },
    features: [
      {
        title: 'Nothing is lost',
        details: 'Two requests at once keep each other’s changes. A session that was logged out never comes back.',
      },
      {
        title: 'The fact first',
        details: 'The answer leaves when its session is stored, so a redirect never arrives too early.',
      },
      {
        title: 'Safe by a word',
        details:
          'Timeouts that the server enforces, hashed IDs, encryption, “log out everywhere”, a guard against forged requests.',
      },
    ],
  }
}
