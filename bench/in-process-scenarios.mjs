import assert from 'node:assert/strict'
import { cookieHeader, idOf } from './sessions.mjs'

const LOGGED_IN = { id: 4711, name: 'Ada Lovelace', email: 'ada@example.com', roles: ['user', 'editor'] }

const read = (req, res, respond) => respond(res, req.session.user.name)

const write = (req, res, respond) => {
  req.session.views++
  respond(res, req.session.user.name)
}

const ignore = (req, res, respond) => respond(res, 'Ada Lovelace')

/** As an authentication check does it. */
const lookOnly = (req, res, respond) => {
  if (req.session.blocked) throw new Error('blocked')
  respond(res, 'Ada Lovelace')
}

const logIn = (req, res, respond) => {
  req.session.user = LOGGED_IN
  respond(res, req.session.user.name)
}

const logInByRegenerate = (req, res, respond) => {
  req.session.regenerate((error) => {
    if (error) throw error
    logIn(req, res, respond)
  })
}

const logOut = (req, res, respond) => {
  req.session.destroy((error) => {
    if (error) throw error
    respond(res, 'Ada Lovelace')
  })
}

const kept = async ({ get, id, views }) => {
  const before = await views(id)
  const response = await get(cookieHeader(id))
  assert.equal(response.headers['set-cookie'], undefined, 'no Set-Cookie for an unchanged expiry')
  assert.equal(await views(id), before, 'the session stays as it is')
}

const counted = async ({ get, id, views, sendsCookies }) => {
  const before = await views(id)
  const response = await get(cookieHeader(id))
  if (sendsCookies) assert.equal(idOf(response.headers['set-cookie']), id, 'a changed session renews its cookie')
  assert.equal(await views(id), before + 1, 'the write is stored')
}

const cookieRenewed = async ({ get, id }) => {
  const response = await get(cookieHeader(id))
  assert.equal(idOf(response.headers['set-cookie']), id)
}

const nothingStored = async ({ get, count }) => {
  const before = await count()
  const response = await get(undefined)
  assert.equal(response.headers['set-cookie'], undefined)
  assert.equal(await count(), before)
}

const loggedIn = async ({ get, stored }) => {
  const response = await get(undefined)
  assert.deepEqual((await stored(idOf(response.headers['set-cookie']))).user, LOGGED_IN)
}

const idReplaced = async ({ get, id, stored }) => {
  const response = await get(cookieHeader(id))
  const newId = idOf(response.headers['set-cookie'])
  assert.notEqual(newId, id)
  assert.ok(!(await stored(id)), 'the old session is gone')
  assert.deepEqual((await stored(newId)).user, LOGGED_IN)
}

const gone = async ({ get, id, stored }) => {
  await get(cookieHeader(id))
  assert.ok(!(await stored(id)), 'the session is gone')
}

/**
 * What the in-process benchmark measures.
 * - `handler` is the app; the bare app and the floor hand it a session of their own
 * - `verify` looks at one request's answer and at the store, before and after the measured rounds
 * - `floor`: the hand-written minimum exists for this one
 * - `usesUp`: a request ends its session, so that each needs one of its own
 * - `writes`: each request adds one to its session's counter, and the sum is checked at the end
 */
export const SCENARIOS = [
  { name: 'returning, reads, 200 B', size: 200, handler: read, verify: kept, floor: true, requests: 12_000 },
  {
    name: 'returning, reads, 200 B, 20,000 visitors',
    size: 200,
    handler: read,
    verify: kept,
    floor: true,
    requests: 20_000,
    sessions: 20_000,
  },
  {
    name: 'returning, writes, 200 B',
    size: 200,
    handler: write,
    verify: counted,
    floor: true,
    writes: true,
    requests: 12_000,
  },
  { name: 'returning, reads, 4.4 KB', size: 4400, handler: read, verify: kept, floor: true, requests: 4000 },
  {
    name: 'returning, writes, 4.4 KB',
    size: 4400,
    handler: write,
    verify: counted,
    floor: true,
    writes: true,
    requests: 4000,
  },
  {
    name: 'returning, reads, 64 KB',
    size: 64_000,
    handler: read,
    verify: kept,
    floor: true,
    requests: 400,
    sessions: 200,
  },
  {
    name: 'returning, writes, 64 KB',
    size: 64_000,
    handler: write,
    verify: counted,
    floor: true,
    writes: true,
    requests: 400,
    sessions: 200,
  },
  { name: 'returning, never looked at, 200 B', size: 200, handler: ignore, verify: kept, requests: 12_000 },
  { name: 'returning, never looked at, 4.4 KB', size: 4400, handler: ignore, verify: kept, requests: 6000 },
  {
    name: 'returning, rolling, 200 B',
    size: 200,
    handler: read,
    verify: cookieRenewed,
    rolling: true,
    requests: 12_000,
  },
  {
    name: 'new visitor, untouched',
    size: 200,
    handler: ignore,
    verify: nothingStored,
    newVisitor: true,
    requests: 20_000,
  },
  {
    name: 'new visitor, looked at, untouched',
    size: 200,
    handler: lookOnly,
    verify: nothingStored,
    newVisitor: true,
    requests: 20_000,
  },
  { name: 'new visitor, logs in', size: 200, handler: logIn, verify: loggedIn, newVisitor: true, requests: 10_000 },
  {
    name: 'login (regenerate)',
    size: 200,
    handler: logInByRegenerate,
    verify: idReplaced,
    usesUp: true,
    requests: 8000,
  },
  { name: 'logout (destroy)', size: 200, handler: logOut, verify: gone, usesUp: true, requests: 8000 },
]
