/**
 * Helpers for the tests of stores, and of apps that have sessions.
 *
 * The contracts of stores are lists of cases that work with any test runner. With Vitest:
 *
 * ```ts
 * import { describe, test } from 'vitest'
 * import { recordStoreContract } from 'sessile/testing'
 *
 * describe('MyStore', () => {
 *   for (const { group, name, run } of recordStoreContract(() => new MyStore())) test(`${group}: ${name}`, run)
 * })
 * ```
 *
 * With `node:test`, and a store that has to be closed after each case:
 *
 * ```js
 * const { test } = require('node:test')
 * const { storeContract } = require('sessile/testing')
 *
 * const make = async () => {
 *   const store = await MyStore.connect({ prefix: randomUUID() })
 *   return { store, close: () => store.disconnect() }
 * }
 * for (const { group, name, run } of storeContract(make, { granularity: 1000 })) test(`${group}: ${name}`, run)
 * ```
 *
 * Every case calls the function to get a store of its own, which has to be empty and must share nothing with the others.
 */
export { signedCookie } from './signed-cookie'
export { capabilities, type ContractCase, type Made, type MakeStore, type StoreFacts } from './contract-case'
export { storeContract } from './store-contract'
export { recordStoreContract } from './record-store-contract'
