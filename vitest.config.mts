import { defineConfig } from 'vitest/config'

// `npm run matrix` has the tests run on the packed library, and on other versions of Express.
const { PACKED_LIBRARY: packed, EXPRESS: express = 'express' } = process.env
const library = [
  { find: /^(?:\.\.\/)+src$/, replacement: `${packed}/dist/index.js` },
  { find: /^(?:\.\.\/)+src\/testing$/, replacement: `${packed}/dist/testing/index.js` },
  { find: /^(?:\.\.\/)+src\/(.+)$/, replacement: `${packed}/dist/$1.js` },
]

export default defineConfig({
  resolve: { alias: [...(packed ? library : []), { find: /^express$/, replacement: express }] },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: 'test/support/build.ts',
    env: { NO_DEPRECATION: 'express-session' },
    testTimeout: 30_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    maxConcurrency: 20,
  },
})
