import { channel } from 'node:diagnostics_channel'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { PrometheusExporter, PrometheusSerializer } from '@opentelemetry/exporter-prometheus'
import { MeterProvider } from '@opentelemetry/sdk-metrics'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import session, { MemoryStore } from '../../src'
import { instrumentSessions } from '../../src/observability/opentelemetry'

interface Panel {
  title: string
  gridPos: { x: number; y: number; w: number; h: number }
  targets: { expr: string; legendFormat: string }[]
}

const docs = path.join(__dirname, '../../docs')
const dashboard = JSON.parse(readFileSync(path.join(docs, 'grafana/sessile.json'), 'utf8')) as { panels: Panel[] }
const operating = readFileSync(path.join(docs, 'operating.md'), 'utf8')
const alarms = [...operating.matchAll(/- alert: (\w+)\n +expr: (.*)\n/g)].map(([, name = '', expr = '']) => ({
  name,
  expr,
}))
const queries = [
  ...dashboard.panels.flatMap(({ title, targets }) =>
    targets.map(({ expr, legendFormat }) => [title, expr, legendFormat]),
  ),
  ...alarms.map(({ name, expr }) => [name, expr, '']),
] as [string, string, string][]

/** The labels of each metric that Prometheus is given. `job` is its own. */
const labels = new Map<string, Set<string>>()
let stop = (): void => undefined

beforeAll(async () => {
  const exporter = new PrometheusExporter({ preventServerStart: true })
  const store = new MemoryStore()
  stop = instrumentSessions({ meterProvider: new MeterProvider({ readers: [exporter] }), stores: { shop: store } })
  channel('sessile:batch').publish({ store: 'Letters', kind: 'read', size: 3 })
  const sessions = session('a secret that is long enough for these tests', { store })
  await sessions.get('nobody')
  store.read = () => {
    throw new Error('the server is down')
  }
  await expect(sessions.get('nobody')).rejects.toThrow('down')
  const { resourceMetrics } = await exporter.collect()
  const text = new PrometheusSerializer().serialize(resourceMetrics)
  for (const [, name = '', inner = ''] of text.matchAll(/^(sessile_\w+)\{(.*)\}/gm)) {
    const known = labels.get(name) ?? new Set(['job'])
    for (const [, label = ''] of inner.matchAll(/(\w+)="/g)) known.add(label)
    labels.set(name, known)
  }
})
afterAll(() => stop())

/** The selectors of a query: the metric, by its name or by a pattern of names, and the labels that are compared. */
function selectorsOf(expr: string): { metrics: string[]; compared: string[] }[] {
  return [...expr.replaceAll(/by \([^)]*\)/g, '').matchAll(/(sessile_\w+)?(?:\{([^{}]*)\})|(sessile_\w+)/g)].map(
    ([, name, inner = '', alone]) => {
      const [, pattern] = /__name__=~"([^"]+)"/.exec(inner) ?? []
      const exact = name ?? alone
      const metrics = pattern
        ? [...labels.keys()].filter((one) => new RegExp(`^(?:${pattern})$`).test(one))
        : [String(exact)]
      const compared = [...inner.matchAll(/(\w+)(?:=~|!=|=)"/g)].map(([, label = '']) => label)
      return { metrics, compared: compared.filter((label) => label !== '__name__') }
    },
  )
}

describe('what the dashboard and the alarms ask for is measured', () => {
  test.each(queries)('%s: %s', (_, expr, legend) => {
    const selectors = selectorsOf(expr)
    expect(selectors.length).toBeGreaterThan(0)
    const available = new Set(['le'])
    for (const { metrics, compared } of selectors) {
      expect(metrics.length).toBe(1)
      const known = labels.get(metrics[0] as string)
      expect(known, metrics[0]).toBeDefined()
      for (const label of compared) expect([...(known ?? [])]).toContain(label)
      for (const label of known ?? []) available.add(label)
    }
    const grouped = [...expr.matchAll(/by \(([^)]*)\)/g)].flatMap(([, list = '']) => list.split(', '))
    const named = [...legend.matchAll(/\{\{(\w+)\}\}/g)].map(([, label = '']) => label)
    expect([...available]).toEqual(expect.arrayContaining([...grouped, ...named]))
  })

  test('each metric has its place', () => {
    const asked = new Set(
      dashboard.panels
        .flatMap(({ targets }) => targets)
        .flatMap(({ expr }) => selectorsOf(expr).flatMap(({ metrics }) => metrics)),
    )
    const families = (names: Iterable<string>) =>
      new Set([...names].map((name) => name.replace(/_(bucket|count|sum)$/, '')))
    expect([...families(asked)].sort()).toEqual([...families(labels.keys())].sort())
  })

  test('each metric is in the documentation', () => {
    const page = readFileSync(path.join(docs, 'observability.md'), 'utf8')
    const documented = [...page.matchAll(/^\| `(sessile\.[\w.]+)`/gm)].map(([, name = '']) => name.replaceAll('.', '_'))
    const measured = new Set([...labels.keys()].map((name) => name.replace(/_(bucket|count|sum|total)$/, '')))
    expect(documented.sort()).toEqual([...measured].sort())
  })
})

test('no panel of the dashboard lies over another, and none beyond the edge', () => {
  const taken = new Map<string, string>()
  for (const { title, gridPos } of dashboard.panels) {
    expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        expect(taken.get(`${x} ${y}`), title).toBeUndefined()
        taken.set(`${x} ${y}`, title)
      }
    }
  }
})

test('each alarm has a heading of its own, under which it stands', () => {
  const headings = [...operating.matchAll(/^## (\w+)\n\n```yaml\n- alert: (\w+)/gm)]
  expect(headings.map(([, heading]) => heading)).toEqual(alarms.map(({ name }) => name))
  for (const [, heading, name] of headings) expect(name).toBe(heading)
})
