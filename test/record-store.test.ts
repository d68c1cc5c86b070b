import { describe, expect, test } from 'vitest'
import session from '../src'

/** A memory store whose `scan` never comes to an end. */
class CirclingStore extends session.RecordStore {
  readonly #memory = new session.MemoryStore()
  readonly #cursor: unknown
  constructor(cursor: unknown) {
    super()
    this.#cursor = cursor
  }
  read(id: string) {
    return this.#memory.read(id)
  }
  write(...args: Parameters<session.MemoryStore['write']>) {
    return this.#memory.write(...args)
  }
  renew(id: string, expires: number) {
    return this.#memory.renew(id, expires)
  }
  remove(...args: Parameters<session.MemoryStore['remove']>) {
    return this.#memory.remove(...args)
  }
  scan() {
    return { records: [], cursor: this.#cursor as string }
  }
}

describe('a store whose scan never comes to an end', () => {
  for (const cursor of ['7', undefined, 7]) {
    test(`always the cursor ${typeof cursor} ${String(cursor)}: all, length and clear fail and say why`, async () => {
      const store = new CirclingStore(cursor)
      const message = `answered the cursor ${String(cursor)}: it has to be a string that leads on, or null at the end`
      await expect(store.all()).rejects.toThrow(message)
      await expect(store.length()).rejects.toThrow(message)
      await expect(store.clear()).rejects.toThrow(message)
    })
  }
})
