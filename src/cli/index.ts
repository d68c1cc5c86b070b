#!/usr/bin/env node
import { createRequire } from 'node:module'
import { Command, InvalidArgumentError, Option } from 'commander'
import { move } from '../stores/move'
import { examineSecrets, examineStore, examineUrl, type Finding } from './doctor'
import { openStore, UsageError, type OpenedStore, type StoreOptions } from './open-store'
import { fromNow, json, number, print, Progress, short, size, table } from './print'
import { secretsOf, StoredSessions, type Stored } from './sessions'

interface Common extends StoreOptions {
  store: string
  userKey?: string
  json?: boolean
}

const { version } = createRequire(__filename)('../../package.json') as { version: string }

const program = new Command('sessile')
  .description(
    'Looks at, ends and moves the sessions of a store. What destroys only says what it would do, until --yes.',
  )
  .version(version)
  .showHelpAfterError()
  .addHelpText(
    'after',
    `
Stores:
  redis://host:6379 | rediss://…     --prefix sess:
  postgres://user@host/database      --table session
  mysql://user@host/database         --table sessions
  dynamodb://sessions                region and credentials as in the AWS CLI
  sessions.db                        a file of SQLite

Environment:
  SESSILE_STORE        in place of --store, so that a password is in no list of processes
  SESSILE_ENCRYPTION   the option encryption: keys, separated by commas
  SESSILE_HASH_IDS     the option hashIds: true, or the key

Examples:
  $ export SESSILE_STORE=redis://127.0.0.1
  $ npx sessile count --users
  $ npx sessile list --user ada
  $ npx sessile show 3fWq81hTzK0a
  $ npx sessile end-user ada --yes
  $ npx sessile doctor --url https://example.com/login`,
  )

function command(name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .addOption(
      new Option('-s, --store <url>', 'the store: a URL, or a file of SQLite')
        .env('SESSILE_STORE')
        .makeOptionMandatory(),
    )
    .option('--prefix <prefix>', 'what keys begin with, of Redis and DynamoDB')
    .option('--table <name>', 'the table, of a database')
    .option('--json', 'prints JSON')
}

const userKey = [
  '--user-key <path>',
  "where a session's data has its user, such as passport.user, if the app lacks the option user",
] as const
const yes = ['--yes', 'does it, and not only says what it would do'] as const

command('list', 'lists sessions, those that end first at the top')
  .option('--user <user>', 'only those of a user')
  .option(...userKey)
  .option('--limit <count>', 'how many', positive, 50)
  .action(
    run(async (opened, options: Common & { user?: string; limit: number }) => {
      const sessions = sessionsOf(opened, options)
      const found: Stored[] = []
      let total = 0
      const progress = new Progress('looking at sessions', undefined)
      for await (const stored of options.user === undefined ? sessions.all() : await sessions.of(options.user)) {
        progress.at(++total)
        found.push(stored)
        if (found.length > 2 * options.limit) endFirst(found, options.limit)
      }
      progress.end()
      endFirst(found, options.limit)
      if (options.json) return json(found.map((stored) => described(stored)))
      if (total === 0)
        return print(
          `There are no sessions${options.user === undefined ? '' : ` of ${options.user}${unindexed(options)}`}.`,
        )
      print(table(['session', 'user', 'made', 'ends', 'size'], found.map(row)))
      if (total > found.length) print(`… and ${number(total - found.length)} more: --limit`)
    }),
  )

command('show <session>', 'shows a session, by its ID, its beginning as it is listed, or the value of a cookie')
  .option(...userKey)
  .option('--data', 'its data, too')
  .action(
    run(async (opened, options: Common & { data?: boolean }, given: string) => {
      const stored = await found(sessionsOf(opened, options), given)
      if (options.json) return json(described(stored, options.data))
      const { notes, record, unreadable } = stored
      const time = (at: number | undefined): string =>
        at === undefined ? 'not noted' : `${new Date(at).toISOString()} (${fromNow(at)})`
      const rows = [
        ['session', short(stored.key)],
        ['user', stored.user ?? 'none'],
        ['made', time(notes.created)],
        ['signed in', time(notes.login)],
        ['last seen', time(notes.seen)],
        ['new token', time(notes.renewed)],
        ['ends', time(record.expires)],
        ['size', size(Buffer.byteLength(record.text))],
        ...(unreadable === undefined ? [] : [['data', unreadable]]),
      ]
      print(table(['', ''], rows).trimStart())
      if (options.data && unreadable === undefined) json(dataOf(stored))
    }),
  )

