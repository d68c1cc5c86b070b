import { afterEach, describe, expect, test, vi } from 'vitest'
import session, { type RecordPage, type SessionRecord, type WriteCondition } from '../../src'
import { capabilities, recordStoreContract, storeContract, type ContractCase } from '../../src/testing'
import { settled } from '../support/app'
import { failing } from '../support/failing'

const { MemoryStore, Store } = session

type Callback<T = void> = (error: unknown, value?: T) => void
type Data = session.SessionData
type Records = session.MemoryStore
type WriteArguments = [id: string, text: string, expires: number, condition: WriteCondition]

/** A store of the classic contract without a fault, in the plainest way. */
class Plain extends Store {
  readonly texts = new Map<string, string>()

  read(id: string): Data | null {
    const text = this.texts.get(id)
    if (text === undefined) return null
    const data = JSON.parse(text) as Data
    const { expires } = data.cookie
    return expires && new Date(expires).getTime() <= Date.now() ? null : data
  }

  get(id: string, callback: Callback<Data | null>): void {
    setImmediate(callback, null, this.read(id))
  }

  set(id: string, data: Data, callback?: Callback): void {
    let error: unknown = null
    try {
      this.texts.set(id, JSON.stringify(data))
    } catch (thrown) {
      error = thrown
    }
    if (callback) setImmediate(callback, error)
  }

  destroy(id: string, callback?: Callback): void {
    this.texts.delete(id)
    if (callback) setImmediate(callback, null)
  }

  override touch(id: string, data: Data, callback?: Callback): void {
    const kept = this.read(id)
    if (kept) this.texts.set(id, JSON.stringify({ ...kept, cookie: data.cookie }))
    if (callback) setImmediate(callback, null)
  }

  override all(callback: Callback<{ [id: string]: Data }>): void {
    const live = [...this.texts.keys()].map((id) => [id, this.read(id)]).filter(([, data]) => data)
    setImmediate(callback, null, Object.fromEntries(live))
  }

  override length(callback: Callback<number>): void {
    setImmediate(callback, null, [...this.texts.keys()].filter((id) => this.read(id)).length)
  }

  override clear(callback?: Callback): void {
    this.texts.clear()
    if (callback) setImmediate(callback, null)
  }
}

afterEach(() => vi.useRealTimers())

/** The same while the clock goes on by itself: no case waits, and on a busy machine none is late. */
async function failingInNoTime(cases: ContractCase[]): Promise<string[]> {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] })
  let isOver = false
  const failed = failing(cases).finally(() => (isOver = true))
  while (!isOver) {
    await settled(2)
    vi.advanceTimersByTime(1)
  }
  return failed
}

