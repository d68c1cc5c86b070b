/** What a folder of src may import besides itself, type imports included. */
const MAY_IMPORT = {
  base: [],
  session: ['base'],
  store: ['base', 'session'],
  response: ['base', 'session'],
  stores: ['base', 'session', 'store'],
  features: ['base', 'session', 'store', 'stores', 'options'],
  options: ['base', 'session', 'store', 'features'],
  request: ['base', 'session', 'store', 'response', 'options', 'features'],
}

/** The one look up: the data that applications declare on the public face. See src/session/augmented.ts. */
const AUGMENTED = '^src/session/augmented\\.ts$'

module.exports = {
  forbidden: [
    {
      name: 'no-circles',
      severity: 'error',
      from: { pathNot: AUGMENTED },
      to: { circular: true, viaOnly: { pathNot: AUGMENTED } },
    },
    ...Object.entries(MAY_IMPORT).map(([folder, others]) => ({
      name: `${folder}-is-below`,
      severity: 'error',
      from: { path: `^src/${folder}/`, pathNot: AUGMENTED },
      to: { path: '^src/', pathNot: `^src/(${[folder, ...others].join('|')})/` },
    })),
    {
      name: 'features-are-not-known-by-name',
      comment: 'What a request needs of features is told by their hooks: only types are imported.',
      severity: 'error',
      from: { path: '^src/request/' },
      to: { path: '^src/features/', dependencyTypesNot: ['type-only'] },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
  },
}
