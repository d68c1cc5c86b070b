/** @module sessile/dynamodb */
export * from '../../../src/stores/dynamodb'
