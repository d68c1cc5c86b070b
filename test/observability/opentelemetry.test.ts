import { context, SpanStatusCode, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
  type DataPoint,
  type Histogram,
} from '@opentelemetry/sdk-metrics'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import express from 'express'
import request from 'supertest'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import session, { MemoryStore, RecordStore, type SessionOptions } from '../../src'
import { instrumentSessions, type InstrumentationOptions } from '../../src/observability/opentelemetry'
import { Batches } from '../../src/stores/batches'
import { gate } from '../support/app'

const secret = 'a secret that is long enough for these tests'

/** A store that answers later, and fails where it is told to. */
class LaterStore extends RecordStore {
  readonly #memory = new MemoryStore()
  failing: string | undefined
  /** What a read waits for. */
  before: Promise<void> | undefined

  async #later<T>(operation: string, work: (memory: MemoryStore) => T): Promise<T> {
    await this.before
    if (this.failing === operation) {
      throw Object.assign(new Error(`${operation} of the key sess:secret is refused`), { code: 'ECONNREFUSED' })
    }
    return work(this.#memory)
  }
  read = (id: string) => this.#later('read', (memory) => memory.read(id))
  write = (...args: Parameters<MemoryStore['write']>) => this.#later('write', (memory) => memory.write(...args))
  renew = (id: string, expires: number) => this.#later('renew', (memory) => memory.renew(id, expires))
  remove = (...args: Parameters<MemoryStore['remove']>) => this.#later('remove', (memory) => memory.remove(...args))
  scan = (cursor: string | null, limit: number) => this.#later('scan', (memory) => memory.scan(cursor, limit))
}

let stop = (): void => undefined
let spans: InMemorySpanExporter
let tracerProvider: BasicTracerProvider
let exporter: InMemoryMetricExporter
let meterProvider: MeterProvider

beforeEach(() => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  spans = new InMemorySpanExporter()
  tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(spans)] })
  exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  meterProvider = new MeterProvider({
    readers: [new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })],
  })
})
afterEach(async () => {
  stop()
  vi.useRealTimers()
  context.disable()
  await Promise.all([meterProvider.shutdown(), tracerProvider.shutdown()])
})

function instrument(options: InstrumentationOptions = {}): void {
  stop = instrumentSessions({ meterProvider, tracerProvider, ...options })
}

/** The value of a metric for each set of attributes, as JSON; of a histogram, how many were recorded. */
async function read(metric: string): Promise<Record<string, number>> {
  exporter.reset()
  await meterProvider.forceFlush()
  const found = exporter
    .getMetrics()
    .flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics }) => metrics))
    .find(({ descriptor }) => descriptor.name === metric)
  const points = (found?.dataPoints ?? []) as DataPoint<number | Histogram>[]
  return Object.fromEntries(
    points.map(({ attributes, value }) => [
      JSON.stringify(attributes),
      typeof value === 'number' ? value : value.count,
    ]),
  )
}

const total = async (metric: string): Promise<number> =>
  Object.values(await read(metric)).reduce((sum, value) => sum + value, 0)

function appWith(options: SessionOptions = {}) {
  const sessions = session({ secret, resave: false, saveUninitialized: false, ...options })
  const app = express()
  app.use((req, _res, next) => {
    const span = tracerProvider.getTracer('app').startSpan(`${req.method} ${req.path}`)
    context.with(trace.setSpan(context.active(), span), next)
    _res.on('close', () => span.end())
  })
  app.use(sessions)
  app.get('/set/:key', async (req, res) => {
    const { by } = req.query
    const data = req.session as unknown as Record<string, number>
    const next = (data[req.params.key] ?? 0) + 1
    if (by)
      await request(app)
        .get(by as string)
        .set('Cookie', req.get('Cookie') ?? '')
    data[req.params.key] = next
    res.send(req.sessionID)
  })
  app.get('/renew', async (req, res) => {
    await sessions.renew(req)
    res.send('renewed')
  })
  app.get('/logout', async (req, res) => {
    await sessions.logout(req)
    res.send('out')
  })
  app.get('/', (_req, res) => res.send('hello'))
  app.use(((_error, _req, res, _next) => void res.status(500).end()) as express.ErrorRequestHandler)
  return { app, sessions, agent: request.agent(app) }
}

