import { ClassicAccess } from './classic-access'
import type { AccessSettings, StoreAccess } from './access'
import { RecordAccess } from './record-access'
import { isRecordStore, type RecordStore } from './record-store'
import type { Store } from './store'

/**
 * Chooses the contract by which a store is used. Records bypass the classic methods, so they are used only as long as
 * nobody has replaced one of those on the store or in a subclass.
 */
export function storeAccess(store: Store, settings: AccessSettings): () => StoreAccess {
  const classic = new ClassicAccess(store, settings.handed)
  if (!isRecordStore(store)) return () => classic
  const records = new RecordAccess(store, settings)
  const { get, set, touch, destroy } = baseOf(store)
  return () =>
    store.get === get && store.set === set && store.touch === touch && store.destroy === destroy ? records : classic
}

/** The RecordStore that a store extends: ours, or that of another copy of this library. */
function baseOf(store: RecordStore): RecordStore {
  let base: object = store
  while (!Object.hasOwn(base, 'records')) base = Object.getPrototypeOf(base) as object
  return base as RecordStore
}
