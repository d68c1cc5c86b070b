// In the style of a serverless function: what is made once is kept between calls, and nothing runs when no call does.
const { randomBytes } = require('node:crypto')
const { createServer } = require('node:http')
const { SqliteStore } = require('sessile/sqlite')
const session = require('sessile')
const Database = require('libsql')

let sessions

/** Made by the first call. Expired sessions are deleted by a scheduled call of `store.prune`, not by a timer. */
function middleware() {
  const database = new Database(process.env.FILE ?? 'sessions.db')
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 5000')
  const store = new SqliteStore({ database, pruneInterval: 0 })
  return session(process.env.SESSION_SECRET ?? randomBytes(32), { store, cookie: { maxAge: 3_600_000 } })
}

function handler(req, res) {
  sessions ??= middleware()
  // A function and not a promise: it is called again, with an error, when the session cannot be stored at the end.
  sessions(req, res, (error) => {
    if (error) return failed(res, error)
    req.session.calls = (req.session.calls ?? 0) + 1
    res.end(`calls: ${req.session.calls}`)
  })
}

function failed(res, error) {
  console.error(error)
  if (!res.headersSent) res.statusCode = 500
  res.end()
}

const server = createServer(handler)
server.listen(process.env.PORT ?? 3000, () => console.log(`http://localhost:${server.address().port}/`))
