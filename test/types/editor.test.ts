// @module-tag slow
import path from 'node:path'
import ts from 'typescript'
import { describe, expect, test } from 'vitest'

/** What an editor makes of a program that uses the library. */
const file = path.resolve('test', 'source-of-a-user.ts')
const HEAD = `import session from '../src'\n`
/** What the programs share is parsed once. */
const registry = ts.createDocumentRegistry()

function editor(source: string): ts.LanguageService {
  const { sys } = ts
  const host: ts.LanguageServiceHost = {
    getScriptFileNames: () => [file],
    getScriptVersion: (name) => (name === file ? source : '1'),
    getScriptSnapshot: (name) => {
      const text = name === file ? source : sys.readFile(name)
      return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text)
    },
    getCurrentDirectory: () => process.cwd(),
    getCompilationSettings: () => ({
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.Node16,
      moduleResolution: ts.ModuleResolutionKind.Node16,
      types: ['node'],
      strict: true,
      esModuleInterop: true,
      skipLibCheck: true,
      noEmit: true,
    }),
    getDefaultLibFileName: (options) => ts.getDefaultLibFilePath(options),
    fileExists: sys.fileExists,
    readFile: sys.readFile,
    directoryExists: sys.directoryExists,
    getDirectories: sys.getDirectories,
  }
  return ts.createLanguageService(host, registry)
}

/** The names offered where the source has `|`. */
function offered(source: string): string[] {
  const text = HEAD + source
  const completions = editor(text.replace('|', '')).getCompletionsAtPosition(file, text.indexOf('|'), {})
  return completions?.entries.map(({ name }) => name) ?? []
}

function complaints(source: string): string {
  const found = editor(HEAD + source).getSemanticDiagnostics(file)
  return found.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')).join('\n')
}

describe('session()', () => {
  test('is offered its options, and nothing else', () => {
    const names = offered('session({ | })')
    expect(names).toEqual(expect.arrayContaining(['secret', 'store', 'saveUninitialized', 'signName', 'user']))
    expect(names.filter((name) => /byte|buffer|slice|asymmetric|BYTES/i.test(name))).toEqual([])
  })

  test('after a secret, too, and there no other secret', () => {
    const names = offered(`session('a secret', { | })`)
    expect(names).toEqual(expect.arrayContaining(['store', 'cookie', 'user']))
    expect(names).not.toContain('secret')
  })

  test.each(['session({ saveUnitialized: false })', `session('x', { saveUnitialized: false })`])(
    'a misspelt option says what may be meant: %s',
    (source) => {
      expect(complaints(source)).toContain(`Did you mean to write 'saveUninitialized'?`)
    },
  )

  test('takes every form that it has', () => {
    const source = `import type { SessionOptions } from '../src'
      declare const options: SessionOptions | undefined
      export const all = [session(), session({}), session(options), session(process.env['SECRET']), session('x'), session(['x', 'y']),
        session(Buffer.alloc(32), {}), session(['x'], { cookie: { maxAge: 5 }, name: 'sid' })]
      // @ts-expect-error a number is no secret
      session(5)
      // @ts-expect-error a store is no options
      session('x', new session.MemoryStore())
      // @ts-expect-error two secrets
      session('x', { secret: 'y' })
      // @ts-expect-error too many
      session('x', {}, {})`
    expect(complaints(source)).toBe('')
  })
})

describe('the middleware', () => {
  test('is one of Express, and takes requests of node:http and socket.io', () => {
    const source = `import { createServer } from 'node:http'
      import express from 'express'
      const sessions = session('x')
      express().use(sessions).use('/a', sessions).get('/b', sessions, (req, res) => void res.json(req.session.id))
      export const handler: express.RequestHandler = sessions
      createServer((req, res) => sessions(req, res, (error) => void res.end(String(error))))`
    expect(complaints(source)).toBe('')
  })

  test('sessions.get gives data that may lack each key', () => {
    const source = `declare module '../src' { interface SessionData { userId: number } }
      const sessions = session('x')
      export async function userOf(id: string): Promise<number | undefined> {
        const data = await sessions.get(id)
        data?.cookie.path
        // @ts-expect-error it may be missing
        const user: number | undefined = data && (data.userId satisfies number)
        return user
      }`
    expect(complaints(source)).toBe('')
  })

  test('users may be nobody, as keys of a session are', () => {
    const source = `const sessions = session('x')
      export async function list(user: number | undefined, other: string | null) {
        return [await sessions.users.list(user), await sessions.users.end(other, 'x'), await sessions.users.endAll(user)]
      }`
    expect(complaints(source)).toBe('')
  })
})
