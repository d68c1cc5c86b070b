/** How the command line shows things: to people on a terminal, to programs as JSON. */

const SECOND = 1000
const UNITS: [string, number][] = [
  ['day', 86_400 * SECOND],
  ['h', 3600 * SECOND],
  ['min', 60 * SECOND],
  ['s', SECOND],
]

/** How far from now a time is, such as `in 3 h` or `2 days ago`. */
export function fromNow(time: number): string {
  const now = Date.now()
  const distance = Math.abs(time - now)
  const [unit, ms] = UNITS.find(([, ms]) => distance >= ms * 0.95) ?? ['s', SECOND]
  const count = Math.round(distance / ms)
  const text = `${count} ${unit}${unit === 'day' && count !== 1 ? 's' : ''}`
  return time >= now ? `in ${text}` : `${text} ago`
}

export function size(bytes: number): string {
  return bytes < 1000 ? `${bytes} B` : `${(bytes / 1000).toFixed(1)} KB`
}

export function number(count: number): string {
  return count.toLocaleString('en')
}

/** So much of an ID tells it from others; what is left of it, and the signature of a cookie, is what lets somebody in. */
export const SHOWN_ID = 12

export function short(id: string): string {
  return id.length > SHOWN_ID ? `${id.slice(0, SHOWN_ID)}…` : id
}

/** What moves the cursor of a terminal, colours it, or turns the direction of its text: visitors may have had it stored. */
// eslint-disable-next-line no-control-regex -- these are what is looked for
const HARMFUL = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g

/** @param rows the cells of each; the first may be a head */
export function table(rows: string[][]): string {
  const clean = rows.map((row) => row.map((cell) => cell.replace(HARMFUL, '\ufffd')))
  const widths = (clean[0] ?? []).map((_, n) => Math.max(...clean.map((row) => (row[n] as string).length)))
  const line = (row: string[]): string => row.map((cell, n) => cell.padEnd(widths[n] as number)).join('  ')
  return clean.map((row) => line(row).trimEnd()).join('\n')
}

export function print(text: string): void {
  process.stdout.write(text + '\n')
}

export function json(value: unknown): void {
  const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  print(
    JSON.stringify(value, null, 2).replace(HARMFUL, (character) => (character === '\n' ? '\n' : escaped(character))),
  )
}

const WIDTH = 30
/** In ms. */
const SHOWN_EVERY = 100

/** Goes to the error output, so that the result can be piped; and to a terminal only. */
export class Progress {
  #count = 0
  #shown = 0

  /** @param total how many there are, if that is known */
  constructor(
    private readonly what: string,
    private readonly total?: number,
  ) {}

  add(count: number): void {
    this.to(this.#count + count)
  }

  to(count: number): void {
    this.#count = count
    if (!process.stderr.isTTY || Date.now() - this.#shown < SHOWN_EVERY) return
    this.#shown = Date.now()
    process.stderr.write(`\r\x1b[K${this.what} ${this.total ? bar(count, this.total) : number(count)}`)
  }

  end(): void {
    if (this.#shown > 0) process.stderr.write('\r\x1b[K')
  }
}

function bar(count: number, total: number): string {
  const part = Math.min(1, count / total)
  const done = Math.round(part * WIDTH)
  return `[${'#'.repeat(done)}${' '.repeat(WIDTH - done)}] ${Math.floor(part * 100)} %, ${number(count)} of ${number(total)}`
}
