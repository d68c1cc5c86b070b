// node docs/grafana/picture.mjs: docs/grafana/sessile.png, from what the dashboard's own queries answer.
// An app with sessions in Redis is used for four minutes, in which the store fails for ten seconds. Prometheus collects its metrics,
// answers the queries, and Chromium draws them. Needs Redis, prometheus and chromium. A query that finds nothing is an error.
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { PrometheusExporter } from '@opentelemetry/exporter-prometheus'
import { MeterProvider } from '@opentelemetry/sdk-metrics'
import express from 'express'
import { chromium } from 'playwright-core'
import { createClient } from 'redis'
import session from 'sessile'
import { instrumentSessions } from 'sessile/opentelemetry'
import { RedisStore } from 'sessile/redis'

const SECONDS = 240
const METRICS_PORT = 9464
const PROMETHEUS = 'http://127.0.0.1:9465'
const COLORS = ['#73bf69', '#f2cc0c', '#5794f2', '#ff9830', '#f2495c', '#b877d9', '#8ab8ff']

const client = await createClient().connect()
const store = new RedisStore({ client, prefix: `picture-${randomUUID()}:` })
const meterProvider = new MeterProvider({
  readers: [new PrometheusExporter({ host: '127.0.0.1', port: METRICS_PORT })],
})
instrumentSessions({ meterProvider, stores: { shop: store }, countEvery: 1000 })

const address = await listen()
const prometheus = await startPrometheus()
try {
  const from = Date.now() / 1000
  await use(address)
  await draw(from + 20, from + SECONDS)
} finally {
  prometheus.stop()
  await store.clear()
  await client.close()
}
process.exit()

async function listen() {
  const sessions = session(randomUUID(), {
    store,
    cookie: { maxAge: 30_000 },
    idleTimeout: 20_000,
    renewalGrace: 500,
    hints: false,
  })
  sessions.events.on('storeError', () => undefined)
  const app = express()
  app.use(sessions)
  app.get('/login', async (req, res) => res.send(await sessions.login(req, { user: 'ada', views: 0 })))
  app.get('/write/:key', (req, res) => {
    req.session[req.params.key] = (req.session[req.params.key] ?? 0) + 1
    setTimeout(() => res.send(), 5)
  })
  app.get('/renew', async (req, res) => res.send(await sessions.renew(req)))
  app.get('/logout', async (req, res) => res.send(await sessions.logout(req)))
  app.get('/', (req, res) => res.send(String(req.session.user)))
  app.use((error, req, res, next) => (res.headersSent ? next(error) : res.status(500).end()))
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `http://127.0.0.1:${server.address().port}`
}

/** Twenty visitors, each with a request every third of a second or so. */
async function use(address) {
  const until = Date.now() + SECONDS * 1000
  setTimeout(failForAWhile, SECONDS * 500)
  await Promise.all(
    Array.from({ length: 20 }, async () => {
      while (Date.now() < until) await beVisitor(address, until)
    }),
  )
}

async function beVisitor(address, until) {
  let cookie = ''
  const get = async (url, own = cookie) => {
    const answer = await fetch(address + url, { headers: { cookie: own } })
    const [set] = answer.headers.getSetCookie()
    if (set) cookie = set.split(';')[0]
    await answer.text()
  }
  await get('/login')
  for (let n = 0; n < 30 && Date.now() < until; n++) {
    await wait(Math.random() * 700)
    const dice = Math.random()
    if (dice < 0.65) await get('/')
    else if (dice < 0.9) await get('/write/views')
    else if (dice < 0.95) await Promise.all([get('/write/views'), get('/write/cart')])
    else if (dice < 0.98) await Promise.all([get('/write/views'), get('/write/views')])
    else {
      const former = cookie
      await get('/renew')
      if (Math.random() < 0.3) await wait(600).then(() => get('/', former))
    }
  }
  if (Math.random() < 0.2) await wait(22_000).then(() => get('/'))
  else await get('/logout')
}

function failForAWhile() {
  const refuse = () => Promise.reject(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }))
  Object.assign(store, { read: refuse, write: refuse, renew: refuse })
  setTimeout(() => ['read', 'write', 'renew'].forEach((method) => delete store[method]), 10_000)
}

