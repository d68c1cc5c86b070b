import type { SessionNotes } from '../session/notes'

/** What the requests of this process that have one session share: how it has fared since. */
export class Life {
  isDestroyed = false
  /** The notes of the latest token, when one of these requests has given the client a new one. */
  renewed: SessionNotes | undefined
}

/**
 * The lives of a classic store's sessions, by key. Classic stores have no conditional write, so this keeps a slow request
 * from bringing back what another request of this process has destroyed. A life is kept as long as a request has it.
 */
export class Lives {
  readonly #lives = new Map<string, WeakRef<Life>>()
  readonly #collected = new FinalizationRegistry<string>((key) => {
    if (!this.#lives.get(key)?.deref()) this.#lives.delete(key)
  })

  of(key: string): Life {
    const known = this.#lives.get(key)?.deref()
    if (known) return known
    const life = new Life()
    this.#lives.set(key, new WeakRef(life))
    this.#collected.register(life, key)
    return life
  }

  /** Ends a life; whoever loads the key from now on has another one. */
  end(key: string): void {
    const life = this.#lives.get(key)?.deref()
    if (life) life.isDestroyed = true
    this.#lives.delete(key)
  }

  get size(): number {
    return this.#lives.size
  }
}
