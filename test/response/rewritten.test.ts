import compression from 'compression'
import express, { type Response } from 'express'
import { describe, expect, test } from 'vitest'
import session from '../../src'
import { appOf, classicStore, OPTIONS } from '../faults/fault'
import { withServer } from '../support/app'
import { setCookies } from '../support/set-cookie'

describe('a middleware before the sessions that rewrites the body as it ends', () => {
  const stores = {
    'a synchronous store': () => new session.MemoryStore(),
    'an asynchronous store': () => classicStore(session),
  }

  /** Collects the body, and sends another one, whose length it announces; `later` in another turn. */
  const rewriting =
    (later: boolean): express.RequestHandler =>
    (_req, res, next) => {
      const parts: string[] = []
      const end = res.end.bind(res) as (chunk: string) => Response
      res.write = ((chunk: string) => (parts.push(String(chunk)), true)) as never
      res.end = ((chunk?: unknown) => {
        if (typeof chunk === 'string' || chunk instanceof Uint8Array)
          parts.push(Buffer.from(chunk as string).toString())
        const send = (): void => {
          const body = `<${parts.join('')}>`
          res.setHeader('Content-Length', Buffer.byteLength(body))
          end(body)
        }
        if (later) setImmediate(send)
        else send()
        return res
      }) as never
      next()
    }

  const answers: Record<string, (res: Response) => unknown> = {
    send: (res) => res.send('the body'),
    'write and end': (res) => {
      res.write('the ')
      res.end('body')
    },
  }
  const cases = Object.keys(stores).flatMap((store) =>
    Object.keys(answers).flatMap((answer) => [false, true].map((later) => [answer, store, later] as const)),
  )
  test.each(cases)(
    '%s, with %s (in another turn: %s): the new body with its length and the cookie',
    async (answer, store, later) => {
      const app = appOf(
        [rewriting(later), session({ ...OPTIONS, store: stores[store as keyof typeof stores]() })],
        (req, res) => {
          req.session['views'] = 1
          answers[answer]!(res)
        },
      )
      await withServer(app, async ({ get }) => {
        const { status, headers, body } = await get('/')
        expect({ status, body, length: headers['content-length'] }).toEqual({
          status: 200,
          body: '<the body>',
          length: '10',
        })
        expect(setCookies(headers, 'connect.sid')).toHaveLength(1)
      })
    },
  )
})

describe('compression before the sessions', () => {
  test('decides by the length of the body, and its head has the cookie of what the store has confirmed', async () => {
    const store = classicStore(session)
    const big = 'compress me '.repeat(500)
    const app = appOf([compression(), session({ ...OPTIONS, store })], (req, res) => {
      req.session['views'] = 1
      res.type('text').end(req.url === '/big' ? big : 'small')
    })
    await withServer(app, async ({ url }) => {
      for (const [path, encoding, body] of [
        ['/big', 'gzip', big],
        ['/small', null, 'small'],
      ] as const) {
        const answer = await fetch(url + path, { headers: { 'accept-encoding': 'gzip' } })
        expect(answer.headers.get('content-encoding')).toBe(encoding)
        expect(answer.headers.getSetCookie()).toHaveLength(1)
        expect(await answer.text()).toBe(body)
      }
    })
    expect(store.records.size).toBe(2)
  })
})
