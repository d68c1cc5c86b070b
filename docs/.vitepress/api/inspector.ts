/** @module sessile/inspector */
export * from '../../../src/observability/inspector'
