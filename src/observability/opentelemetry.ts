import { subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel'
import {
  context,
  diag,
  metrics,
  SpanStatusCode,
  trace,
  ValueType,
  type Attributes,
  type Meter,
  type MeterProvider,
  type ObservableResult,
  type Span,
  type Tracer,
  type TracerProvider,
} from '@opentelemetry/api'
import { OptionError } from '../base/errors'
import type { Operation } from '../base/operations'
import type { SessionEventMap } from '../features/events/events'
import type { RecordStore } from '../store/record-store'
import type { BatchSent } from '../stores/batches'

export interface InstrumentationOptions {
  /** Where the metrics go. Default: the global one, as the SDK has set it by now. */
  meterProvider?: MeterProvider | undefined
  /** Where the spans go. Default: the global one. */
  tracerProvider?: TracerProvider | undefined
  /**
   * Record stores whose sessions are counted, by the name that the metric is to have for each. Default: none, as counting
   * costs a large Redis or DynamoDB a scan. Let one process count.
   */
  stores?: Readonly<Record<string, Pick<RecordStore, 'length'>>> | undefined
  /** How long, in ms, a count is good, however often the metrics are read. Default: 60,000. */
  countEvery?: number | undefined
}

type Events = SessionEventMap
type Name = keyof Events

/** What is counted of an event; `kinds` are the attributes that are known beforehand. */
interface Counted<N extends Name> {
  readonly metric: string
  readonly description: string
  readonly kinds?: readonly Attributes[]
  attributes?(event: Events[N]): Attributes
  /** Whether it is rare and tells something of a request, so that its span has it, too. */
  readonly onSpan?: true
}

const byReason = (reason: string): Attributes => ({ 'sessile.reason': reason })
const byMerged = (merged: boolean): Attributes => ({ 'sessile.merged': merged })
const byOperation = (operation: string): Attributes => ({ 'sessile.operation': operation })

const COUNTED: { readonly [N in Exclude<Name, 'decided'>]: Counted<N> } = {
  loaded: { metric: 'sessile.loads', description: 'Stored sessions that were found for requests' },
  created: { metric: 'sessile.creations', description: 'New sessions that were stored' },
  saved: { metric: 'sessile.saves', description: 'Sessions that were written' },
  touched: { metric: 'sessile.touches', description: 'Sessions whose end was moved without writing them' },
  renewed: { metric: 'sessile.renewals', description: 'New tokens given to clients', onSpan: true },
  destroyed: {
    metric: 'sessile.destructions',
    description: 'Sessions that the application has destroyed, also all of a user, with those that logins replace',
  },
  expired: {
    metric: 'sessile.expiries',
    description: 'Sessions that a timeout has ended, noticed at their next request',
    kinds: [byReason('idle'), byReason('absolute')],
    attributes: ({ reason }) => byReason(reason),
    onSpan: true,
  },
  staleId: {
    metric: 'sessile.stale_ids',
    description: 'Uses of a token that was replaced longer ago than the grace period',
    onSpan: true,
  },
  conflict: {
    metric: 'sessile.conflicts',
    description: 'Writes that found the session changed by another request',
    kinds: [byMerged(true), byMerged(false)],
    attributes: ({ merged }) => byMerged(merged),
    onSpan: true,
  },
  invalid: {
    metric: 'sessile.invalid_records',
    description: 'Records that were no session, and were replaced',
    onSpan: true,
  },
  storeError: {
    metric: 'sessile.unreported_errors',
    description: 'Errors of the store of which no error handler is told',
  },
  failure: {
    metric: 'sessile.store.failures',
    description: 'Failures of the store',
    kinds: ['load', 'save', 'touch', 'destroy'].map(byOperation),
    attributes: ({ operation }) => byOperation(operation),
  },
}

/** In seconds, from a store in this process to one that is overloaded. */
const DURATIONS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
const SIZES = [1, 2, 5, 10, 20, 50, 100, 200, 500]

/**
 * Gives OpenTelemetry the metrics and spans of all session middlewares of this process, from now on. Session IDs are in
 * neither: they are credentials. docs/observability.md lists the metrics.
 * @returns what ends it
 * @throws OptionError when an option cannot be used
 */
export function instrumentSessions(options: InstrumentationOptions = {}): () => void {
  const { meterProvider = metrics, tracerProvider = trace, stores = {}, countEvery = 60_000 } = options
  if (!(countEvery >= 0)) throw new OptionError('countEvery option must be a number of ms')
  for (const [name, store] of Object.entries(stores)) {
    if (typeof store?.length !== 'function') throw new OptionError(`stores option has no store under ${name}`)
  }
  const meter = meterProvider.getMeter('sessile')
  const stops = [
    countEvents(meter),
    measureBatches(meter),
    watchOperations(meter, tracerProvider.getTracer('sessile')),
    countSessions(meter, stores, countEvery),
  ]
  return () => stops.forEach((stop) => stop())
}

function countEvents(meter: Meter): () => void {
  const stops = Object.entries(COUNTED).map(([name, counted]) => {
    const { metric, description, kinds = [{}], attributes, onSpan } = counted as Counted<Name>
    const counter = meter.createCounter(metric, { description, valueType: ValueType.INT })
    // From 0 on: a rate over a series that begins with its first event would miss that one.
    for (const kind of kinds) counter.add(0, kind)
    return listen(`sessile:${name}`, (event) => {
      const known = attributes?.(event as never) ?? {}
      counter.add(1, known)
      if (onSpan) trace.getActiveSpan()?.addEvent(`sessile.${name}`, known)
    })
  })
  return () => stops.forEach((stop) => stop())
}

function measureBatches(meter: Meter): () => void {
  const sizes = meter.createHistogram('sessile.batch.size', {
    description: 'Requests that a store has sent together',
    unit: '{request}',
    valueType: ValueType.INT,
    advice: { explicitBucketBoundaries: SIZES },
  })
  return listen('sessile:batch', (message) => {
    const { store, kind, size } = message as BatchSent
    sizes.record(size, { 'sessile.store': store, 'sessile.batch': kind })
  })
}

/** The spans have the request's for a parent, and are not those of statements: a store may send one for several requests. */
function watchOperations(meter: Meter, tracer: Tracer): () => void {
  const durations = meter.createHistogram('sessile.operation.duration', {
    description: 'How long requests have waited for the store',
    unit: 's',
    advice: { explicitBucketBoundaries: DURATIONS },
  })
  const underWay = new WeakMap<object, { span: Span; began: number; attributes: Attributes }>()

  const begin = (message: unknown): void => {
    const { operation, store } = message as Operation
    const attributes = { ...byOperation(operation), 'sessile.store': store }
    const span = tracer.startSpan(`session ${operation}`, { attributes }, context.active())
    underWay.set(message as Operation, { span, began: performance.now(), attributes })
  }
  const end = (message: unknown): void => {
    const { error, isOver } = message as Operation
    const begun = underWay.get(message as Operation)
    if (!isOver || !begun) return
    const { began, span } = begun
    const attributes = error === undefined ? begun.attributes : { ...begun.attributes, 'error.type': typeOf(error) }
    durations.record((performance.now() - began) / 1000, attributes)
    if (error !== undefined) {
      // Not its message: a database may quote the key in it.
      span.setAttribute('error.type', typeOf(error))
      span.setStatus({ code: SpanStatusCode.ERROR })
    }
    span.end()
  }
  const { start, end: answered, asyncEnd } = tracingChannel('sessile:operation')
  const stops = [listen(answered.name, end), listen(asyncEnd.name, end), listen(start.name, begin)]
  return () => stops.forEach((stop) => stop())
}

/** The kinds are few: a code, or the name of a class. */
function typeOf(error: unknown): string {
  const { code, name } = Object(error) as { code?: unknown; name?: unknown }
  return typeof code === 'string' ? code : typeof name === 'string' ? name : typeof error
}

function countSessions(
  meter: Meter,
  stores: Readonly<Record<string, Pick<RecordStore, 'length'>>>,
  countEvery: number,
): () => void {
  const gauge = meter.createObservableGauge('sessile.sessions', {
    description: 'Live sessions in the store',
    unit: '{session}',
    valueType: ValueType.INT,
  })
  const counts = Object.entries(stores).map(([name, store]) => ({ name, count: every(countEvery, () => count(store)) }))
  const observe = async (result: ObservableResult): Promise<void> => {
    const observeOne = async ({ name, count }: (typeof counts)[number]): Promise<void> => {
      try {
        result.observe(await count(), { 'sessile.store': name })
      } catch (error) {
        diag.warn(`sessile: the sessions of ${name} could not be counted`, error)
      }
    }
    await Promise.all(counts.map(observeOne))
  }
  gauge.addCallback(observe)
  return () => gauge.removeCallback(observe)
}

async function count(store: Pick<RecordStore, 'length'>): Promise<number> {
  return (await store.length()) as number
}

/** Asks anew when the last answer is older than `age` ms. One that fails is not kept. */
function every<T>(age: number, ask: () => Promise<T>): () => Promise<T> {
  let last: Promise<T> | undefined
  let asked = -Infinity
  return () => {
    if (last && performance.now() - asked < age) return last
    asked = performance.now()
    const answer = ask()
    last = answer
    answer.catch(() => {
      if (last === answer) last = undefined
    })
    return answer
  }
}

function listen(channel: string | symbol, listener: (message: unknown) => void): () => void {
  subscribe(channel, listener)
  return () => void unsubscribe(channel, listener)
}
