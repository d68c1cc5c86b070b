// Writes sessions to a SQLite file and says so, until it is killed: node crash-writer.cjs <file> <from>
const Database = require('libsql')
const { SqliteStore } = require('../../dist/stores/sqlite')

const [file, from] = process.argv.slice(2)
const store = new SqliteStore({ database: new Database(file) })
const text = JSON.stringify({ cookie: {}, filler: 'x'.repeat(500) })

for (let n = Number(from); ; n++) {
  store.write(`session-${n}`, text, Date.now() + 3_600_000, 'absent')
  // Synchronous, so that what is said has been written, and everything said arrives.
  require('node:fs').writeSync(1, `${n}\n`)
}
