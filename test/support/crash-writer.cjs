// Writes sessions to a SQLite file and says so, until it is killed: node crash-writer.cjs <file> <from> <driver>
const { SqliteStore } = require('../../dist/stores/sqlite')

const [file, from, driver] = process.argv.slice(2)
const store = new SqliteStore(driver === 'node:sqlite' ? { file } : { database: open() })
const text = JSON.stringify({ cookie: {}, filler: 'x'.repeat(500) })

function open() {
  const database = new (require(driver))(file)
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 5000')
  return database
}

for (let n = Number(from); ; n++) {
  store.write(`session-${n}`, text, Date.now() + 3_600_000, 'absent')
  // Synchronous, so that what is said has been written, and everything said arrives.
  require('node:fs').writeSync(1, `${n}\n`)
}
