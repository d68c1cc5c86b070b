import type { CookieData } from './cookie'
import { NOTES, storedNotes, type SessionNotes } from './notes'

/** A record's JSON text, taken apart. */
export interface RecordText {
  /** The settings of the cookie, as stored; shared with other records. */
  readonly settings: Readonly<CookieData>
  readonly notes: SessionNotes | undefined
  /** The JSON of the data, without the cookie. Whether it is JSON turns out when it is parsed. */
  readonly data: string
}

/** What was taken apart last: the texts of an application's cookies mostly differ in the end and the notes only. */
interface Pattern {
  readonly settings: CookieData
  /** The text before the end of the cookie, the length of that, and the rest of the settings. */
  readonly before: string
  readonly length: number
  readonly after: string
}

const START = '{"cookie":'
const NOTES_START = `,"${NOTES}":`
const QUOTE = 34
const COMMA = 44
const BACKSLASH = 92
const OPEN = 123
const CLOSE = 125

let pattern: Pattern | undefined

/** `undefined` for a text that is not JSON with the cookie first, as all session libraries write it. */
export function takeApart(text: string): RecordText | undefined {
  return (pattern && takeApartBy(pattern, text)) ?? takeApartByParsing(text)
}

function takeApartBy({ settings, before, length, after }: Pattern, text: string): RecordText | undefined {
  const rest = before.length + length
  if (!text.startsWith(before) || !text.startsWith(after, rest)) return undefined
  const end = rest + after.length
  if (text.charCodeAt(end) === CLOSE) return { settings, notes: undefined, data: dataFrom(text, end + 1) }
  if (!text.startsWith(NOTES_START, end)) return undefined
  const from = end + NOTES_START.length
  const until = endOfObject(text, from)
  const notes = until === -1 ? undefined : parsed(text.slice(from, until))
  if (!notes || text.charCodeAt(until) !== CLOSE) return undefined
  return { settings, notes: storedNotes({ [NOTES]: notes }), data: dataFrom(text, until + 1) }
}

function takeApartByParsing(text: string): RecordText | undefined {
  const end = text.startsWith(START) ? endOfObject(text, START.length) : -1
  const cookie = end === -1 ? undefined : parsed(text.slice(START.length, end))
  if (!cookie) return undefined
  const notes = storedNotes(cookie)
  const { [NOTES]: _notes, ...settings } = cookie as CookieData & { [NOTES]?: unknown }
  pattern = patternOf(text, settings) ?? pattern
  return { settings, notes, data: dataFrom(text, end) }
}

/** Only of a text as `JSON.stringify` makes it, so that what has the same pattern has the same settings. */
function patternOf(text: string, settings: CookieData): Pattern | undefined {
  const whole = START + JSON.stringify(settings).slice(0, -1)
  if (!text.startsWith(whole)) return undefined
  const end = settings.expires ? JSON.stringify(settings.expires) : ''
  const at = end ? whole.indexOf(end) : whole.length
  return { settings, before: whole.slice(0, at), length: end.length, after: whole.slice(at + end.length) }
}

/** The data that follows the cookie. */
function dataFrom(text: string, at: number): string {
  return `{${text.slice(text.charCodeAt(at) === COMMA ? at + 1 : at)}`
}

function parsed(text: string): object | undefined {
  try {
    return JSON.parse(text) as object
  } catch {
    return undefined
  }
}

/** Where the text of an object that begins at `from` ends; -1 if there is none. */
function endOfObject(text: string, from: number): number {
  let depth = 0
  for (let i = from; i < text.length; i++) {
    const char = text.charCodeAt(i)
    if (char === QUOTE) {
      for (i++; i < text.length && text.charCodeAt(i) !== QUOTE; i++) {
        if (text.charCodeAt(i) === BACKSLASH) i++
      }
    } else if (char === OPEN) {
      depth++
    } else if (char === CLOSE && --depth === 0) {
      return i + 1
    } else if (depth === 0) {
      return -1
    }
  }
  return -1
}

/** The data of a record's text; `undefined` for what is not JSON, or has a second cookie. */
export function parseData(data: string): object | undefined {
  const values = parsed(data)
  return values && !Object.hasOwn(values, 'cookie') ? values : undefined
}
