import express, { type ErrorRequestHandler } from 'express'
import request from 'supertest'
import { afterEach, describe, expect, test } from 'vitest'
import session from '../src'
import { Signer } from '../src/request/signer'
import { SECRET } from './support/app'

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

/** A store whose promises reject with `undefined`, as those of a bare `reject()` do. */
class SilentStore extends session.RecordStore {
  readonly #fail = () => Promise.reject<never>()
  read = this.#fail
  write = this.#fail
  renew = this.#fail
  remove = this.#fail
  scan = this.#fail
}

describe('a store that rejects with nothing', () => {
  const app = express()
  const store = new SilentStore()
  app.use(session({ secret: SECRET, store, resave: false, saveUninitialized: false }))
  app.get('/save', (req, res) => {
    ;(req.session as { user?: string }).user = 'ada'
    req.session.save((error?: unknown) => void res.status(error ? 503 : 200).send(String(error)))
  })
  app.get('/end', (req, res) => {
    ;(req.session as { user?: string }).user = 'ada'
    res.send('stored')
  })
  const errors: string[] = []
  app.use(((error: unknown, _req, res, next) => {
    errors.push(String(error))
    if (res.writableEnded) next(error)
    else res.status(500).send('')
  }) as ErrorRequestHandler)
  afterEach(() => void errors.splice(0))

  test('while loading: the error handler is called', async () => {
    const cookie = `connect.sid=${new Signer([SECRET]).sign('id')}`
    await request(app).get('/end').set('Cookie', cookie).expect(500)
    expect(errors).toEqual(["Error: the session store's load rejected with nothing"])
  })

  test('while saving: the callback is given an error', async () => {
    await request(app).get('/save').expect(503, "Error: the session store's save rejected with nothing")
  })

  test('at the end: the error handler is called', async () => {
    await request(app).get('/end').expect(200)
    expect(errors).toEqual(["Error: the session store's save rejected with nothing"])
  })

  test('its own methods give an error to their callbacks', async () => {
    const error = await new Promise((resolve) => void store.get('id', resolve))
    expect(error).toEqual(new Error('the session store rejected with nothing'))
  })
})
