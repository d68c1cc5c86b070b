import { describe, expect, test } from 'vitest'
import { RequestsUnderWay } from '../../src/request/requests-under-way'
import type { Visit } from '../../src/request/visit'

describe('the requests under way', () => {
  const visitOf = (held: string, left: string[], key = held): Visit =>
    ({ claim: { held: { key: held }, key }, leave: () => left.push(key) }) as never

  test('learn that their session has ended, and others do not', () => {
    const requests = new RequestsUnderWay()
    const left: string[] = []
    for (const key of ['a', 'a', 'b']) requests.enter(key, visitOf(key, left))
    requests.leave('a')
    expect(left).toEqual(['a', 'a'])
  })

  test('that have gone on with a new session stay in it', () => {
    const requests = new RequestsUnderWay()
    const left: string[] = []
    requests.enter('a', visitOf('a', left, 'new'))
    requests.leave('a')
    expect(left).toEqual([])
  })

  test('are forgotten when they have ended: nothing grows', () => {
    const requests = new RequestsUnderWay()
    for (let n = 0; n < 10_000; n++) {
      const visit = visitOf(`key ${n % 7}`, [])
      requests.enter(`key ${n % 7}`, visit)
      requests.exit(visit)
      requests.exit(visit)
    }
    expect(requests.size).toBe(0)
  })
})
