// Runs the simulator without vitest; see main.ts.
const { readFileSync } = require('node:fs')
const Module = require('node:module')
const path = require('node:path')
const { transformSync } = require('esbuild')

require.extensions['.ts'] = (module, file) => {
  const { code } = transformSync(readFileSync(file, 'utf8'), { loader: 'ts', format: 'cjs', target: 'node20' })
  module._compile(code, file)
}

const library = process.env.SIMULATE_LIBRARY
const resolve = Module._resolveFilename
Module._resolveFilename = (request, ...rest) =>
  resolve(library && request === '../../src' ? path.resolve(library) : request, ...rest)

process.removeAllListeners('warning')
require('./main.ts')
