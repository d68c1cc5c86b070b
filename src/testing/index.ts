/**
 * For the tests of stores, and of apps that have sessions. No test runner is needed, and any will do:
 *
 * ```ts
 * for (const { group, name, run } of recordStoreContract(() => new MyStore())) test(`${group}: ${name}`, run)
 * ```
 */
export { signedCookie, type SignedCookieOptions } from './signed-cookie'
export { capabilities, type ContractCase, type Made, type MakeStore } from './contract-case'
export { storeContract, type StoreFacts } from './store-contract'
export { recordStoreContract } from './record-store-contract'