describe('metrics', () => {
  test('begin at 0, so that the first event of each kind is seen as one', async () => {
    instrument()
    expect(await read('sessile.stale_ids')).toEqual({ '{}': 0 })
    expect(await read('sessile.expiries')).toEqual({
      '{"sessile.reason":"idle"}': 0,
      '{"sessile.reason":"absolute"}': 0,
    })
  })

  test('a visitor comes, comes again, gets a new token and logs out', async () => {
    instrument()
    const { agent } = appWith({ cookie: { maxAge: 60_000 } })
    await agent.get('/')
    expect(await total('sessile.creations'), 'a session that nobody has changed is none').toBe(0)
    await agent.get('/set/a')
    await agent.get('/set/b')
    await agent.get('/')
    expect(await total('sessile.touches')).toBe(1)
    await agent.get('/renew')
    await agent.get('/logout')
    expect(await total('sessile.creations')).toBe(1)
    expect(await total('sessile.loads')).toBe(4)
    expect(await total('sessile.saves')).toBe(3)
    expect(await total('sessile.renewals')).toBe(1)
    expect(await total('sessile.destructions')).toBe(1)
  })

  test('all sessions of a user are ended', async () => {
    instrument()
    const { app, sessions } = appWith({ user: () => 'ada' })
    for (let n = 0; n < 3; n++) await request(app).get('/set/a')
    await sessions.users.endAll('ada')
    expect(await total('sessile.destructions')).toBe(3)
  })

  test('an end that touchAfter leaves where it is counts as no touch', async () => {
    instrument()
    const { agent } = appWith({ cookie: { maxAge: 60_000 }, touchAfter: 30_000 })
    await agent.get('/set/a')
    await agent.get('/')
    expect(await total('sessile.touches')).toBe(0)
  })

  test('expiries by reason', async () => {
    vi.useFakeTimers({ toFake: ['Date'] })
    instrument()
    const { agent } = appWith({ idleTimeout: 600_000, hints: false })
    await agent.get('/set/a')
    vi.setSystemTime(Date.now() + 700_000)
    await agent.get('/')
    expect(await read('sessile.expiries')).toEqual({
      '{"sessile.reason":"idle"}': 1,
      '{"sessile.reason":"absolute"}': 0,
    })
  })

  test('a token that was replaced longer ago than the grace period', async () => {
    instrument()
    const { app, agent } = appWith({ renewalGrace: 0 })
    const former = (await agent.get('/set/a')).get('Set-Cookie')?.[0]?.split(';')[0] ?? ''
    await agent.get('/renew')
    await request(app).get('/').set('Cookie', former)
    expect(await total('sessile.stale_ids')).toBe(1)
  })

  test('conflicts, merged and not', async () => {
    instrument()
    const { agent } = appWith()
    await agent.get('/set/a')
    await agent.get('/set/b?by=/set/c')
    await agent.get('/set/d?by=/set/d')
    expect(await read('sessile.conflicts')).toEqual({ '{"sessile.merged":true}': 1, '{"sessile.merged":false}': 1 })
  })

  test('the time of each operation, by store, and of failures by what they are', async () => {
    instrument()
    const store = new LaterStore()
    const { agent } = appWith({ store })
    await agent.get('/set/a')
    store.failing = 'read'
    await agent.get('/').expect(500)
    expect(await read('sessile.operation.duration')).toEqual({
      '{"sessile.operation":"save","sessile.store":"LaterStore"}': 1,
      '{"sessile.operation":"load","sessile.store":"LaterStore","error.type":"ECONNREFUSED"}': 1,
    })
    expect(await read('sessile.store.failures')).toMatchObject({
      '{"sessile.operation":"load"}': 1,
      '{"sessile.operation":"save"}': 0,
    })
  })

  test('a store that answers at once, and one behind hashed IDs, is measured by its own name', async () => {
    instrument()
    const { agent } = appWith({ store: new MemoryStore(), hashIds: true })
    await agent.get('/set/a')
    await agent.get('/set/b')
    expect(await read('sessile.operation.duration')).toEqual({
      '{"sessile.operation":"save","sessile.store":"MemoryStore"}': 2,
      '{"sessile.operation":"load","sessile.store":"MemoryStore"}': 1,
    })
  })

  test('sizes of batches', async () => {
    instrument()
    const batches = new Batches<string, string>({
      of: { store: 'Letters', kind: 'read' },
      limit: 10,
      send: (letters) => letters,
    })
    await Promise.all(['a', 'b', 'c'].map((letter) => batches.ask(letter, letter)))
    await batches.ask('d', 'd')
    const key = '{"sessile.store":"Letters","sessile.batch":"read"}'
    expect(await read('sessile.batch.size')).toEqual({ [key]: 2 })
  })

  test('live sessions by store: those that can be counted, and no more often than wanted', async () => {
    const store = new MemoryStore()
    const broken = { length: () => Promise.reject(new Error('down')) }
    instrument({ stores: { shop: store, broken }, countEvery: 3_600_000 })
    const { app } = appWith({ store })
    await request(app).get('/set/a')
    await request(app).get('/set/a')
    expect(await read('sessile.sessions')).toEqual({ '{"sessile.store":"shop"}': 2 })
    await request(app).get('/set/a')
    expect(await read('sessile.sessions'), 'the last count is good for an hour').toEqual({
      '{"sessile.store":"shop"}': 2,
    })
  })

  test('options that cannot be used', () => {
    expect(() => instrumentSessions({ countEvery: NaN })).toThrow('countEvery option must be')
    expect(() => instrumentSessions({ stores: { shop: {} as never } })).toThrow('no store under shop')
  })
})

