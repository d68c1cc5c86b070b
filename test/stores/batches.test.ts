import { describe, expect, test } from 'vitest'
import { Batches, Renewals, type BatchSettings, type Renewal } from '../../src/stores/batches'
import { gate } from '../support/app'

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** Batches of letters, answered by capitals, with a note of what was sent. */
function capitals(settings: Partial<BatchSettings<string, string>> = {}) {
  const sent: string[][] = []
  const batches = new Batches<string, string>({
    of: { store: 'Letters', kind: 'read' },
    limit: 100,
    send: (letters) => {
      sent.push(letters)
      return letters.map((letter) => letter.toUpperCase())
    },
    ...settings,
  })
  return { batches, sent, ask: (letter: string) => batches.ask(letter, letter) }
}

describe('batches', () => {
  test('what is asked for in one turn goes together, sorted by key, and each gets its answer', async () => {
    const { ask, sent } = capitals()
    expect(await Promise.all(['c', 'a', 'b'].map(ask))).toEqual(['C', 'A', 'B'])
    expect(await ask('d')).toBe('D')
    expect(sent).toEqual([['a', 'b', 'c'], ['d']])
  })

  test('a batch leaves after the last request in it has come, in the same turn of the event loop', async () => {
    const { ask, sent } = capitals()
    void ask('a')
    await Promise.resolve()
    await new Promise<void>((resolve) => process.nextTick(resolve))
    void ask('b')
    expect(sent).toEqual([])
    await turn()
    expect(sent).toEqual([['a', 'b']])
  })

  test('one under way holds up no other', async () => {
    const { open, opened } = gate()
    const { ask, sent } = capitals({
      send: async (letters) => {
        sent.push(letters)
        if (letters[0] === 'a') await opened
        return letters
      },
    })
    const slow = ask('a')
    await turn()
    expect(await ask('b')).toBe('b')
    open()
    expect(await slow).toBe('a')
  })

  test('a full batch does not wait for the turn to end', async () => {
    const { ask, sent } = capitals({ limit: 2 })
    const asked = ['a', 'b', 'c'].map(ask)
    expect(sent).toEqual([['a', 'b']])
    expect(await Promise.all(asked)).toEqual(['A', 'B', 'C'])
    expect(sent).toEqual([['a', 'b'], ['c']])
  })

  test('one that is to go alone leaves at once, and keeps nobody waiting', async () => {
    const { batches, ask, sent } = capitals()
    const asked = [ask('a'), batches.ask('b', 'b', true)]
    expect(sent).toEqual([['b']])
    await batches.flush()
    expect(sent).toEqual([['b'], ['a']])
    expect(await Promise.all(asked)).toEqual(['A', 'B'])
  })

  test('two of one key share an answer where they can be joined, else they go one after the other', async () => {
    const joining = capitals({ join: (waiting) => waiting })
    expect(await Promise.all(['a', 'a', 'a'].map(joining.ask))).toEqual(['A', 'A', 'A'])
    expect(joining.sent).toEqual([['a']])
    const apart = capitals()
    expect(await Promise.all(['a', 'b', 'a'].map(apart.ask))).toEqual(['A', 'B', 'A'])
    expect(apart.sent).toEqual([['a', 'b'], ['a']])
  })

  test.each(['throws', 'rejects'])('a failure, when sending %s, goes to each one who asked, once', async (how) => {
    const failure = new Error('down')
    let tries = 0
    const { ask } = capitals({
      send: () => {
        tries++
        if (how === 'throws') throw failure
        return Promise.reject(failure)
      },
      mayBeOnesFault: () => false,
    })
    const outcomes = await Promise.allSettled(['a', 'b', 'c'].map(ask))
    expect(outcomes).toEqual(Array(3).fill({ status: 'rejected', reason: failure }))
    expect(tries).toBe(1)
  })

  test('what one of many asks for fails that one alone', async () => {
    const { ask, sent } = capitals({
      send: (letters) => {
        sent.push(letters)
        if (letters.includes('?')) throw new Error('no letter')
        return letters
      },
      mayBeOnesFault: (error) => (error as Error).message === 'no letter',
    })
    const letters = [...'abcdefghijklmno?']
    const outcomes = await Promise.allSettled(letters.map(ask))
    expect(outcomes.map((outcome) => (outcome.status === 'fulfilled' ? outcome.value : '!'))).toEqual([
      ...'abcdefghijklmno!',
    ])
    expect(sent.filter((batch) => batch.includes('?')).at(-1)).toEqual(['?'])
    expect(sent.length).toBeLessThan(letters.length)
  })

  test('flush sends what waits, and resolves when all is done, even if that fails', async () => {
    const { open, opened } = gate()
    const done: string[] = []
    const { batches, ask } = capitals({
      pause: 60_000,
      send: async (letters) => {
        await opened
        done.push(...letters)
        throw new Error('down')
      },
    })
    const asked = [ask('a')]
    await turn()
    asked.push(ask('b'))
    const outcomes = Promise.allSettled(asked)
    const flushed = batches.flush()
    open()
    await flushed
    expect(done).toEqual(['a', 'b'])
    expect(await outcomes).toMatchObject([{ status: 'rejected' }, { status: 'rejected' }])
    await batches.flush()
  })
})