/** Stores with one fault each, and the sentences of the classic contract that they do not keep. */
const CLASSIC_FAULTS: { [fault: string]: [fails: string[], make: () => session.Store] } = {
  'is no Store': [
    ['store: is made from Store'],
    () => {
      const store = new Plain()
      return new Proxy(store, {
        get: (target, key) => (key === 'createSession' ? undefined : Reflect.get(target, key)),
      })
    },
  ],
  'keeps the objects it is given, and hands them out': [
    [
      'get: hands out copies',
      'set: takes copies',
      'set: fails with what JSON cannot hold, and stores nothing of it',
      'touch: puts the end off',
      'touch: leaves the data alone',
    ],
    () =>
      new (class extends Plain {
        readonly objects = new Map<string, Data>()
        override read(id: string): Data | null {
          const data = this.objects.get(id)
          if (!data) return null
          const { expires } = data.cookie
          return expires && expires.getTime() <= Date.now() ? null : data
        }
        override set(id: string, data: Data, callback?: Callback): void {
          this.objects.set(id, data)
          this.texts.set(id, '')
          if (callback) setImmediate(callback, null)
        }
        override touch(id: string, data: Data, callback?: Callback): void {
          if (this.read(id)) this.objects.set(id, data)
          if (callback) setImmediate(callback, null)
        }
        override destroy(id: string, callback?: Callback): void {
          this.objects.delete(id)
          super.destroy(id, callback)
        }
        override clear(callback?: Callback): void {
          this.objects.clear()
          super.clear(callback)
        }
      })(),
  ],
  'keeps sessions that have ended': [
    [
      'expiry: a session ends when its cookie does',
      'expiry: a session that was set again ends as set last',
      'expiry: a session that has ended already is not kept',
      'touch: brings the end nearer',
      'touch: does not bring back a session that is gone, and is content',
      'listing: all passes the live sessions, by ID or as a list',
      'listing: length passes the number of live sessions',
    ],
    () =>
      new (class extends Plain {
        override read(id: string): Data | null {
          const text = this.texts.get(id)
          return text === undefined ? null : (JSON.parse(text) as Data)
        }
      })(),
  ],
  'merges a new state into the old one': [
    ['set: replaces the whole session'],
    () =>
      new (class extends Plain {
        override set(id: string, data: Data, callback?: Callback): void {
          try {
            super.set(id, { ...this.read(id), ...(JSON.parse(JSON.stringify(data)) as Data) }, callback)
          } catch (error) {
            if (callback) setImmediate(callback, error)
          }
        }
      })(),
  ],
  'brings sessions back by touch': [
    [
      'touch: puts the end off',
      'touch: leaves the data alone',
      'touch: does not bring back a session that is gone, and is content',
    ],
    () =>
      new (class extends Plain {
        override touch(id: string, data: Data, callback?: Callback): void {
          this.set(id, data, callback)
        }
      })(),
  ],
  'does nothing on touch': [
    ['touch: puts the end off', 'touch: brings the end nearer'],
    () =>
      new (class extends Plain {
        override touch(_id: string, _data: Data, callback?: Callback): void {
          if (callback) setImmediate(callback, null)
        }
      })(),
  ],
  'cannot tell upper from lower case': [
    ['set: keeps sessions apart by their IDs, however unusual'],
    () =>
      new (class extends Plain {
        override get(id: string, callback: Callback<Data | null>): void {
          super.get(id.toLowerCase(), callback)
        }
        override set(id: string, data: Data, callback?: Callback): void {
          super.set(id.toLowerCase(), data, callback)
        }
        override destroy(id: string, callback?: Callback): void {
          super.destroy(id.toLowerCase(), callback)
        }
        override touch(id: string, data: Data, callback?: Callback): void {
          super.touch(id.toLowerCase(), data, callback)
        }
      })(),
  ],
  'keeps its sessions in an object': [
    ['get: passes nothing for an ID that has no session', 'set: keeps sessions apart by their IDs, however unusual'],
    () =>
      new (class extends Plain {
        readonly sessions: { [id: string]: string } = {}
        override get(id: string, callback: Callback<Data | null>): void {
          const found: unknown = this.sessions[id]
          if (typeof found === 'function') return void setImmediate(callback, null, found as never)
          super.get(id, callback)
        }
      })(),
  ],
  'calls back twice when it destroys': [
    [
      'store: shares nothing with another one beside it',
      'set: keeps sessions apart by their IDs, however unusual',
      'callbacks: are called once, even one that throws',
      'destroy: deletes, and is content when there is nothing to delete',
      'destroy: leaves other sessions alone',
      'touch: does not bring back a session that is gone, and is content',
      'listing: all passes the live sessions, by ID or as a list',
      'listing: length passes the number of live sessions',
    ],
    () =>
      new (class extends Plain {
        override destroy(id: string, callback?: Callback): void {
          super.destroy(id, callback)
          if (callback) setImmediate(callback, null)
        }
      })(),
  ],
  'calls back with what the callback itself has thrown': [
    ['callbacks: are called once, even one that throws'],
    () =>
      new (class extends Plain {
        override get(id: string, callback: Callback<Data | null>): void {
          const data = this.read(id)
          setImmediate(() => {
            try {
              callback(null, data)
            } catch (error) {
              callback(error)
            }
          })
        }
      })(),
  ],
  'passes over that a session has no text': [
    ['set: fails with what JSON cannot hold, and stores nothing of it'],
    () =>
      new (class extends Plain {
        override set(id: string, data: Data, callback?: Callback): void {
          super.set(id, data, callback && (() => callback(null)))
        }
      })(),
  ],
  'assigns keys as they come': [
    ['set: keeps unusual values as they are', 'set: pollutes no prototype, whatever the keys'],
    () =>
      new (class extends Plain {
        override read(id: string): Data | null {
          const data = super.read(id)
          return data && (assigned(data) as Data)
        }
      })(),
  ],
  'counts what has ended': [
    ['listing: length passes the number of live sessions'],
    () =>
      new (class extends Plain {
        override length(callback: Callback<number>): void {
          setImmediate(callback, null, this.texts.size)
        }
      })(),
  ],
  'lists a hundred at most': [
    ['listing: all passes more than a thousand'],
    () =>
      new (class extends Plain {
        override all(callback: Callback<{ [id: string]: Data }>): void {
          super.all((error, sessions) =>
            callback(error, Object.fromEntries(Object.entries(sessions ?? {}).slice(0, 100))),
          )
        }
      })(),
  ],
  'needs a callback': [
    ['set: and destroy work without a callback'],
    () =>
      new (class extends Plain {
        override set(id: string, data: Data, callback?: Callback): void {
          if (callback) super.set(id, data, callback)
        }
      })(),
  ],
  'writes in pieces': [
    ['parallel: who reads while others write finds one of the states whole'],
    () =>
      new (class extends Plain {
        override set(id: string, data: Data, callback?: Callback): void {
          let text: string
          try {
            text = JSON.stringify(data)
          } catch (error) {
            return void (callback && setImmediate(callback, error))
          }
          const { last, ...first } = JSON.parse(text) as Data & { last?: unknown }
          this.texts.set(id, JSON.stringify({ ...first, last: -1 }))
          setImmediate(() => setImmediate(() => super.set(id, { ...first, last } as Data, callback)))
        }
      })(),
  ],
}

