// @module-tag slow
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SECRET } from '../support/app'
import { signedCookie } from '../support/set-cookie'
import { describeWith, until } from '../support/servers'
import { appOver, idOf, sessile, start, stores, told, type Opened } from './cli'

const KEY = Buffer.from('a key of thirty-two bytes, for it').subarray(0, 32).toString('base64')
const HASH = 'a key for hashing, of thirty-two bytes and more'

/** Every command, as an operator uses them one after the other. */
function commands(open: () => Promise<Opened>): void {
  let opened: Opened
  let app: ReturnType<typeof appOver>
  const cookies: string[] = []
  const run = (...args: string[]) => sessile([...args, ...told(opened)], { SESSION_SECRET: SECRET })
  const parsed = async (...args: string[]) => JSON.parse((await run(...args, '--json')).stdout)

  beforeAll(async () => {
    opened = await open()
    app = appOver(opened.store)
    for (const user of ['ada', 'ada', 'bob']) cookies.push(await app.login(user))
  })
  afterAll(() => opened.close())

  const short = (n: number): string => `${idOf(cookies[n] as string).slice(0, 12)}…`

  test('count says how many there are, and how many are signed in', async () => {
    expect(await run('count')).toEqual({ code: 0, stdout: '3 sessions\n', stderr: '' })
    expect((await run('count', '--users')).stdout).toBe('3 sessions; 3 are signed in, of 2 users\n')
    expect(await parsed('count')).toEqual({ sessions: 3 })
    expect(await parsed('count', '--users')).toEqual({ sessions: 3, signedIn: 3, unreadable: 0, users: 2 })
  })

  test('list shows whose they are and when they end, and never a whole ID', async () => {
    const { code, stdout } = await run('list')
    expect(code).toBe(0)
    expect(stdout.split('\n')[0]).toMatch(/^session +user +made +ends +size$/)
    for (const n of [0, 1, 2]) {
      expect(stdout).toContain(short(n))
      expect(stdout).not.toContain(idOf(cookies[n] as string))
    }
    expect(stdout).toMatch(/ada +\d+ s ago +in 1 h +\d+ B/)
    expect((await run('list', '--limit', '2')).stdout).toContain('… and 1 more')
    const { total, sessions } = await parsed('list', '--user', 'ada')
    expect(total).toBe(2)
    expect(sessions.map(({ session }: any) => session).sort()).toEqual([short(0), short(1)].sort())
    expect(Date.parse(sessions[0].expires) - Date.now()).toBeGreaterThan(3_500_000)
    expect((await run('list', '--user', 'eve')).stdout).toContain('no sessions of eve')
  })

  test('show finds one by its ID, its beginning, and a cookie; data is shown when it is asked for', async () => {
    const cookie = cookies[2] as string
    for (const given of [idOf(cookie), short(2), cookie, cookie.slice(cookie.indexOf('=') + 1)]) {
      const { code, stdout } = await run('show', given)
      expect(code, given).toBe(0)
      expect(stdout).toMatch(/^user +bob$/m)
      expect(stdout).not.toContain('"user"')
      expect(stdout).not.toContain(idOf(cookie))
    }
    expect(await run('show', '--data', cookie)).toMatchObject({ stdout: expect.stringContaining('"user": "bob"') })
    expect(await parsed('show', cookie)).toMatchObject({ user: 'bob', signed: true, token: 'present' })
    expect(await parsed('show', cookie)).not.toHaveProperty('data')
    expect((await parsed('show', cookie, '--data')).data).toEqual({ user: 'bob' })
  })

  test('show tells why a user is logged out: a bad signature, an old token, or no session', async () => {
    const forged = signedCookie(idOf(cookies[2] as string), 'another secret, that nobody has')
    expect(await run('show', forged)).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('NOT by SESSION_SECRET'),
    })
    const before = cookies[1] as string
    await app.ask('/renew', before)
    expect(await run('show', before)).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('NOT good: it was replaced'),
    })
    expect(await run('show', 'an-ID-that-nobody-has')).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/^sessile: there is no session an-ID-that-n….*\n$/),
    })
  })

  test('end says what it would do, and does it with --yes', async () => {
    const cookie = cookies[2] as string
    expect((await run('end', short(2))).stdout).toContain('1 would be ended: do it with --yes.')
    expect(await app.ask('/me', cookie)).toBe('bob')
    expect(await run('end', short(2), '--yes')).toMatchObject({ code: 0, stdout: expect.stringContaining('1 ended.') })
    expect(await app.ask('/me', cookie)).toBe('nobody')
    expect(await opened.store.linked?.('bob')).toEqual([])
    expect(await run('end', short(2), '--yes')).toMatchObject({ code: 2, stdout: '' })
  })

  test('end-user says what it would do, and does it with --yes', async () => {
    const others = await app.login('eve')
    expect(await parsed('end-user', 'ada')).toMatchObject({ dryRun: true, ended: 0, sessions: [{}, {}] })
    expect(await app.ask('/me', cookies[0] as string)).toBe('ada')
    expect(await parsed('end-user', 'ada', '--yes')).toMatchObject({ dryRun: false, ended: 2 })
    expect(await app.ask('/me', cookies[0] as string)).toBe('nobody')
    expect(await app.ask('/me', others)).toBe('eve')
    expect((await run('end-user', 'ada', '--yes')).stdout).toContain('There are no sessions of ada')
  })

  test('index enters those of before the option user, once, and keeps their ends', async () => {
    const old = appOver(opened.store, { user: undefined })
    const cookie = await old.login('carol')
    const before = await opened.store.read(idOf(cookie))
    expect(await app.sessions.users.list('carol')).toEqual([])
    expect((await run('list', '--user', 'carol')).stdout).toContain('--user-key')
    expect((await parsed('list', '--user', 'carol', '--user-key', 'user')).total).toBe(1)
    expect(await parsed('index', '--user-key', 'user')).toEqual({ inIndex: 2, noted: 1, unreadable: 0 })
    expect(await app.sessions.users.list('carol')).toHaveLength(1)
    const after = await opened.store.read(idOf(cookie))
    expect(Math.abs((after?.expires ?? 0) - (before?.expires ?? 0))).toBeLessThan(1500)
    // With a path that leads nowhere nobody is taken out.
    expect(await parsed('index', '--user-key', 'usr')).toEqual({ inIndex: 2, noted: 0, unreadable: 0 })
    expect(await app.ask('/me', cookie)).toBe('carol')
    expect(await app.sessions.users.endAll('carol')).toBe(1)
    expect(await app.ask('/me', cookie)).toBe('nobody')
  })

  test('doctor finds nothing wrong with it, and leaves nothing behind', async () => {
    const before = await opened.store.length()
    const { code, stdout } = await run('doctor')
    expect(stdout).toContain('All is well.')
    expect(code).toBe(0)
    expect(await opened.store.length()).toBe(before)
  })
}

