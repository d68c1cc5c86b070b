/** What a folder of src may import besides itself, type imports included. */
const MAY_IMPORT = {
  base: [],
  session: ['base'],
  store: ['base', 'session'],
  response: ['base', 'session'],
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
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
  },
}
