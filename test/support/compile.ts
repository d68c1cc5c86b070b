import path from 'node:path'
import ts from 'typescript'

/** What the compiler has against a source, by the text of the line; strict, as this project, but for the options given. */
export function complaints(source: string, changes: ts.CompilerOptions = {}): string[] {
  const file = path.resolve('test', 'source-of-a-user.ts')
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.Node16,
    moduleResolution: ts.ModuleResolutionKind.Node16,
    lib: ['lib.es2023.d.ts'],
    types: ['node'],
    strict: true,
    esModuleInterop: true,
    skipLibCheck: true,
    noEmit: true,
    ...changes,
  }
  const host = ts.createCompilerHost(options)
  const { getSourceFile, fileExists, readFile } = host
  host.fileExists = (name) => name === file || fileExists(name)
  host.readFile = (name) => (name === file ? source : readFile(name))
  host.getSourceFile = (name, version, ...rest) =>
    name === file ? ts.createSourceFile(name, source, version) : getSourceFile(name, version, ...rest)
  const diagnostics = ts.getPreEmitDiagnostics(ts.createProgram([file], options, host))
  return diagnostics.map(({ file: where, start, messageText }) => {
    const message = ts.flattenDiagnosticMessageText(messageText, ' ')
    if (where?.fileName !== file || start === undefined) return `${where?.fileName ?? ''}: ${message}`
    return source.split('\n')[where.getLineAndCharacterOfPosition(start).line]?.trim() ?? message
  })
}
