// @ts-check
const { randomBytes, scrypt, timingSafeEqual } = require('node:crypto')
const { promisify } = require('node:util')

/** @type {(password: string, salt: Buffer, length: number) => Promise<Buffer>} */
const hash = promisify(scrypt)

const salt = randomBytes(16)
/** An application has them in its database, each with a salt of its own. */
const users = new Map([
  ['ada', hash('lovelace', salt, 32)],
  ['grace', hash('hopper', salt, 32)],
])

/**
 * The user with this name and password, or nobody: after as much work in either case.
 * @param {string} name
 * @param {string} password
 */
async function findUser(name, password) {
  const given = await hash(password, salt, 32)
  const known = await users.get(name)
  return known && timingSafeEqual(known, given) ? name : undefined
}

module.exports = { findUser }
