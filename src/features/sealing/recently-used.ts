/** Remembers texts by texts: at least the last `size / 2` that were used, at most `size`. */
export class RecentlyUsed {
  readonly #half: number
  #young = new Map<string, string>()
  #old = new Map<string, string>()

  constructor(size: number) {
    this.#half = size / 2
  }

  get(name: string): string | undefined {
    const young = this.#young.get(name)
    if (young !== undefined) return young
    const old = this.#old.get(name)
    if (old !== undefined) this.set(name, old)
    return old
  }

  set(name: string, value: string): void {
    if (this.#young.size >= this.#half && !this.#young.has(name)) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(name, value)
  }
}
