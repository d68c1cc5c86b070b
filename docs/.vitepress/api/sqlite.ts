/** @module sessile/sqlite */
export * from '../../../src/stores/sqlite'
