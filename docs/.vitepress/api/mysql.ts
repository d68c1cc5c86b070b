/** @module sessile/mysql */
export * from '../../../src/stores/mysql'
