// @module-tag slow
import ts from 'typescript'
import { describe, expect, test } from 'vitest'
import { complaints } from '../support/compile'

describe.each(['express-session', 'sessile'])('what other packages lean on: the types of %s', (packageName) => {
  test('callable under import * with the old resolution and without interop', () => {
    const source = `import * as session from '${packageName}'
      const middleware = session({ secret: 's' })
      const options: session.SessionOptions = { secret: 's' }
      class OwnStore extends session.Store {
        get(id: string, callback: (error: any, data?: session.SessionData | null) => void) {}
        set(id: string, data: session.SessionData, callback?: (error?: any) => void) {}
        destroy(id: string, callback?: (error?: any) => void) {}
      }
      new session.MemoryStore(); export { middleware, options, OwnStore }`
    const old = { module: ts.ModuleKind.CommonJS, moduleResolution: ts.ModuleResolutionKind.Node10 }
    const paths = packageName === 'sessile' ? { sessile: ['./dist/index.d.ts'] } : {}
    expect(complaints(source, { ...old, esModuleInterop: false, paths, baseUrl: '.' })).toEqual([])
  })

  test('the properties of a request may be declared again', () => {
    const source = `import session from '${packageName}'
      declare global {
        namespace Express {
          interface Request {
            session: session.Session & Partial<session.SessionData>
            sessionID: string
          }
        }
      }
      export const store = (req: import('express').Request): Express.SessionStore => req.sessionStore
      declare module '${packageName}' { interface SessionData { user: string } }
      export const user = (req: import('express').Request): string | undefined => req.session.user`
    expect(complaints(source)).toEqual([])
  })
})

test('@types/express-session may be installed beside it', () => {
  const source = `import session from 'sessile'
    import { Store } from 'sessile'
    export const middleware = session({ secret: 's', store: undefined as unknown as Store })
    export const views = (req: import('express').Request) => req.session.cookie.maxAge`
  expect(complaints(source, { types: ['node', 'express-session'] })).toEqual([])
})
