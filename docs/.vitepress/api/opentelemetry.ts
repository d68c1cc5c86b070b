/** @module sessile/opentelemetry */
export * from '../../../src/observability/opentelemetry'
