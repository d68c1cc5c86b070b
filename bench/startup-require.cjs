// Times one require in a new process: node --expose-gc bench/startup-require.cjs <package folder> [folder of what is loaded before]
const used = () => {
  globalThis.gc()
  return process.memoryUsage().heapUsed
}
// What loading any package costs for the first time is not the package's.
require('node:path')
if (process.argv[3]) require(process.argv[3])
const loadedBefore = Object.keys(require.cache).length

const bytesBefore = used()
const before = process.hrtime.bigint()
require(process.argv[2])
const milliseconds = Number(process.hrtime.bigint() - before) / 1e6
const files = Object.keys(require.cache).length - loadedBefore
process.send({ milliseconds, bytes: used() - bytesBefore, files })
