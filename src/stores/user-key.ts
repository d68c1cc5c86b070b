import { createHash } from 'node:crypto'

const HASHED = 'sha256:'

/**
 * What stands for a user in an index of a database: the user, or a hash where a column could not hold it, or not tell it from
 * others: too long, with U+0000, or with half of a surrogate pair. No user is taken for another's hash.
 * @param longest the bytes that the column holds
 */
export function userKey(user: string, longest: number): string {
  const fits = Buffer.byteLength(user) <= longest && !user.includes('\0') && isWellFormed(user)
  if (fits && !user.startsWith(HASHED)) return user
  return HASHED + createHash('sha256').update(user, 'utf16le').digest('hex')
}

function isWellFormed(text: string): boolean {
  return (text as unknown as { isWellFormed(): boolean }).isWellFormed()
}