describe('spans', () => {
  test('of each operation are below the span of the request, and carry no ID', async () => {
    instrument()
    const { agent } = appWith({ store: new LaterStore(), cookie: { maxAge: 60_000 } })
    const { text: id } = await agent.get('/set/a')
    await agent.get('/')
    await vi.waitUntil(() => spans.getFinishedSpans().some(({ name }) => name === 'session touch'))
    const finished = spans.getFinishedSpans()
    const parentOf = (name: string): string | undefined => {
      const parent = finished.find((span) => span.name === name)?.parentSpanContext?.spanId
      return finished.find((span) => span.spanContext().spanId === parent)?.name
    }
    expect(parentOf('session save')).toBe('GET /set/a')
    expect(parentOf('session load')).toBe('GET /')
    expect(parentOf('session touch')).toBe('GET /')
    const told = finished.map(({ name, attributes, events, status }) => ({ name, attributes, events, status }))
    expect(JSON.stringify(told)).not.toContain(id)
    expect(finished.find(({ name }) => name === 'session load')?.attributes).toEqual({
      'sessile.operation': 'load',
      'sessile.store': 'LaterStore',
    })
  })

  test('last until the store has answered', async () => {
    instrument()
    const store = new LaterStore()
    const { agent } = appWith({ store })
    await agent.get('/set/a')
    spans.reset()
    const { opened, open } = gate()
    store.before = opened
    const asked = vi.spyOn(store, 'read')
    const answered = agent.get('/').then(() => undefined)
    await vi.waitUntil(() => asked.mock.calls.length > 0)
    expect(spans.getFinishedSpans()).toEqual([])
    open()
    await answered
    expect(spans.getFinishedSpans().map(({ name }) => name)).toContain('session load')
  })

  test('of a failure have the kind of error, and not its message, which may have the key in it', async () => {
    instrument()
    const store = new LaterStore()
    store.failing = 'write'
    const { agent } = appWith({ store, onSaveError: 'error' })
    await agent.get('/set/a').expect(500)
    const span = spans.getFinishedSpans().find(({ name }) => name === 'session save')
    expect(span?.status).toEqual({ code: SpanStatusCode.ERROR })
    expect(span?.attributes['error.type']).toBe('ECONNREFUSED')
    expect(JSON.stringify([span?.events, span?.attributes])).not.toContain('sess:secret')
  })

  test('what is rare is an event of the span of its request', async () => {
    instrument()
    const { agent } = appWith()
    await agent.get('/set/a')
    await agent.get('/set/b?by=/set/c')
    await vi.waitUntil(() => spans.getFinishedSpans().some(({ name }) => name === 'GET /set/b'))
    const conflict = spans.getFinishedSpans().find(({ name }) => name === 'GET /set/b')?.events[0]
    expect(conflict).toMatchObject({ name: 'sessile.conflict', attributes: { 'sessile.merged': true } })
  })
})

test('after its end nothing is measured any more', async () => {
  instrument()
  const { agent } = appWith()
  await agent.get('/set/a')
  stop()
  spans.reset()
  await agent.get('/set/b')
  expect(await total('sessile.saves')).toBe(1)
  expect(await total('sessile.operation.duration')).toBe(1)
  expect(spans.getFinishedSpans().map(({ name }) => name)).not.toContain('session save')
})
