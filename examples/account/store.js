// @ts-check
const { SqliteStore } = require('sessile/sqlite')

/** SQLite in a file, which survives a restart; Redis, which several processes can share, where REDIS_URL is set. */
async function openStore() {
  const { REDIS_URL: url, FILE: file = 'account-sessions.db' } = process.env
  if (url) {
    const { createClient } = require('redis')
    const { RedisStore } = require('sessile/redis')
    const client = createClient({ url })
    client.on('error', (error) => console.error('Redis:', error.message))
    return new RedisStore({ client: await client.connect(), prefix: 'account:' })
  }
  if (process.getBuiltinModule?.('node:sqlite')) return new SqliteStore({ file })
  const Database = require('libsql')
  const database = new Database(file)
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
  return new SqliteStore({ database })
}

module.exports = { openStore }
