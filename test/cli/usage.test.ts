// @module-tag slow
import { execFileSync, spawnSync } from 'node:child_process'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { describeWith, describeWithProgram, freePort } from '../support/servers'
import { temporaryFolder } from '../support/sqlite'
import { between, COMMAND, sessile, stores, told } from './cli'

/** One line that tells what is wrong, nothing else, and the code for what could not be done. */
async function refuses(args: string[], message: RegExp): Promise<void> {
  const { code, stdout, stderr } = await sessile(args)
  expect({ code, stdout, stderr }).toEqual({ code: 2, stdout: '', stderr: expect.stringMatching(message) })
  expect(stderr).not.toContain('    at ')
  expect(stderr).not.toContain('the password')
}

describe('the command line refuses, in a line and with the code 2,', () => {
  test.each([
    [['lits'], /^error: unknown command 'lits'\n\(Did you mean list\?\)\n/],
    [['list', '--frob', '-s', 'x.db'], /^error: unknown option '--frob'\n/],
    [['list'], /^sessile: which store\? Give --store, or set SESSILE_STORE\n$/],
    [['move', '--to', 'x.db'], /^error: required option '--from <url>' not specified\n/],
    [['list', '--from', 'x.db'], /^sessile: during a move, give both --from and --to\n$/],
    [
      ['list', '--from', 'x.db', '--to', 'y.db', '-s', 'z.db'],
      /^sessile: which store\? Give --store or, during a move, --from and --to\n$/,
    ],
    [
      ['list', '--from', 'x.db', '--to', 'y.db', '--table', 't'],
      /^sessile: --table goes with --store; give --from-table or --to-table\n$/,
    ],
    [['list', '-s', 'x.db', '--limit', 'many'], /^error: option '--limit <count>' argument 'many' is invalid/],
    [['show', '-s', 'x.db'], /^error: missing required argument 'session'\n/],
    [['list', '-s', 'ftp://127.0.0.1'], /^sessile: no store has URLs of ftp:\/\/; there are redis, .*\n$/],
    [['list', '-s', 'redis://:the password@@::'], /^sessile: the store's URL cannot be parsed.*\n$/],
    [['list', '-s', 'redis://127.0.0.1', '--table', 'x'], /^sessile: redis takes --prefix, not --table\n$/],
    [['list', '-s', 'x.db', '--prefix', 'x'], /^sessile: file takes --table, not --prefix\n$/],
    [['list', '-s', '/no/such/file.db'], /^sessile: there is no file \/no\/such\/file\.db\n$/],
    [['list', '-s', COMMAND], /^sessile: cannot open .*index\.js: file is not a database\n$/],
  ])('%j', (args, message) => refuses(args, message))

  test.each(['redis', 'postgres', 'mysql'])('a %s where nobody listens', async (scheme) => {
    const port = await freePort()
    const url = `${scheme}://root:the%20password@127.0.0.1:${port}/0`
    await refuses(
      ['list', '-s', url],
      new RegExp(`^sessile: cannot open ${scheme}://root@127.0.0.1:${port}/0: .*ECONNREFUSED.*\n$`),
    )
  })

  test('a server that cuts the connection', async () => {
    const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    for (const scheme of ['redis', 'postgres', 'mysql']) {
      await refuses(['list', '-s', `${scheme}://127.0.0.1:${port}/test`], /^sessile: cannot open .*\n$/)
    }
    server.close()
  })
})

describe('the examples', () => {
  test('of the help and of the page are understood word for word', async () => {
    const opened = await stores.sqlite()
    const page = readFileSync(path.join(__dirname, '../../docs/command-line.md'), 'utf8')
    const text = (await sessile(['--help'])).stdout + page
    const lines = [...text.matchAll(/^ *(?:\$ )?npx (sessile .*)$/gm)].map(({ 1: line = '' }) => line)
    expect(lines.length).toBeGreaterThan(8)
    for (const line of new Set(lines.filter((line) => !line.includes('://')))) {
      const command = line.replace('sessile', `"${process.execPath}" "${COMMAND}"`)
      const env = { ...process.env, SESSILE_STORE: opened.url }
      const { stdout, stderr } = spawnSync('sh', ['-c', `${command} --table ${opened.option[1]}`], {
        encoding: 'utf8',
        env,
      })
      expect(stdout + stderr, line).toMatch(
        /^(0 sessions; 0 are signed in|There are no sessions of ada|.*no session 3fWq81hTzK0a)/,
      )
    }
    await opened.close()
  })
})

describeWith('postgres', 'a table that is not there', () => {
  test.each(['postgres://postgres@127.0.0.1/test', 'mysql://root@127.0.0.1/test'])('%s', async (url) => {
    for (const command of [['list'], ['count'], ['show', 'a'], ['end-user', 'ada', '--yes'], ['index']]) {
      await refuses(
        [...command, '-s', url, '--table', 'no_such_table'],
        /^sessile: a table is missing at .*: is --table right\?.*\n$/,
      )
    }
    const { code, stdout } = await sessile(['doctor', '-s', url, '--table', 'no_such_table'])
    expect(code).toBe(1)
    expect(stdout).toMatch(/^LOOK store: [^]*missing[^]*CREATE TABLE/m)
  })
})

describeWith('postgres', 'an app without the option user, and so without a table of users', () => {
  test('has all sessions of a user ended by where its data has the user', async () => {
    const opened = await stores.postgres()
    for (const [n, user] of ['ada', 'ada', 'bob', 'ada'].entries()) {
      const text = JSON.stringify({ cookie: {}, passport: { user } })
      await opened.store.write(`session-number-${n}`, text, Date.now() + 60_000, 'absent')
    }
    const run = (...args: string[]) => sessile([...args, '--user-key', 'passport.user', ...told(opened)])
    expect((await run('list', '--user', 'ada', '--json')).stdout).toContain('"total": 3')
    expect(await run('end-user', 'ada', '--yes')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('3 ended.'),
      stderr: '',
    })
    expect((await run('count', '--users')).stdout).toBe('1 sessions; 1 are signed in, of 1 users\n')
    await opened.close()
  })
})

