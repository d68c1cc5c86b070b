import type { SessionNotes } from '../../session/notes'

/** Messages for the next request of this visitor. They are kept beside the session's data, not in it. */
export interface Flash {
  /** Leaves a message, any value that can be stored, for the next request that takes this type. */
  add(type: string, message: unknown): Promise<void>
  /** The messages of a type, oldest first. Each is given once, to one request, however many ask at the same time. */
  take<T = string>(type: string): Promise<T[]>
}

/**
 * Flash messages, kept in the notes of a session: `notesFound` gives those that the request has loaded, `changeNotes`
 * changes them safely against parallel requests.
 */
export function flashOver(
  notesFound: () => SessionNotes | undefined,
  changeNotes: (change: (notes: SessionNotes) => void) => Promise<void>,
): Flash {
  return {
    add: (type, message) =>
      changeNotes((notes) => {
        const flash = messagesIn(notes)
        flash[type] = [...(flash[type] ?? []), message]
        notes.flash = flash
      }),
    async take<T>(type: string): Promise<T[]> {
      // Most requests find none, and need not write for that.
      if (!messagesIn(notesFound() ?? {})[type]) return []
      let taken: unknown[] = []
      await changeNotes((notes) => {
        const { [type]: messages = [], ...others } = messagesIn(notes)
        taken = messages
        if (Object.keys(others).length > 0) notes.flash = others
        else delete notes.flash
      })
      return taken as T[]
    },
  }
}

/** Without a prototype, so that any text can be a type. */
function messagesIn(notes: SessionNotes): { [type: string]: unknown[] } {
  return Object.assign(Object.create(null) as object, notes.flash)
}
