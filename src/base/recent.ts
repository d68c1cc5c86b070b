/** Remembers values by texts: at least the last `size` that were set, at most twice as many. */
export class Recent<T> {
  readonly #size: number
  #young = new Map<string, T>()
  #old = new Map<string, T>()

  constructor(size: number) {
    this.#size = size
  }

  get(text: string): T | undefined {
    return this.#young.get(text) ?? this.#old.get(text)
  }

  set(text: string, value: T): void {
    if (this.#young.size >= this.#size) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(text, value)
  }
}