describe('of a file without its table', () => {
  test('nothing is made', async () => {
    const opened = await stores.sqlite()
    await refuses(['list', '-s', opened.url, '--table', 'other'], /^sessile: there is no table other in .*\n$/)
    expect((await sessile(['count', ...told(opened)])).stdout).toBe('0 sessions\n')
    await opened.close()
  })
})

describe('sessions that visitors have shaped', () => {
  test('do nothing to the terminal, and IDs may begin like options', async () => {
    const opened = await stores.sqlite()
    const data = { cookie: {}, user: 'eve\u001b[2J\u202e', note: 'a\u009bb\u001b\n' }
    const id = '-nQy5VbZ0aBcDeFgHiJkLmNoPqRsTuVw'
    await opened.store.write(id, JSON.stringify(data), Date.now() + 60_000, 'absent')
    const run = async (...args: string[]) => (await sessile([...args, ...told(opened)])).stdout
    const shown = [
      await run('list', '--user-key', 'user'),
      await run('list', '--user-key', 'user', '--json'),
      await run('show', id, '--user-key', 'user', '--data'),
    ]
    // eslint-disable-next-line no-control-regex -- these must not be there
    for (const text of shown) expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/)
    expect(JSON.parse(await run('show', id, '--data', '--json'))).toMatchObject({ data: { note: data.note } })
    expect(await run('end', `${id.slice(0, 12)}…`, '--yes')).toContain('1 ended.')
    await opened.close()
  })

  test('go to a reader that has read enough', async () => {
    const opened = await stores.sqlite()
    for (let n = 0; n < 3000; n++) {
      const text = JSON.stringify({ cookie: {}, n })
      await opened.store.write(`session-number-${n}`, text, Date.now() + 60_000, 'absent')
    }
    const command = `"${process.execPath}" "${COMMAND}" list --limit 3000 ${told(opened).join(' ')} | head -1`
    const { stdout, stderr } = spawnSync('sh', ['-c', command], { encoding: 'utf8' })
    expect({ stdout, stderr }).toEqual({ stdout: expect.stringMatching(/^session +user.*\n$/), stderr: '' })
    await opened.close()
  })
})

describeWithProgram('script', 'bsdutils', 'on a terminal', () => {
  test('long work shows how far it has come', async () => {
    const [opened, few, to] = await Promise.all([stores.sqlite(), stores.sqlite(), stores.sqlite()])
    for (let n = 0; n < 2000; n++) {
      const { store } = n < 1900 ? opened : few
      await store.write(`session-number-${n}`, '{"cookie":{}}', Date.now() + 600_000, 'absent')
    }
    const onTerminal = (...args: string[]): string => {
      const command = [`"${process.execPath}"`, `"${COMMAND}"`, ...args].join(' ')
      const file = path.join(temporaryFolder(), 'typescript')
      return execFileSync('script', ['-qec', command, file], { encoding: 'utf8' })
    }
    const looking = /looking at sessions \[#* *\] \d+ %, [\d,]+ of 1,900/
    const counted = onTerminal('count', '--users', ...told(opened))
    expect(counted).toMatch(looking)
    expect(counted).toContain('1,900 sessions; 0 are signed in')
    expect(onTerminal('index', '--user-key', 'user', ...told(opened))).toMatch(looking)
    const moved = onTerminal('move', ...between(few, to), '--yes')
    expect(moved).toMatch(/moving \[#* *\] \d+ %, \d+ of 100/)
    expect(moved).toContain('100 sessions were moved.')
    await Promise.all([opened, few, to].map((one) => one.close()))
  })
})
