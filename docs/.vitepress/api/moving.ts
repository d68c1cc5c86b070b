/** @module sessile/moving */
export * from '../../../src/stores/moving'
