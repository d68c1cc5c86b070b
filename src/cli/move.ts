import { randomBytes } from 'node:crypto'
import { messageOf, openBoth, UsageError, type BothOptions, type OpenedStore } from './open-store'
import { json, number, print, Progress, short } from './print'
import { secretsIn, StoredSessions } from './sessions'

export interface MoveOptions extends BothOptions {
  json?: boolean
  yes?: boolean
}

/** In ms. */
const MINUTE = 60_000
const SHOWN_FAILURES = 10

/**
 * Moves all sessions of a store to another one. Without `yes`, only says how many that would be.
 * @throws UsageError when a store cannot be opened, or both are the same
 */
export async function moveSessions(options: MoveOptions): Promise<void> {
  const { yes: isMeant = false } = options
  const { from, to } = await openBoth(options, isMeant)
  try {
    const total = (await from.store.length()) ?? 0
    if (isMeant) return await moveAll(from, to, total, options)
    if (options.json) return json({ dryRun: true, sessions: total })
    print(`${number(total)} sessions of ${from.name} would be moved to ${to.name}.`)
    print('Let every process of the app have a MovingStore of both first; then run this again with --yes.')
  } finally {
    await to.close()
    await from.close()
  }
}

async function moveAll(from: OpenedStore, to: OpenedStore, total: number, options: MoveOptions): Promise<void> {
  await demandTwo(from, to)
  const sessions = new StoredSessions(from.store, secretsIn(process.env))
  const { move } = await import('../stores/moving.js')
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())
  const progress = new Progress('moving', total)
  const failures: string[] = []
  const moving = move(from.store, to.store, {
    signal: stop.signal,
    onProgress: (count) => progress.to(count),
    onFailure: (id, error) => failures.push(`${short(id)} stays where it is: ${messageOf(error)}`),
    userOf(id, record) {
      const { user, isLocked } = sessions.stored(id, record)
      // Without it, "log out everywhere" would no longer find the session.
      if (isLocked) throw new UsageError('whose it is cannot be read: set SESSILE_ENCRYPTION to the keys')
      return user
    },
  })
  try {
    const result = await moving.finally(() => progress.end())
    if (options.json) return json(result)
    const { moved, replaced } = result
    print(`${number(moved)} sessions were moved${replaced > 0 ? `; ${number(replaced)} were there already` : ''}.`)
    print(`${from.name} has ${number((await from.store.length()) ?? 0)} left.`)
  } catch (error) {
    if ((error as Error).name !== 'AbortError') throw error
    process.exitCode = 130
    console.error('sessile: stopped. Nothing is lost: run it again to go on.')
  } finally {
    for (const failure of failures.slice(0, SHOWN_FAILURES)) console.error(`sessile: ${failure}`)
    if (failures.length > SHOWN_FAILURES) console.error(`sessile: and ${number(failures.length - SHOWN_FAILURES)} more`)
    if (failures.length > 0) process.exitCode = 1
  }
}

/**
 * By whatever address the two are reached: of a session that the new store has, `move` removes that of the old one.
 * @throws UsageError when they are the same
 */
async function demandTwo(from: OpenedStore, to: OpenedStore): Promise<void> {
  const id = `move-${randomBytes(16).toString('base64url')}`
  await from.store.write(id, JSON.stringify({ cookie: {} }), Date.now() + MINUTE, 'absent')
  const isSame = (await to.store.read(id)) !== null
  await from.store.remove(id)
  if (isSame) throw new UsageError(`${from.name} and ${to.name} are the same store`)
}
