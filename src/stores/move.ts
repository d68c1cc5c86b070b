import { isUnreadable } from '../base/errors'
import { storedNotes } from '../session/notes'
import type { RecordStore, SessionRecord, Version } from '../store/record-store'

/**
 * How a session goes from one store to another while requests use it, by a `MovingStore`:
 *
 * 1. a copy is made in the new store, which says that it is one, and does not count
 * 2. the record in the old store is replaced by a note that it was moved, if it is still what was copied: from this step on
 *    the session is in the new store
 * 3. the copy is made a record like any other
 * 4. the note is removed
 *
 * Whoever finds the note before 3 and 4 are done, does them. If a request has changed the record before 2, the copy is made
 * again; if one has destroyed it, the copy is removed, and nobody would have looked at it. So a move that is killed at any
 * point loses nothing and brings nothing back.
 */
const COPY = 'sessile:copy'
const MOVED = 'sessile:moved'
/** By how much, in ms, two readings of the same end may differ. */
const SAME_END = 1500

/** Both are sessions without data to whoever reads the store without knowing, and JSON, as columns may be. */
function copyOf(text: string): string {
  return JSON.stringify({ cookie: {}, [COPY]: text })
}

const MOVED_TEXT = JSON.stringify({ cookie: {}, [MOVED]: true })

/** The text that a copy was made of; `undefined` for everything that is no copy. */
export function contentOfCopy(text: string): string | undefined {
  const content = only(COPY, text)
  return typeof content === 'string' ? content : undefined
}

/** Whether a record of the old store only says that the session is in the new one. */
export function isMoved(text: string): boolean {
  return only(MOVED, text) === true
}

function only(key: string, text: string): unknown {
  if (!text.includes(`"${key}"`)) return undefined
  try {
    const value = JSON.parse(text) as Record<string, unknown>
    return Object.keys(value).length === 2 && 'cookie' in value ? value[key] : undefined
  } catch {
    return undefined
  }
}

/** The last two steps. A renewal that the third one undoes has come to the note, too: a MovingStore renews there first. */
export async function settle(from: RecordStore, to: RecordStore, id: string): Promise<void> {
  const copy = await to.read(id)
  const text = copy && contentOfCopy(copy.text)
  if (typeof text === 'string') await to.write(id, text, copy!.expires, { version: copy!.version })
  const note = await from.read(id)
  if (!note || !isMoved(note.text)) return
  if (copy && note.expires - copy.expires > SAME_END) await to.renew(id, note.expires, copy.expires)
  await from.remove(id, note.version)
}

export interface MoveOptions {
  /** Ends the move between two sessions; it can be begun again later. */
  signal?: AbortSignal | undefined
  /** Told after each few sessions how many have been looked at. */
  onProgress?: ((looked: number) => void) | undefined
  /** Told of each session that could not be moved, which stays where it is. */
  onFailure?: ((id: string, error: unknown) => void) | undefined
  /** Whose a session is, for the index of users. Default: what the record says, if it is not encrypted. */
  userOf?: ((id: string, record: SessionRecord) => string | undefined) | undefined
}

export interface MoveResult {
  /** How many sessions are in the new store now, and were not before. */
  moved: number
  /** How many the new store had already: those of the old one were removed. */
  replaced: number
  failed: number
}

/** How many sessions are moved at the same time. */
const AT_ONCE = 25

/**
 * Moves every session of one record store to another, while an app uses both by a `MovingStore`. Ends stay as they are.
 * @throws what a store throws, when all that were tried at once have failed; the signal's reason when it aborts; a TypeError when
 *   the stores are one, which would lose its sessions
 */
export async function move(from: RecordStore, to: RecordStore, options: MoveOptions = {}): Promise<MoveResult> {
  if (from === to) throw new TypeError('move: from and to are the same store')
  const { signal, onProgress, onFailure } = options
  const userOf = options.userOf ?? ((id, record) => notedUser(from, id, record))
  const result: MoveResult = { moved: 0, replaced: 0, failed: 0 }
  let looked = 0
  const moveAll = async (records: Array<SessionRecord & { id: string }>): Promise<void> => {
    signal?.throwIfAborted()
    const errors: unknown[] = []
    await Promise.all(
      records.map(async ({ id, ...record }) => {
        try {
          const outcome = await moveOne(from, to, id, record, userOf)
          if (outcome) result[outcome]++
        } catch (error) {
          errors.push(error)
          result.failed++
          onFailure?.(id, error)
        }
      }),
    )
    looked += records.length
    onProgress?.(looked)
    if (errors.length > 0 && errors.length === records.length) throw errors[0]
  }
  let waiting: Array<SessionRecord & { id: string }> = []
  for await (const record of from.records()) {
    waiting.push(record)
    if (waiting.length < AT_ONCE) continue
    await moveAll(waiting)
    waiting = []
  }
  if (waiting.length > 0) await moveAll(waiting)
  return result
}

/** Answers what has become of it; nothing when it was gone. */
async function moveOne(
  from: RecordStore,
  to: RecordStore,
  id: string,
  found: SessionRecord,
  userOf: (id: string, record: SessionRecord) => string | undefined,
): Promise<'moved' | 'replaced' | undefined> {
  let record: SessionRecord | null = found
  let copy: Version | null = null
  const linked = new Set<string>()
  const unlinkAll = (): Promise<unknown> => Promise.all([...linked].map(async (user) => to.unlink?.(user, id)))
  while (record) {
    if (isMoved(record.text)) {
      await settle(from, to, id)
      return 'moved'
    }
    const there: SessionRecord | null = await to.read(id)
    if (there && contentOfCopy(there.text) === undefined) {
      return (await from.remove(id, record.version)) ? 'replaced' : undefined
    }
    copy = await to.write(id, copyOf(record.text), record.expires, there ? { version: there.version } : 'absent')
    const user = userOf(id, record)
    if (user !== undefined) {
      linked.add(user)
      await to.link?.(user, id, record.expires)
    }
    // A request that has renewed it before there was a copy to renew, is seen now.
    const now: SessionRecord | null = await from.read(id)
    const isSame: boolean = now?.version === record.version && Math.abs(now.expires - record.expires) < SAME_END
    if (copy !== null && isSame) {
      const note = await from.write(id, MOVED_TEXT, record.expires, { version: record.version })
      if (note !== null) {
        await settle(from, to, id)
        // Those of before a request changed whose it is: the request may have taken them away before they were made here.
        if (user !== undefined) linked.delete(user)
        await unlinkAll()
        return 'moved'
      }
    }
    record = isSame ? await from.read(id) : now
  }
  // A request has destroyed it, perhaps before it was linked here. What is there now has been made by another.
  if (copy !== null) await to.remove(id, copy)
  if (linked.size > 0 && (await to.read(id)) === null) await unlinkAll()
  return undefined
}

function notedUser(from: RecordStore, id: string, record: SessionRecord): string | undefined {
  try {
    return storedNotes(from.parse(id, record)?.cookie ?? {})?.user
  } catch (error) {
    if (isUnreadable(error)) return undefined
    throw error
  }
}
