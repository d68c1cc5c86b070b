import { once } from 'node:events'
import { Readable } from 'node:stream'
import { describe, expect, test, vi } from 'vitest'
import session from '../../src'
import { classicStore, type AnySession } from '../faults/fault'
import { gate, settled } from '../support/app'
import { cookieHeader, setCookies } from '../support/set-cookie'
import { plain, protocols, slowStore } from './protocols'

describe.each(Object.keys(protocols))('%s', (protocol) => {
  const serve = protocols[protocol]!

  describe('an answer whose length was announced, and that is piped', () => {
    const chunks = ['one, ', 'two, ', 'three']
    const announced = (store: unknown, onSaveError?: 'respond' | 'error' | 'disconnect', parts = chunks) =>
      plain({ store, onSaveError } as never, (req, res) => {
        req.session['views'] = 1
        res.setHeader('Content-Length', parts.join('').length)
        Readable.from(parts).pipe(res)
      })

    test.each([
      ['in parts', chunks],
      ['in one', [chunks.join('')]],
    ])('%s: its last part waits for the commit', async (_how, parts) => {
      const { store, began, release } = slowStore()
      const { listener } = announced(store, 'respond', parts)
      await serve(listener, async (client) => {
        let complete = false
        const answer = client.get('/').finally(() => (complete = true))
        await began
        await settled()
        expect(complete).toBe(false)
        expect(store.records.size).toBe(0)
        release()
        const { body, headers } = await answer
        expect(body).toBe('one, two, three')
        expect(setCookies(headers, 'connect.sid')).toHaveLength(1)
        expect(store.records.size).toBe(1)
      })
    })

    test.each(['error', 'disconnect'] as const)(
      'with onSaveError %s it is cut off when the save fails',
      async (how) => {
        const { store, began, fail } = slowStore()
        const { listener, told } = announced(store, how)
        await serve(listener, async (client) => {
          const answer = client.get('/').then(
            ({ body }) => body,
            () => 'cut off',
          )
          await began
          fail()
          expect(await answer).toBe('cut off')
          await vi.waitUntil(() => told.length > 0)
        })
        expect(told).toEqual(['the store is full'])
      },
    )

    test('with onSaveError respond it is whole when the save fails, which is told once', async () => {
      const { store, began, fail } = slowStore()
      const { listener, told } = announced(store)
      await serve(listener, async (client) => {
        const answer = client.get('/')
        await began
        fail()
        expect((await answer).body).toBe('one, two, three')
        await vi.waitUntil(() => told.length > 0)
      })
      expect(told).toEqual(['the store is full'])
    })

    test('what is changed between its last byte and its end is stored, too', async () => {
      const store = classicStore(session)
      const { listener } = plain({ store }, (req, res) => {
        req.session['views'] = 1
        res.setHeader('Content-Length', 3)
        res.write('one', () => {
          req.session['late'] = true
          res.end()
        })
      })
      await serve(listener, async (client) => expect((await client.get('/')).body).toBe('one'))
      await vi.waitUntil(() => [...store.records.values()].some((text) => text.includes('"late":true')))
    })

    test('a source that waits for drain goes on', async () => {
      const store = classicStore(session)
      const { listener } = plain({ store }, async (req, res) => {
        req.session['views'] = 1
        res.setHeader('Content-Length', 6)
        for (const part of ['one', 'two']) if (!res.write(part)) await once(res, 'drain')
        res.end()
      })
      await serve(listener, async (client) => expect((await client.get('/')).body).toBe('onetwo'))
    })
  })

  test.each([false, true])('the client leaves a stream early, and its handler ends it then: %s', async (ends) => {
    const { store, saves, release } = slowStore()
    release()
    const left = gate()
    const { listener, told } = plain({ store }, (req, res) => {
      res.on('close', () => {
        if (ends) setImmediate(() => res.end())
        left.open()
      })
      req.session['downloads'] = 1
      res.write('the first part')
      if (req.url === '/late') req.session['downloads'] = 2
      setImmediate(() =>
        protocol === 'HTTP/1' ? res.destroy() : (res as never as { stream: { close(): void } }).stream.close(),
      )
    })
    await serve(listener, async (client) => {
      await client.get('/late').catch(() => undefined)
      await left.opened
      await vi.waitUntil(() => [...store.records.values()].some((text) => text.includes('"downloads":2')))
      await settled()
    })
    expect(saves.map((text) => (JSON.parse(text) as AnySession)['downloads'] as number)).toEqual([1, 2])
    expect(told).toEqual([])
  })

  test('a reader who comes during a stream finds what was changed before it', async () => {
    const store = new session.MemoryStore()
    const end = gate()
    const begun = gate()
    const { listener } = plain({ store }, (req, res) => {
      if (req.url === '/see') return void res.end(String(req.session['user']))
      req.session['user'] = 'ada'
      res.write('begun')
      begun.open()
      void end.opened.then(() => res.end(', ended'))
    })
    await serve(listener, async (client) => {
      const streamed = client.get('/')
      await begun.opened
      const [id] = Object.keys(store.sessions)
      expect(store.sessions[id as string]).toContain('ada')
      end.open()
      const { headers, body } = await streamed
      expect(body).toBe('begun, ended')
      expect((await client.get('/see', { cookie: cookieHeader(headers) })).body).toBe('ada')
    })
  })
})
