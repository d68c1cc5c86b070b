#!/usr/bin/env node
import { createRequire } from 'node:module'
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { worthOf, type Worth } from '../request/tokens'
import { examine } from './doctor'
import { moveSessions } from './move'
import {
  isTableMissing,
  messageOf,
  openMoving,
  openStore,
  UsageError,
  type BothOptions,
  type OpenedStore,
  type StoreOptions,
} from './open-store'
import { fromNow, json, number, print, short, size, table } from './print'
import { parseGiven, secretsIn, StoredSessions, type Given, type Stored } from './sessions'

interface Common extends StoreOptions, Partial<BothOptions> {
  store?: string
  userKey?: string
  json?: boolean
}

/** What was asked for could be done, and there is something to look at; it could not be done. */
const FOUND_WRONG = 1
const FAILED = 2

const secrets = secretsIn(process.env)
const { version } = createRequire(__filename)('../../package.json') as { version: string }

const program = new Command('sessile')
  .description(
    'Looks at, ends and moves the sessions of a store. What destroys only says what it would do, until --yes.',
  )
  .version(version)
  .showHelpAfterError('sessile --help says more')
  .exitOverride()
  .addHelpText(
    'after',
    `
Stores:
  redis://host:6379 | rediss://…     with --prefix, else sess:
  postgres://user@host/database      with --table, else session
  mysql://user@host/database         with --table, else sessions
  sessions.db, a file of SQLite      with --table, else sessions
  dynamodb://sessions                with --prefix, else sess:; region and credentials as of the AWS CLI

Environment:
  SESSILE_STORE        in place of --store, so that a password is in no list of processes
  SESSILE_FROM, _TO    in place of --from and --to; these go before SESSILE_STORE
  SESSILE_ENCRYPTION   the option encryption: keys in base64 or hex, separated by commas
  SESSILE_HASH_IDS     the option hashIds: true, or the key
  SESSION_SECRET       the secret, for show and doctor to check signatures

Exit codes: ${FOUND_WRONG} if something is wrong with what was looked at, ${FAILED} if it could not be done, 130 if it was stopped.

Examples:
  $ export SESSILE_STORE=redis://127.0.0.1
  $ npx sessile count --users
  $ npx sessile list --user ada
  $ npx sessile show 's%3A3fWq81hTzK0a…'
  $ npx sessile end-user ada --yes
  $ npx sessile doctor --url https://example.com/login`,
  )

/** A command on one store. */
function command(name: string, description: string): Command {
  return program
    .command(name)
    .description(description)
    .addOption(new Option('-s, --store <url>', 'the store: a URL, or a file of SQLite').env('SESSILE_STORE'))
    .option('--prefix <prefix>', 'what keys begin with, of Redis and DynamoDB')
    .option('--table <name>', 'the table, of a database; in PostgreSQL also schema.table')
    .option('--json', 'prints JSON')
}

/** A command on one store or, during a move, on both. */
function commandOnBoth(name: string, description: string): Command {
  return withBoth(command(name, description), 'during a move, in place of --store: ')
}

function withBoth(command: Command, when = ''): Command {
  const isNeeded = when === ''
  const one = (flags: string, what: string, env: string): Option =>
    new Option(flags, when + what).env(env).makeOptionMandatory(isNeeded)
  return command
    .addOption(one('--from <url>', 'the store that is given up', 'SESSILE_FROM'))
    .addOption(one('--to <url>', 'the store that takes its place', 'SESSILE_TO'))
    .option('--from-prefix <prefix>', 'what the keys of --from begin with')
    .option('--from-table <name>', 'the table of --from')
    .option('--to-prefix <prefix>', 'what the keys of --to begin with')
    .option('--to-table <name>', 'the table of --to')
}

const userKey = [
  '--user-key <path>',
  "where a session's data has its user, such as passport.user, if the app lacks the option user",
] as const
const yes = ['--yes', 'does it, and not only says what it would do'] as const

