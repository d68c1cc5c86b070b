import { describe, expect, test } from 'vitest'
import { appWith, classicStore } from '../faults/fault'
import { implementations, settled, type SessionFactory } from '../support/app'
import { exchange } from '../support/exchange'
import { cookieHeader } from '../support/set-cookie'

/** A store whose touch reads the record, works a while and writes it back, as stores on files do. */
function storeWithSlowTouch(session: SessionFactory) {
  const store = classicStore(session)
  const { records } = store
  const running = new Set<Promise<void>>()
  const touch = (id: string, data: { cookie: object }, callback: () => void): void => {
    const text = records.get(id)
    const done = settled(30).then(() => {
      if (text) records.set(id, JSON.stringify({ ...(JSON.parse(text) as object), cookie: data.cookie }))
      running.delete(done)
      callback()
    })
    running.add(done)
  }
  return { store: Object.assign(store, { touch }), idle: () => Promise.all(running) }
}

describe.each(Object.entries(implementations))('%s, on a store with a slow touch', (_name, session) => {
  /** A browser that waits for each answer before it asks again. */
  async function browse(...urls: string[]): Promise<string[]> {
    const { store, idle } = storeWithSlowTouch(session)
    const app = appWith(session, { store }, (req, res) => {
      if (req.url === '/login') req.session.user = 'ada'
      if (req.url === '/write') req.session.written = true
      if (req.url !== '/logout') return res.send('done')
      return req.session.destroy(() => res.send('goodbye'))
    })
    let cookie = ''
    for (const url of urls) {
      const { headers } = await exchange(app as never, { url, headers: cookie ? { cookie } : {} })
      cookie ||= cookieHeader(Object.fromEntries(headers))
    }
    await idle()
    return [...store.records.values()].map((text) => Object.keys(JSON.parse(text) as object).join())
  }

  test('a logout after a request that only read stays a logout', async () => {
    expect(await browse('/login', '/read', '/logout')).toEqual([])
  })

  test('what is written after a request that only read stays written', async () => {
    expect(await browse('/login', '/read', '/write')).toEqual(['cookie,user,written'])
  })
})
