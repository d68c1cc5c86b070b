/** How the command line shows things: to people on a terminal, to programs as JSON. */

const SECOND = 1000
const UNITS: [string, number][] = [
  ['day', 86_400 * SECOND],
  ['h', 3600 * SECOND],
  ['min', 60 * SECOND],
  ['s', SECOND],
]

/** How far from now a time is, such as `in 3 h` or `2 days ago`. */
export function fromNow(time: number, now = Date.now()): string {
  const distance = Math.abs(time - now)
  const [unit, ms] = UNITS.find(([, ms]) => distance >= ms * 0.95) ?? ['s', SECOND]
  const count = Math.round(distance / ms)
  const text = `${count} ${unit}${unit === 'day' && count !== 1 ? 's' : ''}`
  return time >= now ? `in ${text}` : `${text} ago`
}

export function size(bytes: number): string {
  return bytes < 1000 ? `${bytes} B` : `${(bytes / 1000).toFixed(1)} KB`
}

export const number = (count: number): string => count.toLocaleString('en')

/** So much of an ID that it is told from others, and lets nobody in. */
export const SHOWN_ID = 12

export function short(id: string): string {
  return id.length > SHOWN_ID ? `${id.slice(0, SHOWN_ID)}…` : id
}

/** Text that others have stored must not move the cursor, nor look like something else. */
export function harmless(text: string): string {
  // eslint-disable-next-line no-control-regex -- these are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, '\ufffd')
}

export function table(head: string[], rows: string[][]): string {
  const clean = [head, ...rows.map((row) => row.map(harmless))]
  const widths = head.map((_, n) => Math.max(...clean.map((row) => (row[n] as string).length)))
  return clean
    .map((row) =>
      row
        .map((cell, n) => cell.padEnd(widths[n] as number))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

export function print(text: string): void {
  process.stdout.write(text + '\n')
}

export function json(value: unknown): void {
  print(JSON.stringify(value, null, 2))
}

/** Goes to the error output, so that the result can be piped; to a terminal only. */
export class Progress {
  #last = 0

  constructor(
    private readonly what: string,
    private readonly total: number | undefined,
  ) {}

  at(count: number): void {
    if (!process.stderr.isTTY || Date.now() - this.#last < 100) return
    this.#last = Date.now()
    process.stderr.write(`\r\x1b[K${this.what} ${this.total ? bar(count, this.total) : number(count)}`)
  }

  end(): void {
    if (process.stderr.isTTY && this.#last > 0) process.stderr.write('\r\x1b[K')
  }
}

const WIDTH = 30

export function bar(count: number, total: number): string {
  const part = Math.min(1, count / total)
  const done = Math.round(part * WIDTH)
  return `[${'#'.repeat(done)}${' '.repeat(WIDTH - done)}] ${Math.floor(part * 100)} %, ${number(count)} of ${number(total)}`
}
