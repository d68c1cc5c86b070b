import express from 'express'
import { createRequire } from 'node:module'
import { describe, expect, test } from 'vitest'
import type { IncomingMessage, ServerResponse } from 'node:http'
import request from 'supertest'
import session from '../src'

const express4 = createRequire(__filename)('express4') as typeof express

function shown(object: object): Record<string, unknown> {
  const types = Object.entries(Object.getOwnPropertyDescriptors(object)).map(([name, { value, ...rest }]) => [
    name,
    { ...rest, type: typeof value },
  ])
  return Object.fromEntries(types) as Record<string, unknown>
}

describe.each([
  ['Express 4', express4],
  ['Express 5', express],
])('%s', (_, framework) => {
  test('the middleware leaves every property that the request and the response have as it was', async () => {
    const seen: { req: object; res: object }[] = []
    const look = (req: IncomingMessage, res: ServerResponse, next: () => void): void => {
      seen.push({ req: shown(req), res: shown(res) })
      next()
    }
    const app = framework()
    app.use(look)
    app.use(session({ secret: 'a secret that is long enough for tests', resave: false, saveUninitialized: false }))
    app.use(look)
    app.get('/', (req, res) => void res.send(String(req.complete)))

    const { text } = await request(app).get('/')
    expect(text).toMatch(/true|false/)
    const [before, after] = seen as [(typeof seen)[0], (typeof seen)[0]]
    expect(after.req).toMatchObject(before.req)
    const { end, flushHeaders, write, writeHead, ...others } = after.res as Record<string, unknown>
    expect([end, flushHeaders, write, writeHead]).not.toContain(undefined)
    const { writeHead: _, ...was } = before.res as Record<string, unknown>
    expect(others).toEqual(was)
  })
})
