// In the style of a serverless function: what is made once is kept between calls, and nothing runs when no call does.
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
  const secret = process.env.SESSION_SECRET ?? 'set SESSION_SECRET to the output of: openssl rand -base64 32'
  return session({ secret, store, resave: false, saveUninitialized: false, cookie: { maxAge: 3_600_000 } })
}

async function handler(req, res) {
  sessions ??= middleware()
  await new Promise((resolve, reject) => sessions(req, res, (error) => (error ? reject(error) : resolve())))
  req.session.calls = (req.session.calls ?? 0) + 1
  res.end(`calls: ${req.session.calls}`)
}

const server = createServer((req, res) => {
  handler(req, res).catch(() => res.writeHead(500).end())
})
server.listen(process.env.PORT ?? 3000, () => console.log(`http://localhost:${server.address().port}/`))
