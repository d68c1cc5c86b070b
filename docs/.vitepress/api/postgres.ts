/** @module sessile/postgres */
export * from '../../../src/stores/postgres'
