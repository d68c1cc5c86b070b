import { describe, expect, test } from 'vitest'
import session from '../../src'
import { appWith, type AnySession } from '../faults/fault'
import { visitAndSettle, type Jar } from '../support/browser'
import { sessionsIn, stores } from '../response/any-response'

type Regenerate = (session: AnySession, then: () => void) => unknown
const ways: Record<string, Regenerate> = {
  'with a callback': (session, then) => session.regenerate(then),
  'by a promise': async (session, then) => {
    await session.regenerate()
    then()
  },
}
const cases = Object.keys(stores).flatMap((store) => Object.keys(ways).map((way) => [store, way] as const))

describe.each(cases)('on %s, regenerate %s that the response does not wait for', (name, way) => {
  async function visits(afterwards: (session: AnySession) => void) {
    const store = stores[name]!()
    const app = appWith(session, { store }, (req, res) => {
      if (req.path === '/regenerate') void ways[way]!(req.session, () => afterwards(req.session))
      else req.session['user'] ??= 'ada'
      res.send('sent')
    })
    const jar: Jar = {}
    await visitAndSettle(app, '/', jar)
    const before = jar.cookie
    expect((await visitAndSettle(app, '/regenerate', jar)).body).toBe('sent')
    return {
      sessions: () => sessionsIn(store),
      isAnother: jar.cookie !== before,
      again: () => visitAndSettle(app, '/', jar),
    }
  }

  test('leaves one record, and the answer has its cookie', async () => {
    const { again, isAnother, sessions } = await visits(() => undefined)
    expect(isAnother).toBe(true)
    expect(await sessions()).toHaveLength(1)
    await again()
    expect(await sessions()).toMatchObject([{ user: 'ada' }])
  })

  // As on express-session: a store that answers at once has regenerated the session before the callback is called.
  test.skipIf(name === 'a synchronous store')('stores what its end puts into the new session', async () => {
    const { again, isAnother, sessions } = await visits((session) => (session['user'] = 'grace'))
    expect(isAnother).toBe(true)
    expect(await sessions()).toMatchObject([{ user: 'grace' }])
    await again()
    expect(await sessions()).toMatchObject([{ user: 'grace' }])
  })
})