/** What a naive deep copy does. */
function assigned(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(assigned)
  const copy: { [key: string]: unknown } = {}
  for (const key of Object.keys(value)) copy[key] = assigned((value as { [key: string]: unknown })[key])
  return copy
}

describe('the classic contract', () => {
  test('a store without a fault keeps all of it', async () => {
    expect(await failingInNoTime(storeContract(() => new Plain()))).toEqual([])
  })

  for (const [fault, [fails, make]] of Object.entries(CLASSIC_FAULTS)) {
    test(`a store that ${fault} fails`, async () => {
      expect(await failingInNoTime(storeContract(make))).toEqual(fails)
    })
  }
})

test('a store that shares its sessions with every other one fails', async () => {
  const shared = new Map<string, string>()
  const make = (): session.Store => Object.assign(new Plain(), { texts: shared })
  expect(await failingInNoTime(storeContract(make))).toContain('store: shares nothing with another one beside it')
})

/** What a store that counts by number may keep or not, by the order of its keys. */
const BY_CHANCE = 'scan: finds what lives through it, while others come, change and go'

/** Stores with one fault each, and the sentences of the record contract that they do not keep. */
const RECORD_FAULTS: { [fault: string]: [fails: string[], Faulty: new () => Records] } = {
  'writes over what should be absent': [
    ['write: absent: leaves a live record alone', 'parallel: of many that write where there is none, one does'],
    class extends MemoryStore {
      override write(...[id, text, expires, condition]: WriteArguments): string | null {
        return super.write(id, text, expires, condition === 'absent' ? 'always' : condition)
      }
    },
  ],
  'pays no heed to versions': [
    [
      'write: version: writes only over the version that was read',
      'write: version: one from before a record was removed and made anew does not fit',
      'parallel: of many that write over one version, one does',
      'parallel: 50 writers that read, change and try again lose nothing',
    ],
    class extends MemoryStore {
      override write(...[id, text, expires, condition]: WriteArguments): string | null {
        return super.write(id, text, expires, typeof condition === 'object' ? 'present' : condition)
      }
    },
  ],
  'writes where nothing is present': [
    [
      'write: present: writes over a live record only',
      'write: present: an expired record is not written over',
      'parallel: a record that is removed among writers and renewals never comes back',
    ],
    class extends MemoryStore {
      override write(...[id, text, expires, condition]: WriteArguments): string | null {
        return super.write(id, text, expires, condition === 'present' ? 'always' : condition)
      }
    },
  ],
  'tests the version, and writes a little later': [
    [
      'parallel: of many that write over one version, one does',
      'parallel: 50 writers that read, change and try again lose nothing',
    ],
    class extends MemoryStore {
      override write(...args: WriteArguments): never {
        return this.writeLater(...args) as never
      }
      async writeLater(...[id, text, expires, condition]: WriteArguments): Promise<string | null> {
        if (typeof condition !== 'object') return super.write(id, text, expires, condition)
        if (super.read(id)?.version !== condition.version) return null
        await new Promise((resolve) => setImmediate(resolve))
        return super.write(id, text, expires, 'present')
      }
    },
  ],
  'gives every record the same version': [
    [
      'write: version: writes only over the version that was read',
      'write: version: differs whenever the content does',
      'write: version: one from before a record was removed and made anew does not fit',
      'remove: given a version deletes only that one',
      'parallel: of many that write over one version, one does',
      'parallel: 50 writers that read, change and try again lose nothing',
    ],
    class extends MemoryStore {
      override read(id: string): SessionRecord | null {
        const record = super.read(id)
        return record && { ...record, version: 1 }
      }
      override scan(cursor: string | null, limit: number): RecordPage {
        const { records, cursor: next } = super.scan(cursor, limit)
        return { records: records.map((record) => ({ ...record, version: 1 })), cursor: next }
      }
      override write(...[id, text, expires, condition]: WriteArguments): never {
        return (super.write(id, text, expires, typeof condition === 'object' ? 'present' : condition) && 1) as never
      }
    },
  ],
  'keeps the old end when it writes': [
    [
      'write: moves the end, whatever the condition',
      'write: of a record that has ended keeps none',
      'renew: given an end, moves only a record that ends then still',
      'renew: given an end, neither keeps a removed record nor undoes what is written meanwhile',
    ],
    class extends MemoryStore {
      override write(...[id, text, expires, condition]: WriteArguments): string | null {
        return super.write(id, text, super.read(id)?.expires ?? expires, condition)
      }
    },
  ],
  'renews nothing': [
    [
      'renew: moves the end, and neither text nor version',
      'renew: can bring the end nearer',
      'renew: given an end, moves only a record that ends then still',
      'classic: get, set, touch, destroy and all work over the records',
      'classic: a cookie may end at a number of ms since the epoch',
    ],
    class extends MemoryStore {
      override renew(id: string): boolean {
        return super.read(id) !== null
      }
    },
  ],
  'says that it renewed while it read, and did not': [
    ['read: may renew, and says so, or leaves the end alone'],
    class extends MemoryStore {
      override read(id: string, renewTo?: number): SessionRecord | null {
        const record = super.read(id)
        return record && renewTo ? { ...record, expires: renewTo, renewed: true } : record
      }
    },
  ],
  'makes a record of a renewal': [
    [
      'expiry: an expired record is absent to every method',
      'renew: is false and makes nothing where there is no record',
      'renew: given an end, moves only a record that ends then still',
      'parallel: a record that is removed among writers and renewals never comes back',
    ],
    class extends MemoryStore {
      override renew(id: string, expires: number): boolean {
        return super.renew(id, expires) || super.write(id, '{"cookie":{}}', expires, 'always') !== null
      }
    },
  ],
  'always says that it removed': [
    [
      'read: sees nothing of another store beside it',
      'expiry: an expired record is absent to every method',
      'remove: tells whether there was a live record',
      'remove: given a version deletes only that one',
      'remove: given a version, of many at once one deletes, or one that writes is first',
      'parallel: of many that remove, one did',
    ],
    class extends MemoryStore {
      override remove(id: string): boolean {
        super.remove(id)
        return true
      }
    },
  ],
  'removes whatever the version': [
    ['remove: given a version deletes only that one'],
    class extends MemoryStore {
      override remove(id: string): boolean {
        return super.remove(id)
      }
    },
  ],
  'removes nothing': [
    [
      'write: absent: a removed record counts as none',
      'write: version: neither an absent nor an expired record is written over',
      'write: version: one from before a record was removed and made anew does not fit',
      'renew: is false and makes nothing where there is no record',
      'renew: given an end, neither keeps a removed record nor undoes what is written meanwhile',
      'remove: tells whether there was a live record',
      'remove: given a version deletes only that one',
      'remove: given a version, of many at once one deletes, or one that writes is first',
      'scan: leaves out what has expired or was removed',
      'scan: finds everything, while what was found is removed',
      'parallel: of many that remove, one did',
      'parallel: a record that is removed among writers and renewals never comes back',
      'classic: get, set, touch, destroy and all work over the records',
      'count: counts live records',
    ],
    class extends MemoryStore {
      override remove(id: string): boolean {
        return super.read(id) !== null
      }
    },
  ],
  'scans one page': [
    [
      'scan: finds every live record whole, in pages of about the size asked for',
      'scan: finds unusual IDs as they are',
      'scan: finds what lives through it, while others come, change and go',
      'scan: finds everything, while what was found is removed',
      'scan: goes on over more than two pages, and so do records, all and length',
      'scan: can be left early, and begun again',
    ],
    class extends MemoryStore {
      override scan(cursor: string | null, limit: number): RecordPage {
        return { ...super.scan(cursor, limit), cursor: null }
      }
    },
  ],
  'counts by number, so that what is removed shifts a scan': [
    ['scan: finds everything, while what was found is removed'],
    class extends MemoryStore {
      override scan(cursor: string | null, limit: number): RecordPage {
        const from = Number(cursor ?? 0)
        const { records } = super.scan(null, 10_000)
        const to = from + limit
        return { records: records.slice(from, to), cursor: to < records.length ? String(to) : null }
      }
    },
  ],
  'keeps ASCII only': [
    ['read: gives back unusual values as they were'],
    class extends MemoryStore {
      override write(...[id, text, expires, condition]: WriteArguments): string | null {
        // eslint-disable-next-line no-control-regex -- what such a store does
        return super.write(id, text.replace(/[^\x00-\x7f]/g, '?'), expires, condition)
      }
    },
  ],
  'keeps 64 KB at most': [
    ['read: gives back unusual values as they were'],
    class extends MemoryStore {
      override write(...[id, text, expires, condition]: WriteArguments): string | null {
        return super.write(id, text.length > 65_536 ? '{"cookie":{}}' : text, expires, condition)
      }
    },
  ],
  'prunes what lives': [
    [
      'prune: deletes expired records, no more than asked, and no live ones',
      'link: outlasts its end while the session lives, or is to be noted again',
    ],
    class extends MemoryStore {
      override prune(limit: number): number {
        const { records } = super.scan(null, limit)
        for (const { id } of records) super.remove(id)
        return records.length
      }
    },
  ],
  'counts what it has ever kept': [
    ['count: counts live records'],
    class extends MemoryStore {
      #writes = 0
      override write(...args: WriteArguments): string | null {
        this.#writes++
        return super.write(...args)
      }
      override count(): number {
        return this.#writes
      }
    },
  ],
  'leaves some when it removes all': [
    ['removeAll: deletes every record'],
    class extends MemoryStore {
      override removeAll(): void {
        for (const { id } of super.scan(null, 3).records) super.remove(id)
      }
    },
  ],
  'forgets who is whose': [
    [
      'link: notes sessions of a user, once each, and unlink takes that back',
      'link: keeps users apart, however unusual their names',
      'link: notes a session of two users at once, for each until it is taken back',
      'link: notes a session that is written later, whatever is pruned meanwhile',
      'link: outlasts its end while the session lives, or is to be noted again',
    ],
    class extends MemoryStore {
      override linked(): string[] {
        return []
      }
    },
  ],
  'mixes up the users': [
    ['link: keeps users apart, however unusual their names'],
    class extends MemoryStore {
      override link(user: string, id: string): void {
        super.link(user.toLowerCase(), id)
      }
      override linked(user: string): string[] {
        return super.linked(user.toLowerCase())
      }
      override unlink(user: string, id: string): void {
        super.unlink(user.toLowerCase(), id)
      }
    },
  ],
}

