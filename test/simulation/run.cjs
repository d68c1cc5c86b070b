// Runs the simulator without vitest: npm run simulate -- [number of schedules] [--seed n] [--from n] [--orders n] [--kept n]
const { readFileSync } = require('node:fs')
const ts = require('typescript')

const compilerOptions = { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022, esModuleInterop: true }

require.extensions['.ts'] = (module, fileName) => {
  const { outputText } = ts.transpileModule(readFileSync(fileName, 'utf8'), { compilerOptions, fileName })
  module._compile(outputText, fileName)
}

process.removeAllListeners('warning')
require('./main.ts')
