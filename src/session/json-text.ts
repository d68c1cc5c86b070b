const QUOTE = 34
const COLON = 58
const COMMA = 44
const OPEN_OBJECT = 123
const CLOSE_OBJECT = 125
const OPEN_ARRAY = 91
const CLOSE_ARRAY = 93

/**
 * Whether this JSON text, parsed, would be the same data: then `JSON.stringify` need not be called to find out, which takes
 * several times as long. False also where that is not sure: for texts with escapes, values with a `toJSON`, and the like.
 */
export function isTextOf(text: string, value: unknown): boolean {
  return endOfValue(text, 0, value, 0) === text.length
}

/** Deeper than this it is not looked: this code has less of a stack than `JSON.stringify`. */
const DEEPEST = 100

/** Where the text of a value that begins at `from` ends; -1 when it is not that value's. */
function endOfValue(text: string, from: number, value: unknown, depth: number): number {
  switch (typeof value) {
    case 'string':
      return endOfString(text, from, value)
    case 'number':
    case 'boolean':
      return endOfWord(text, from, String(value))
    case 'object':
      if (value === null) return endOfWord(text, from, 'null')
      if (depth === DEEPEST || 'toJSON' in value) return -1
      return Array.isArray(value) ? endOfArray(text, from, value, depth + 1) : endOfObject(text, from, value, depth + 1)
    default:
      return -1
  }
}

/** The first quote has to be the string's last: so it has none itself, and a backslash in the text would be an escape. */
function endOfString(text: string, from: number, value: string): number {
  const end = from + 1 + value.length
  const isSame =
    text.charCodeAt(from) === QUOTE &&
    text.startsWith(value, from + 1) &&
    text.indexOf('"', from + 1) === end &&
    !value.includes('\\')
  return isSame ? end + 1 : -1
}

function endOfWord(text: string, from: number, word: string): number {
  return text.startsWith(word, from) ? from + word.length : -1
}

function endOfArray(text: string, from: number, array: readonly unknown[], depth: number): number {
  if (text.charCodeAt(from) !== OPEN_ARRAY) return -1
  let at = from + 1
  for (let n = 0; n < array.length; n++) {
    if (n > 0 && text.charCodeAt(at++) !== COMMA) return -1
    at = endOfValue(text, at, array[n], depth)
    if (at === -1) return -1
  }
  return text.charCodeAt(at) === CLOSE_ARRAY ? at + 1 : -1
}

function endOfObject(text: string, from: number, object: object, depth: number): number {
  if (text.charCodeAt(from) !== OPEN_OBJECT || Object.getPrototypeOf(object) !== Object.prototype) return -1
  let at = from + 1
  for (const key in object) {
    if (at > from + 1 && text.charCodeAt(at++) !== COMMA) return -1
    at = endOfString(text, at, key)
    if (at === -1 || text.charCodeAt(at) !== COLON) return -1
    at = endOfValue(text, at + 1, (object as Record<string, unknown>)[key], depth)
    if (at === -1) return -1
  }
  return text.charCodeAt(at) === CLOSE_OBJECT ? at + 1 : -1
}
