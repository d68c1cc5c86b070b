import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { warnOnce } from '../../base/errors'

const PAGE = 'docs/troubleshooting.md'

/** Warns once of a mistake, and leads to the heading of the page that explains it. */
export function hint(heading: string, message: string): void {
  warnOnce('SESSION_HINT', `${message} (${pageOf()}#${heading})`, heading)
}

/**
 * Where the page is: it is published with the library, so its text fits this version. A bundle has left it behind, and one of
 * ES modules has no `__dirname` either; then it can only be named.
 */
function pageOf(): string {
  const file = typeof __dirname === 'string' ? join(__dirname, '../../..', PAGE) : undefined
  return file && existsSync(file) ? pathToFileURL(file).href : `see sessile's ${PAGE}`
}