command('end <sessions...>', 'ends sessions')
  .option(...userKey)
  .option(...yes)
  .action(
    run(async (opened, options: Common & { yes?: boolean }, given: string[]) => {
      const sessions = sessionsOf(opened, options)
      const all = await Promise.all(given.map((one) => found(sessions, one)))
      await endAll(sessions, all, options)
    }),
  )

command('end-user <user>', 'ends all sessions of a user')
  .option(...userKey)
  .option(...yes)
  .action(
    run(async (opened, options: Common & { yes?: boolean }, user: string) => {
      const sessions = sessionsOf(opened, options)
      const all = await sessions.of(user)
      if (all.length === 0 && !options.json) return print(`There are no sessions of ${user}${unindexed(options)}.`)
      await endAll(sessions, all, options)
    }),
  )

command('count', 'counts sessions')
  .option('--users', 'looks at each: how many are signed in, and how many users that are')
  .option(...userKey)
  .action(
    run(async (opened, options: Common & { users?: boolean }) => {
      const sessions = (await opened.store.length()) ?? 0
      if (!options.users) return options.json ? json({ sessions }) : print(`${number(sessions)} sessions`)
      const users = new Set<string>()
      let looked = 0
      let signedIn = 0
      const progress = new Progress('looking at sessions', sessions)
      for await (const { user } of sessionsOf(opened, options).all()) {
        progress.at(++looked)
        if (user === undefined) continue
        signedIn++
        users.add(user)
      }
      progress.end()
      if (options.json) return json({ sessions: looked, signedIn, users: users.size })
      print(`${number(looked)} sessions; ${number(signedIn)} are signed in, of ${number(users.size)} users`)
    }),
  )

command('index', "enters sessions in the index of users' sessions that were made before the app had the option user")
  .requiredOption(...userKey)
  .action(
    run(async (opened, options: Common) => {
      const progress = new Progress('looking at sessions', await opened.store.length())
      const entered = await sessionsOf(opened, options)
        .api()
        .users.index((count) => progress.at(count))
      progress.end()
      if (options.json) return json({ entered })
      print(`${number(entered)} sessions are in the index now that were not.`)
    }, true),
  )

program
  .command('move')
  .description('moves all sessions to another store, while the app runs on new MovingStore({ from, to })')
  .requiredOption('--from <url>', 'the store that is given up')
  .requiredOption('--to <url>', 'the store that takes its place')
  .option('--from-prefix <prefix>', 'what its keys begin with')
  .option('--from-table <name>', 'its table')
  .option('--to-prefix <prefix>', 'what the keys of the other one begin with')
  .option('--to-table <name>', "the other one's table")
  .option('--json', 'prints JSON')
  .option(...yes)
  .action(guarded(moveAll))

interface MoveOptions {
  from: string
  to: string
  fromPrefix?: string
  fromTable?: string
  toPrefix?: string
  toTable?: string
  json?: boolean
  yes?: boolean
}

async function moveAll(options: MoveOptions): Promise<void> {
  const from = await openStore(options.from, { prefix: options.fromPrefix, table: options.fromTable })
  let to: OpenedStore | undefined
  try {
    const total = (await from.store.length()) ?? 0
    if (!options.yes) {
      if (options.json) return json({ sessions: total, dryRun: true })
      print(`${number(total)} sessions of ${from.name} would be moved.`)
      return print('Let every process of the app have a MovingStore of both first; then run this again with --yes.')
    }
    to = await openStore(options.to, { prefix: options.toPrefix, table: options.toTable, create: true })
    const stop = new AbortController()
    process.once('SIGINT', () => stop.abort())
    const sessions = new StoredSessions(from.store, secretsOf(process.env), undefined)
    const progress = new Progress('moving', total)
    const failures: string[] = []
    const result = await move(from.store, to.store, {
      signal: stop.signal,
      onProgress: (count) => progress.at(count),
      onFailure: (id, error) => failures.push(`${short(id)} stays where it is: ${String(error)}`),
      userOf: (id, record) => sessions.stored(id, record).user,
    }).finally(() => progress.end())
    for (const failure of failures) console.error(`sessile: ${failure}`)
    if (failures.length > 0) process.exitCode = 1
    if (options.json) return json(result)
    print(
      `${number(result.moved)} sessions were moved${result.replaced ? `; ${number(result.replaced)} were there already` : ''}.`,
    )
    print(`${from.name} has ${number((await from.store.length()) ?? 0)} sessions left.`)
  } catch (error) {
    if ((error as Error).name !== 'AbortError') throw error
    process.exitCode = 130
    print('Stopped. Nothing is lost: run it again to go on.')
  } finally {
    await from.close()
    await to?.close()
  }
}

