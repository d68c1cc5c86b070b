import type { SessionNotes } from './cookie'

/** Messages for the next request of this visitor. They are kept beside the session's data, not in it. */
export interface Flash {
  /** Leaves a message, any value that can be stored, for the next request that takes this type. */
  add(type: string, message: unknown): Promise<void>
  /** The messages of a type, oldest first. Each is given once, to one request, however many ask at the same time. */
  take<T = string>(type: string): Promise<T[]>
}

/** Flash messages over something that changes the notes of a session safely against parallel requests. */
export function flashOver(changeNotes: (change: (notes: SessionNotes) => void) => Promise<void>): Flash {
  return {
    add: (type, message) =>
      changeNotes((notes) => {
        const flash = { ...notes.flash }
        flash[type] = [...(flash[type] ?? []), message]
        notes.flash = flash
      }),
    async take<T>(type: string): Promise<T[]> {
      let taken: unknown[] = []
      await changeNotes((notes) => {
        const { [type]: messages = [], ...others } = notes.flash ?? {}
        taken = messages
        if (Object.keys(others).length > 0) notes.flash = others
        else delete notes.flash
      })
      return taken as T[]
    },
  }
}