commandOnBoth('list', 'lists sessions, those that end first at the top')
  .option('--user <user>', 'only those of a user')
  .option(...userKey)
  .option('--limit <count>', 'how many', positive, 50)
  .action(
    run(async (opened, options: Common & { user?: string; limit: number }) => {
      const { user, limit } = options
      const sessions = sessionsOf(opened, options)
      const found: Stored[] = []
      let total = 0
      for await (const stored of user === undefined ? sessions.all() : await sessions.of(user)) {
        total++
        found.push(stored)
        if (found.length > 2 * limit) keepFirstToEnd(found, limit)
      }
      keepFirstToEnd(found, limit)
      if (options.json) return json({ total, sessions: found.map((stored) => described(stored)) })
      if (total === 0) return print(user === undefined ? 'There are no sessions.' : noneOf(user, options))
      print(listed(found))
      if (total > found.length) print(`… and ${number(total - found.length)} more: --limit`)
    }),
  )

commandOnBoth('show <session>', 'shows a session, by its ID, its beginning as it is listed, or a cookie')
  .option(...userKey)
  .option('--data', 'its data, too')
  .action(
    run(async (opened, options: Common & { data?: boolean }, text: string) => {
      const given = parseGiven(text, secrets)
      const stored = await findOne(sessionsOf(opened, options), given)
      const { notes, record, unreadable, data } = stored
      const token =
        given.isCookie && unreadable === undefined ? worthOf(given.token, notes, -Infinity, Date.now()) : undefined
      if (given.isSigned === false || token === 'stale') process.exitCode = FOUND_WRONG
      if (options.json) {
        return json({ ...described(stored), signed: given.isSigned, token, ...(options.data && { data }) })
      }
      const time = (at: number | undefined): string =>
        at === undefined ? 'not noted' : `${new Date(at).toISOString()} (${fromNow(at)})`
      const rows = {
        session: short(stored.key),
        user: stored.user ?? 'none',
        made: time(notes.created),
        'signed in': time(notes.login),
        'last seen': time(notes.seen),
        'new token': time(notes.renewed),
        ends: time(record.expires),
        size: size(Buffer.byteLength(record.text)),
        ...(given.isCookie && { signature: SIGNATURES[String(given.isSigned)] as string }),
        ...(token && { token: WORTHS[token] }),
        ...(unreadable !== undefined && { data: unreadable }),
      }
      print(table(Object.entries(rows)))
      if (options.data && unreadable === undefined) json(data)
    }),
  )

commandOnBoth('end <sessions...>', 'ends sessions, by what show takes')
  .option(...yes)
  .action(
    run(async (opened, options: Common & { yes?: boolean }, texts: string[]) => {
      const sessions = sessionsOf(opened, options)
      const found = new Map<string, Stored>()
      for (const text of texts) {
        const stored = await findOne(sessions, parseGiven(text, secrets))
        found.set(stored.key, stored)
      }
      await endAll([...found.values()], options, async () => {
        let ended = 0
        for (const stored of found.values()) if (await sessions.end(stored)) ended++
        return ended
      })
    }),
  )

commandOnBoth('end-user <user>', 'ends all sessions of a user')
  .option(...userKey)
  .option(...yes)
  .action(
    run(async (opened, options: Common & { yes?: boolean }, user: string) => {
      const sessions = sessionsOf(opened, options)
      const found = await sessions.of(user)
      if (found.length === 0 && !options.json) print(noneOf(user, options))
      await endAll(found, options, () => sessions.endUser(user))
    }),
  )

commandOnBoth('count', 'counts sessions')
  .option('--users', 'looks at each: how many are signed in, and how many users that are')
  .option(...userKey)
  .action(
    run(async (opened, options: Common & { users?: boolean }) => {
      const total = (await opened.store.length()) ?? 0
      if (!options.users) return options.json ? json({ sessions: total }) : print(`${number(total)} sessions`)
      const users = new Set<string>()
      const counts = { sessions: 0, signedIn: 0, unreadable: 0 }
      for await (const { user, unreadable } of sessionsOf(opened, options).all(total)) {
        counts.sessions++
        if (unreadable !== undefined) counts.unreadable++
        if (user === undefined) continue
        counts.signedIn++
        users.add(user)
      }
      warnOfUnreadable(counts.unreadable)
      if (options.json) return json({ ...counts, users: users.size })
      print(
        `${number(counts.sessions)} sessions; ${number(counts.signedIn)} are signed in, of ${number(users.size)} users`,
      )
    }),
  )

