import { expect, test } from 'vitest'
import { ExpiryQueue, type Ending } from '../../src/stores/expiry-queue'

test('to remove what is not in the queue takes out nothing else', () => {
  const queue = new ExpiryQueue<Ending>()
  const [one, other] = [1, 2].map((expires) => ({ expires, queuedFor: 0, place: -1 })) as [Ending, Ending]
  queue.add(one)
  queue.add(other)
  queue.remove(one)
  queue.remove(one)
  expect(queue.ended(3)).toBe(other)
  queue.remove(other)
  expect(queue.next).toBeUndefined()
})