async function startPrometheus() {
  const folder = mkdtempSync(path.join(tmpdir(), 'sessile-prometheus-'))
  const config = path.join(folder, 'prometheus.yml')
  writeFileSync(
    config,
    `global: { scrape_interval: 1s }
scrape_configs: [{ job_name: shop, static_configs: [{ targets: ['127.0.0.1:${METRICS_PORT}'] }] }]`,
  )
  const args = [
    `--config.file=${config}`,
    `--storage.tsdb.path=${folder}`,
    `--web.listen-address=${new URL(PROMETHEUS).host}`,
  ]
  const server = spawn('prometheus', args, { stdio: 'ignore' })
  return {
    stop() {
      server.kill()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** What a query answers between two times (s since the epoch): for each series its name, and its values by time. */
async function ask({ expr, legendFormat }, from, to) {
  const query = expr.replaceAll('$__rate_interval', '10s').replaceAll('$job', '.*')
  const range = `query=${encodeURIComponent(query)}&start=${from}&end=${to}&step=2`
  const { data, error } = await (await fetch(`${PROMETHEUS}/api/v1/query_range?${range}`)).json()
  if (error || data.result.length === 0) throw new Error(`${expr}: ${error ?? 'nothing found'}`)
  return data.result.map(({ metric, values }) => ({
    name: legendFormat.replace(/{{(\w+)}}/g, (_, label) => metric[label]),
    values: values.map(([at, value]) => [at, Number(value)]).filter(([, value]) => Number.isFinite(value)),
  }))
}

async function draw(from, to) {
  const dashboard = JSON.parse(readFileSync(path.join(import.meta.dirname, 'sessile.json'), 'utf8'))
  const panels = await Promise.all(
    dashboard.panels.map(async (panel) => ({
      ...panel,
      series: (await Promise.all(panel.targets.map((target) => ask(target, from, to)))).flat(),
    })),
  )
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] })
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } })
  await page.setContent(pageOf(dashboard.title, panels, from, to))
  await page.screenshot({ path: path.join(import.meta.dirname, 'sessile.png'), fullPage: true })
  await browser.close()
}

function pageOf(title, panels, from, to) {
  const drawn = panels.map((panel) => {
    const { x, y, w, h } = panel.gridPos
    const area = `grid-area: ${y + 1} / ${x + 1} / span ${h} / span ${w}`
    const content = panel.type === 'stat' ? statOf(panel) : chartOf(panel, from, to)
    return `<section style="${area}"><h2>${panel.title}</h2>${content}</section>`
  })
  return `<!doctype html><style>
    body { margin: 0; padding: 12px; background: #111217; color: #ccccdc; font: 12px system-ui, sans-serif }
    h1 { font-size: 18px; font-weight: 500; margin: 0 0 12px } h2 { font-size: 13px; font-weight: 500; margin: 0 0 6px }
    main { display: grid; grid-template-columns: repeat(24, 1fr); grid-auto-rows: 30px; gap: 8px }
    section { background: #181b1f; border: 1px solid #2c3037; border-radius: 3px; padding: 8px; display: flex; flex-direction: column; min-width: 0 }
    b { margin: auto; font-size: 30px; font-weight: 500; color: #73bf69 } b.high { color: #f2495c }
    svg { flex: 1; min-height: 0; width: 100% } text { fill: #8e8fa0; font-size: 11px }
    p { margin: 4px 0 0 } i { display: inline-block; width: 14px; height: 3px; margin: 0 5px 2px 0; border-radius: 2px } span { margin-right: 14px }
  </style><h1>${title}</h1><main>${drawn.join('')}</main>`
}

function statOf({ fieldConfig, series }) {
  const { thresholds, unit } = fieldConfig.defaults
  const value = series[0].values.at(-1)?.[1] ?? 0
  const isHigh = thresholds.steps.some(({ value: limit }) => limit !== null && value >= limit)
  return `<b class="${isHigh ? 'high' : ''}">${shown(value, unit)}</b>`
}

function chartOf({ fieldConfig, gridPos, series }, from, to) {
  const { unit } = fieldConfig.defaults
  const [width, height, left, bottom] = [gridPos.w * 51, gridPos.h * 38 - 90, 52, 18]
  const most = (Math.max(...series.flatMap(({ values }) => values.map(([, value]) => value))) || 1) * 1.1
  const x = (at) => left + ((at - from) / (to - from)) * (width - left)
  const y = (value) => height - bottom - (value / most) * (height - bottom - 6)
  const lines = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const at = y(most * part)
    return `<path d="M${left} ${at}H${width}" stroke="#2c3037"/><text x="${left - 6}" y="${at + 4}" text-anchor="end">${shown(most * part, unit)}</text>`
  })
  const times = [0, 0.25, 0.5, 0.75].map((part) => {
    const at = from + (to - from) * part
    return `<text x="${x(at)}" y="${height - 2}">${Math.round(at - from)} s</text>`
  })
  const curves = series.map(({ values }, n) => {
    const points = values.map(([at, value]) => `${x(at).toFixed(1)} ${y(value).toFixed(1)}`)
    return points.length === 0
      ? ''
      : `<path d="M${points.join('L')}" fill="none" stroke="${COLORS[n % COLORS.length]}" stroke-width="1.5"/>`
  })
  const legend = series.map(
    ({ name }, n) => `<span><i style="background:${COLORS[n % COLORS.length]}"></i>${name}</span>`,
  )
  return `<svg viewBox="0 0 ${width} ${height}" preserveAspectRatio="none">${lines.join('')}${times.join('')}${curves.join('')}</svg><p>${legend.join('')}</p>`
}

function shown(value, unit) {
  const short = (number) => String(Number(number.toPrecision(2)))
  if (unit === 's') return value === 0 ? '0' : value < 1 ? `${short(value * 1000)} ms` : `${short(value)} s`
  if (unit === 'percentunit') return `${short(value * 100)} %`
  return unit === 'ops' ? `${short(value)}/s` : short(value)
}