command(
  'index',
  "enters sessions in the index of users' sessions: those from before the option user, or those it has lost",
)
  .option(...userKey)
  .action(
    run(async (opened, options: Common) => {
      const sessions = sessionsOf(opened, options)
      const counts = { inIndex: 0, noted: 0, unreadable: 0 }
      for await (const stored of sessions.all((await opened.store.length()) ?? 0)) {
        if (stored.unreadable !== undefined) counts.unreadable++
        if (stored.user === undefined) continue
        if (await sessions.enter(stored)) counts.noted++
        counts.inIndex++
      }
      warnOfUnreadable(counts.unreadable)
      if (options.json) return json(counts)
      print(
        `${number(counts.inIndex)} sessions are in the index of users; ${number(counts.noted)} of them had no user noted before.`,
      )
    }),
  )

withBoth(
  program
    .command('move')
    .description('moves all sessions to another store, while the app runs on new MovingStore({ from, to })'),
)
  .option('--json', 'prints JSON')
  .option(...yes)
  .action(moveSessions)

command('doctor', 'looks for what is wrong with a set-up, and says what to do')
  .option('--url <url>', 'an address of the running app that begins a session, to look at its cookie')
  .option('--cookie <name>', 'the name of the session cookie, if it is not found by its value')
  .action(
    run(async (opened, options: Common & { url?: string; cookie?: string }) => {
      const findings = await examine(opened, secrets, options)
      const problems = findings.filter(({ problem }) => problem !== undefined)
      if (problems.length > 0) process.exitCode = FOUND_WRONG
      if (options.json) return json(findings)
      for (const { about, what, problem } of findings) {
        print(`${problem === undefined ? 'ok  ' : 'LOOK'} ${about}: ${what}`)
        if (problem !== undefined) print(`       ${problem.replaceAll('\n', '\n       ')}`)
      }
      print(problems.length === 0 ? 'All is well.' : `${problems.length} of ${findings.length} points need a look.`)
    }),
  )

/** Opens the store for a command, and closes it after. */
function run<Options extends Common, Argument>(
  action: (opened: OpenedStore, options: Options, argument: Argument) => Promise<void>,
): (...args: unknown[]) => Promise<void> {
  return async (...args) => {
    // Commander passes the arguments, the options, and the command itself.
    const options = args.at(-2) as Options
    const opened = await openAsGiven(options, args.at(-1) as Command)
    try {
      await action(opened, options, args[0] as Argument)
    } catch (error) {
      if (!isTableMissing(error)) throw error
      const users = 'The one of users is made by an app with the option user; if it lacks that, give --user-key.'
      throw new UsageError(`a table is missing at ${opened.name}: is --table right? ${users}`)
    } finally {
      await opened.close()
    }
  }
}

/**
 * What is given as arguments goes before the environment.
 * @throws UsageError when it is not clear which store is meant, and as `openStore` does
 */
function openAsGiven(options: Common, command: Command): Promise<OpenedStore> {
  const { store, prefix, table, from, to } = options
  const isArgument = (name: string): boolean => command.getOptionValueSource(name) === 'cli'
  const isStore = isArgument('store')
  if (isStore && (isArgument('from') || isArgument('to'))) {
    throw new UsageError('which store? Give --store or, during a move, --from and --to')
  }
  if (isStore || (from === undefined && to === undefined)) {
    if (store === undefined) throw new UsageError('which store? Give --store, or set SESSILE_STORE')
    return openStore(store, { prefix, table })
  }
  if (from === undefined || to === undefined) throw new UsageError('during a move, give both --from and --to')
  for (const [name, value] of Object.entries({ prefix, table })) {
    if (value !== undefined) throw new UsageError(`--${name} goes with --store; give --from-${name} or --to-${name}`)
  }
  return openMoving({ ...options, from, to })
}

