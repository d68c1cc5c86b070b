/**
 * Texts of points in time. Making one is most of the work of making a cookie, and the cookies of one second differ in
 * milliseconds at most, so the text of the last second is kept.
 */
class SecondText {
  #second = NaN
  #text = ''

  constructor(private readonly make: (date: Date) => string) {}

  of(date: Date): string {
    const second = Math.floor(date.getTime() / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#text = this.make(date)
    }
    return this.#text
  }
}

const utc = new SecondText((date) => date.toUTCString())
const iso = new SecondText((date) => date.toISOString().slice(0, -4))

/** As `date.toUTCString()`. */
export function utcText(date: Date): string {
  return utc.of(date)
}

/** As `date.toISOString()`. */
export function isoText(date: Date): string {
  const ms = date.getUTCMilliseconds()
  return `${iso.of(date)}${ms < 10 ? '00' : ms < 100 ? '0' : ''}${ms}Z`
}

/** The last date that JavaScript has, in ms. */
export const LAST_DATE = 8.64e15

/** Whether a value is a valid Date. */
export function isTime(value: unknown): value is Date {
  return value instanceof Date && !Number.isNaN(value.getTime())
}
