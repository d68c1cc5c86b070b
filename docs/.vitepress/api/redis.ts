/** @module sessile/redis */
export * from '../../../src/stores/redis'
