import path from 'node:path'
import ts from 'typescript'

/** What programs share is parsed once. */
const parsed = new Map<string, ts.SourceFile | undefined>()

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
  host.getSourceFile = (name, version, ...rest) => {
    if (name === file) return ts.createSourceFile(name, source, version)
    const key = JSON.stringify([name, version])
    if (!parsed.has(key)) parsed.set(key, getSourceFile(name, version, ...rest))
    return parsed.get(key)
  }
  const diagnostics = ts.getPreEmitDiagnostics(ts.createProgram([file], options, host))
  return diagnostics.map(({ file: where, start, messageText }) => {
    const message = ts.flattenDiagnosticMessageText(messageText, ' ')
    if (where?.fileName !== file || start === undefined) return `${where?.fileName ?? ''}: ${message}`
    return source.split('\n')[where.getLineAndCharacterOfPosition(start).line]?.trim() ?? message
  })
}