function sessionsOf(opened: OpenedStore, options: Common): StoredSessions {
  return new StoredSessions(opened.store, secrets, options.userKey)
}

/** @throws UsageError when there is none, and says why that may be */
async function findOne(sessions: StoredSessions, { key, isSigned }: Given): Promise<Stored> {
  const stored = await sessions.find(key)
  if (stored) return stored
  const why = 'it has ended or was destroyed, or lies under another prefix, table or hash'
  const unsigned = isSigned === false ? '; and the cookie is not signed with SESSION_SECRET' : ''
  throw new UsageError(`there is no session ${short(key)}: ${why}${unsigned}`)
}

const SIGNATURES: { [isSigned: string]: string } = {
  true: 'good',
  false: 'NOT by SESSION_SECRET: the app takes the cookie for none',
  undefined: 'not checked: set SESSION_SECRET',
}

/** What a cookie is worth to the app. Where no grace period counts, none is `replaced`. */
const WORTHS: Record<Worth, string> = {
  present: 'the present one',
  former: 'the former one: good until the new one has come',
  replaced: 'replaced',
  stale: 'NOT good: it was replaced by a new one, and opens nothing',
}

async function endAll(
  found: Stored[],
  { yes: isMeant = false, json: asJson }: Common & { yes?: boolean },
  end: () => Promise<number>,
): Promise<void> {
  const ended = isMeant ? await end() : 0
  if (asJson) return json({ dryRun: !isMeant, ended, sessions: found.map((stored) => described(stored)) })
  if (found.length > 0) print(listed(found))
  if (isMeant) print(`${number(ended)} ended.`)
  else if (found.length > 0) print(`${number(found.length)} would be ended: do it with --yes.`)
}

function listed(found: Stored[]): string {
  const row = ({ key, user, notes, record }: Stored): string[] => {
    const made = notes.created === undefined ? '' : fromNow(notes.created)
    return [short(key), user ?? '', made, fromNow(record.expires), size(Buffer.byteLength(record.text))]
  }
  return table([['session', 'user', 'made', 'ends', 'size'], ...found.map(row)])
}

function described({ key, user, notes, record, unreadable }: Stored): object {
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
  }
}

function keepFirstToEnd(found: Stored[], limit: number): void {
  found.sort((a, b) => a.record.expires - b.record.expires).splice(limit)
}

function noneOf(user: string, { userKey }: Common): string {
  const where = userKey === undefined ? ' in the index; sessions that it does not have are found with --user-key' : ''
  return `There are no sessions of ${user}${where}.`
}

function warnOfUnreadable(count: number): void {
  if (count === 0) return
  process.exitCode = FOUND_WRONG
  console.error(`sessile: ${number(count)} sessions could not be read: are the keys in SESSILE_ENCRYPTION?`)
}

function positive(text: string): number {
  const count = Number(text)
  if (Number.isInteger(count) && count > 0) return count
  throw new InvalidArgumentError('It must be a whole number of at least 1.')
}

// Whoever reads the output may have read enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit()
})

/** An ID may begin like an option; of the options of one dash, none is so long. */
function isId(argument: string): boolean {
  return /^-[\w-]{11,}…?$/.test(argument) && !/^--[a-z-]+$/.test(argument)
}

const args = process.argv.slice(2)
const ids = args.filter(isId)
const others = args.filter((argument) => !isId(argument))
program.parseAsync(ids.length > 0 ? [...others, '--', ...ids] : others, { from: 'user' }).catch((error: unknown) => {
  const isCommanders = error instanceof CommanderError
  process.exitCode = isCommanders && error.exitCode === 0 ? 0 : FAILED
  // Commander has told of its own.
  if (!isCommanders) console.error(`sessile: ${messageOf(error)}`)
})