describeWith('redis', 'on Redis', () => commands(stores.redis))
describeWith('postgres', 'on PostgreSQL', () => commands(stores.postgres))
describeWith('mysql', 'on MariaDB', () => commands(stores.mysql))
describe('on SQLite', () => commands(stores.sqlite))

describe('sessions that are encrypted, under hashes of their IDs,', () => {
  const sealing = { encryption: KEY, hashIds: { key: HASH } }
  let opened: Opened
  beforeAll(async () => void (opened = await stores.sqlite()))
  afterAll(() => opened.close())

  test('need the keys to be read, and none to be ended', async () => {
    const env = { SESSILE_ENCRYPTION: KEY, SESSILE_HASH_IDS: HASH, SESSION_SECRET: SECRET }
    const sealed = appOver(opened.store, sealing)
    const cookie = await sealed.login('dan')
    const show = (env: NodeJS.ProcessEnv) => sessile(['show', cookie, '--data', ...told(opened)], env)
    expect((await show(env)).stdout).toContain('"user": "dan"')
    expect((await show({ SESSILE_HASH_IDS: HASH })).stdout).toContain('it is encrypted: set SESSILE_ENCRYPTION')
    expect(await show({ SESSILE_ENCRYPTION: KEY })).toMatchObject({ code: 2 })
    const listed = await sessile(['list', '--user', 'dan', ...told(opened)])
    expect(listed.stdout).toMatch(/^h1\.\S{9}… +dan /m)
    expect(await sessile(['count', '--users', ...told(opened)])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('SESSILE_ENCRYPTION'),
    })
    expect(await sessile(['end-user', 'dan', '--yes', ...told(opened)])).toMatchObject({
      stdout: expect.stringContaining('1 ended.'),
    })
    expect(await sealed.ask('/me', cookie)).toBe('nobody')
  })

  test('are entered in the index, and stay encrypted', async () => {
    const old = appOver(opened.store, { ...sealing, user: undefined })
    const cookie = await old.login('fay')
    const args = ['index', '--user-key', 'user', ...told(opened)]
    expect(await sessile(args)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('1 sessions could not be read'),
    })
    expect(await sessile(args, { SESSILE_ENCRYPTION: KEY })).toMatchObject({ code: 0 })
    const [key] = (await opened.store.linked?.('fay')) ?? []
    expect((await opened.store.read(key as string))?.text).toContain('"sealed"')
    const { sessions, ask } = appOver(opened.store, sealing)
    expect(await ask('/me', cookie)).toBe('fay')
    expect(await sessions.users.endAll('fay')).toBe(1)
  })
})

describe('index and count', () => {
  test('killed in the middle lose nothing, and come to the end when they are run again', async () => {
    const opened = await stores.sqlite()
    const SESSIONS = 1000
    const end = Date.now() + 3_600_000
    const ids = Array.from({ length: SESSIONS }, (_, n) => `session-${n}`)
    for (const id of ids) {
      await opened.store.write(id, JSON.stringify({ cookie: {}, user: 'ada', id }), end, 'absent')
    }
    const isNoted = async (id: string) => (await opened.store.read(id))?.text.includes('"sessile"')
    const args = ['--user-key', 'user', '--json', ...told(opened)]
    const { process, ended } = start(['index', ...args])
    await until(() => isNoted('session-0'))
    process.kill('SIGKILL')
    await ended
    expect(await isNoted('session-999')).toBe(false)
    const counting = start(['count', '--users', ...args])
    counting.process.kill('SIGKILL')
    await counting.ended

    const { inIndex, noted } = JSON.parse((await sessile(['index', ...args])).stdout)
    expect(inIndex).toBe(SESSIONS)
    expect(noted).toBeGreaterThan(0)
    expect(noted).toBeLessThan(SESSIONS)
    expect(await opened.store.linked?.('ada')).toHaveLength(SESSIONS)
    for (const id of ids) {
      const { text = '', expires } = (await opened.store.read(id)) ?? {}
      expect(JSON.parse(text)).toMatchObject({ user: 'ada', id, cookie: { sessile: { user: 'ada' } } })
      expect(expires).toBe(end)
    }
    expect(JSON.parse((await sessile(['count', '--users', ...args])).stdout)).toMatchObject({
      signedIn: SESSIONS,
      users: 1,
    })
    await opened.close()
  })
})