command('doctor', 'looks for what is wrong with a set-up, and says what to do')
  .option('--url <url>', 'an address of the running app that begins a session, to look at its cookie')
  .option('--cookie <name>', 'the name of the session cookie, if it is not found by its value')
  .action(
    run(async (opened, options: Common & { url?: string; cookie?: string }) => {
      const findings: Finding[] = [
        ...(await examineStore(opened)),
        ...examineSecrets(secretsOf(process.env), process.env),
        ...(options.url === undefined ? [] : await examineUrl(options.url, options.cookie)),
      ]
      const problems = findings.filter(({ problem }) => problem !== undefined)
      if (problems.length > 0) process.exitCode = 1
      if (options.json) return json(findings)
      for (const { about, what, problem } of findings) {
        print(`${problem === undefined ? 'ok  ' : 'LOOK'} ${about}: ${what}`)
        if (problem !== undefined) print(`       ${problem.replaceAll('\n', '\n       ')}`)
      }
      print(problems.length === 0 ? 'All is well.' : `${problems.length} of ${findings.length} points need a look.`)
    }),
  )

/** Opens the store for a command, and closes it after. */
function run<Options extends Common>(
  action: (opened: OpenedStore, options: Options, given: never) => Promise<void>,
  create = false,
): (...args: unknown[]) => Promise<void> {
  return guarded(async (...args: unknown[]) => {
    // Commander passes arguments, options, and the command itself.
    const options = args.at(-2) as Options
    const opened = await openStore(options.store, { ...options, create })
    try {
      await action(opened, options, args[0] as never)
    } finally {
      await opened.close()
    }
  })
}

function guarded<Args extends unknown[]>(action: (...args: Args) => Promise<void>): (...args: Args) => Promise<void> {
  return async (...args) => {
    try {
      await action(...args)
    } catch (error) {
      process.exitCode = 1
      const { message, code } = error as { message?: string; code?: string }
      console.error(`sessile: ${message || code || String(error)}`)
    }
  }
}

function sessionsOf(opened: OpenedStore, { userKey }: Common): StoredSessions {
  return new StoredSessions(opened.store, secretsOf(process.env), userKey)
}

async function found(sessions: StoredSessions, given: string): Promise<Stored> {
  const stored = await sessions.find(given)
  if (stored) return stored
  throw new UsageError(
    `there is no session ${short(given)}: it has ended or was destroyed, or it is under another prefix, table or hash`,
  )
}

async function endAll(
  sessions: StoredSessions,
  all: Stored[],
  { yes: isMeant, json: asJson }: Common & { yes?: boolean },
): Promise<void> {
  const ended: Stored[] = []
  if (isMeant) for (const stored of all) if (await sessions.end(stored)) ended.push(stored)
  if (asJson) return json({ dryRun: !isMeant, sessions: (isMeant ? ended : all).map((stored) => described(stored)) })
  print(table(['session', 'user', 'made', 'ends', 'size'], (isMeant ? ended : all).map(row)))
  print(isMeant ? `${number(ended.length)} ended.` : `${number(all.length)} would be ended: do it with --yes.`)
}

function row({ key, user, notes, record }: Stored): string[] {
  const made = notes.created === undefined ? '' : fromNow(notes.created)
  return [short(key), user ?? '', made, fromNow(record.expires), size(Buffer.byteLength(record.text))]
}

function described(stored: Stored, withData = false): object {
  const { key, user, notes, record, unreadable } = stored
  const time = (at: number | undefined): string | undefined =>
    at === undefined ? undefined : new Date(at).toISOString()
  return {
    session: short(key),
    user,
    created: time(notes.created),
    login: time(notes.login),
    seen: time(notes.seen),
    renewed: time(notes.renewed),
    expires: time(record.expires),
    bytes: Buffer.byteLength(record.text),
    unreadable,
    ...(withData && { data: dataOf(stored) }),
  }
}

/** Without the cookie, where the library has its own notes: hashes of tokens are nobody's business. */
function dataOf({ data: { cookie, ...data } }: Stored): object {
  return data
}

function endFirst(found: Stored[], limit: number): void {
  found.sort((a, b) => a.record.expires - b.record.expires).splice(limit)
}

function unindexed({ userKey }: Common): string {
  return userKey === undefined ? ' in the index; sessions that it does not have are found with --user-key' : ''
}

function positive(text: string): number {
  const count = Number(text)
  if (Number.isInteger(count) && count > 0) return count
  throw new InvalidArgumentError('It must be a whole number of at least 1.')
}

void program.parseAsync()
