import connectFlash from 'connect-flash'
import express from 'express'
import request from 'supertest'
import { expect, test } from 'vitest'
import session from '../src'
import { classicStore } from './faults/fault'
import { caught } from './support/app'

function appWithFlash() {
  const sessions = session('a secret that is long enough for these tests')
  const app = express()
  app.use(sessions, connectFlash())
  app.get('/add/:type/:text', async (req, res) => {
    await sessions.flash(req).add(req.params.type, req.params.text)
    res.redirect('/')
  })
  app.get('/take/:type', async (req, res) => void res.json(await sessions.flash(req).take(req.params.type)))
  app.get('/other/:text', (req, res) => {
    req.flash('info', req.params.text)
    res.redirect('/')
  })
  app.get('/other', (req, res) => void res.json(req.flash('info')))
  app.get('/keys', (req, res) => void res.json(Object.keys(req.session)))
  return request.agent(app)
}

const taken = async (agent: ReturnType<typeof appWithFlash>, type: string): Promise<unknown> =>
  (await agent.get(`/take/${type}`)).body

test('messages are there for the next request that asks, in their order, by their types, and once', async () => {
  const agent = appWithFlash()
  for (const message of ['info/one', 'info/two', 'error/three']) await agent.get(`/add/${message}`).expect(302)
  expect(await taken(agent, 'info')).toEqual(['one', 'two'])
  expect(await taken(agent, 'info')).toEqual([])
  expect(await taken(agent, 'error')).toEqual(['three'])
  for (const type of ['toString', '__proto__']) {
    expect(await taken(agent, type)).toEqual([])
    await agent.get(`/add/${type}/four`)
    expect(await taken(agent, type)).toEqual(['four'])
  }
})

test('of many added and taken at the same time, none is lost and none is given twice', async () => {
  const agent = appWithFlash()
  await agent.get('/add/info/0')
  await Promise.all(Array.from({ length: 19 }, (_, n) => agent.get(`/add/info/${n + 1}`)))
  const all = await Promise.all(Array.from({ length: 10 }, () => taken(agent, 'info')))
  expect((all.flat() as string[]).map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, n) => n))
})

test('side by side with connect-flash, and no name is taken from the data', async () => {
  const agent = appWithFlash()
  await agent.get('/other/theirs')
  await agent.get('/add/info/ours')
  expect((await agent.get('/keys')).body).toEqual(['cookie', 'flash'])
  expect(await taken(agent, 'info')).toEqual(['ours'])
  expect((await agent.get('/other')).body).toEqual(['theirs'])
  expect(await taken(agent, 'info')).toEqual([])
})

test('who is given no message is given no session for that, and who has one writes nothing', async () => {
  const store = new session.MemoryStore()
  const sessions = session({ secret: 'a secret that is long enough', resave: false, saveUninitialized: false, store })
  const app = express()
  app.use(sessions)
  app.get('/', async (req, res) => void res.json(await sessions.flash(req).take('info')))
  app.get('/login', (req, res) => {
    Object.assign(req.session, { user: 'ada' })
    res.end()
  })
  const agent = request.agent(app)
  const first = await agent.get('/')
  expect(first.body).toEqual([])
  expect(first.get('Set-Cookie')).toBeUndefined()
  expect(Object.keys(store.sessions)).toEqual([])
  await agent.get('/login')
  let writes = 0
  sessions.events.on('saved', () => writes++)
  await agent.get('/').expect([])
  expect(writes).toBe(0)
})

test('on a classic store it leaves alone what the handler has changed and not saved yet', async () => {
  const sessions = session({
    secret: 'a secret that is long enough for these tests',
    resave: false,
    saveUninitialized: false,
    store: classicStore(session as never),
  })
  const app = express()
  app.use(sessions)
  app.get('/set/:key', async (req, res) => {
    Object.assign(req.session, { [req.params.key]: true })
    await sessions.flash(req).add('info', req.params.key)
    res.send('set')
  })
  app.get('/', async (req, res) => {
    const { one, two } = req.session as { one?: true; two?: true }
    res.json({ one, two, flash: await sessions.flash(req).take('info') })
  })
  const agent = request.agent(app)
  await agent.get('/set/one')
  await agent.get('/set/two')
  expect((await agent.get('/')).body).toEqual({ one: true, two: true, flash: ['one', 'two'] })
})

test('after destroy there is nothing for a message to go into, which is said; after regenerate there is', async () => {
  const sessions = session('a secret that is long enough for these tests')
  const app = express()
  app.use(sessions)
  const logout = caught(async (req, res) => {
    await (req.params.how === 'destroy' ? req.session.destroy() : req.session.regenerate())
    expect(await sessions.flash(req).take('info')).toEqual([])
    await sessions.flash(req).add('info', 'You are logged out')
    res.send('out')
  })
  app.get('/logout/:how', logout)
  app.get('/take', async (req, res) => void res.json(await sessions.flash(req).take('info')))
  app.use(((error: Error & { code?: string }, _req, res, _next) => {
    void res.status(500).send(`${error.code}: ${error.message}`)
  }) as express.ErrorRequestHandler)
  const agent = request.agent(app)
  await agent.get('/logout/destroy').expect(500, /^ERR_SESSION_MISSING: .*req\.session\.regenerate\(\)/)
  await agent.get('/logout/regenerate').expect(200)
  expect((await agent.get('/take')).body).toEqual(['You are logged out'])
})