describe('the record contract', () => {
  test('a store without a fault keeps all of it', async () => {
    expect(await failingInNoTime(recordStoreContract(() => new MemoryStore()))).toEqual([])
  })

  for (const [fault, [fails, Faulty]] of Object.entries(RECORD_FAULTS)) {
    test(`a store that ${fault} fails`, async () => {
      const failed = await failingInNoTime(recordStoreContract(() => new Faulty()))
      expect(failed.filter((sentence) => fails.includes(sentence) || sentence !== BY_CHANCE)).toEqual(fails)
    })
  }
})

describe('a store that never answers', () => {
  test('fails every case that asks it, in bounded time', async () => {
    const never = (): Promise<never> => new Promise(() => undefined)
    const cases = storeContract(() => Object.assign(new Plain(), { get: never })).filter(({ group }) => group === 'get')
    expect(await failingInNoTime(cases)).toHaveLength(cases.length)

    const records = recordStoreContract(() => Object.assign(new MemoryStore(), { read: never as never }))
    const reading = records.filter(({ group }) => group === 'read')
    expect(await failingInNoTime(reading)).toHaveLength(reading.length)
  })
})

describe('what a store may leave out', () => {
  class Least extends Plain {}
  for (const method of ['touch', 'all', 'length', 'clear'] as const)
    Object.defineProperty(Least.prototype, method, { value: undefined })

  test('capabilities tell what it has', () => {
    expect(capabilities(new Plain())).toEqual(['touch', 'all', 'length', 'clear'])
    expect(capabilities(new Least())).toEqual([])
    expect(capabilities(new MemoryStore())).toEqual(
      expect.arrayContaining(['touch', 'prune', 'removeAll', 'count', 'link', 'unlink', 'linked']),
    )
  })

  test('the cases that need it are skipped, and say why', async () => {
    const cases = storeContract(() => new Least())
    const skipped: string[] = []
    for (const { group, run } of cases) await run({ skip: (reason) => skipped.push(`${group}: ${reason}`) })
    const needing = cases.filter(({ needs }) => needs.length > 0)
    expect(skipped).toEqual(needing.map(({ group, needs }) => `${group}: the store has no ${needs.join(', ')}`))
    expect(needing).toHaveLength(8)
  })
})
