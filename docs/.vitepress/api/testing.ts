/** @module sessile/testing */
export * from '../../../src/testing'