const LATER = Date.now() + 3_600_000

/** Renewals of records whose ends are in a Map. */
function renewing(ends: Record<string, number>) {
  const records = new Map(Object.entries(ends))
  const sent: Renewal[][] = []
  const renewals = new Renewals('Letters', (batch) => {
    sent.push(batch)
    return batch.map(({ id, from, expires }) => {
      const holds = records.get(id) === from
      if (holds) records.set(id, expires)
      return holds
    })
  })
  return { renewals, records, sent }
}

describe('renewals', () => {
  test('one whose record is about to end does not wait, and takes along what waits', async () => {
    const soon = Date.now() + 1000
    const { renewals, sent } = renewing({ a: LATER, b: LATER, c: soon })
    await renewals.renew({ id: 'a', from: LATER, expires: LATER + 1 })
    const more = [
      renewals.renew({ id: 'b', from: LATER, expires: LATER + 1 }),
      renewals.renew({ id: 'c', from: soon, expires: LATER }),
    ]
    await turn()
    expect(sent.map((batch) => batch.map(({ id }) => id))).toEqual([['a'], ['b', 'c']])
    expect(await Promise.all(more)).toEqual([true, true])
  })

  test('the first leaves in its turn, those that follow within a tenth of a second together', async () => {
    const { renewals, records, sent } = renewing({ a: LATER + 1, b: LATER + 1, c: LATER + 1 })
    expect(await renewals.renew({ id: 'a', from: LATER + 1, expires: LATER + 2 })).toBe(true)
    const more = ['c', 'b'].map((id) => renewals.renew({ id, from: LATER + 1, expires: LATER + 2 }))
    await turn()
    expect(sent).toHaveLength(1)
    expect(await Promise.all(more)).toEqual([true, true])
    expect(sent[1]?.map(({ id }) => id)).toEqual(['b', 'c'])
    expect([...records.values()]).toEqual(Array(3).fill(LATER + 2))
  })

  test('of two from the same end the later one is made, of two from different ends each as it can', async () => {
    const { renewals, records, sent } = renewing({ a: LATER + 1, b: LATER + 1 })
    const both = [LATER + 9, LATER + 8].map((expires) => renewals.renew({ id: 'a', from: LATER + 1, expires }))
    expect(await Promise.all(both)).toEqual([true, true])
    expect(records.get('a')).toBe(LATER + 9)
    const apart = [LATER + 1, LATER + 2].map((from) => renewals.renew({ id: 'b', from, expires: from + 1 }))
    expect(await Promise.all(apart)).toEqual([true, true])
    expect(records.get('b')).toBe(LATER + 3)
    expect(sent).toHaveLength(3)
  })

  test('one that waits for a record that is written or removed meanwhile is void', async () => {
    const { renewals, records, sent } = renewing({ a: LATER + 1, b: LATER + 1, c: LATER + 1, d: LATER + 1 })
    await renewals.renew({ id: 'd', from: LATER + 1, expires: LATER + 2 })
    const waiting = ['a', 'b', 'c'].map((id) => renewals.renew({ id, from: LATER + 1, expires: LATER + 5 }))
    records.set('a', LATER + 3)
    renewals.written('a', LATER + 3)
    renewals.removed('b')
    // Written with the end that it had: the renewal is still what is wanted.
    renewals.written('c', LATER + 1)
    renewals.removed('nobody')
    expect(await Promise.all(waiting.slice(0, 2))).toEqual([false, false])
    await renewals.flush()
    expect(await waiting[2]).toBe(true)
    expect(sent.flat().map(({ id }) => id)).toEqual(['d', 'c'])
    expect(records.get('a')).toBe(LATER + 3)
  })
})
