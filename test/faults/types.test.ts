// @module-tag slow
import { original } from '../support/app'
import { complaints } from '../support/compile'
import { fault } from './fault'

/** The source of a user, each line of which the types should accept. */
const SOURCE = `
import type { Request } from 'express'
export function login(req: Request) {
  session({ secret: 's', cookie: { sameSite: 'auto' } })
  const saved: Promise<void> = req.session.save()
  const destroyed: Promise<void> = req.session.destroy()
  const reloaded: Promise<void> = req.session.reload()
  const regenerated: Promise<void> = req.session.regenerate()
  return Promise.all([saved, destroyed, reloaded, regenerated])
}`

fault(19, "the types refuse sameSite: 'auto', promises, and calls without a callback", {
  scenario(session) {
    const module = session === original ? 'express-session' : 'sessile'
    return Promise.resolve([...new Set(complaints(`import session from '${module}'${SOURCE}`))])
  },
  original: [
    "session({ secret: 's', cookie: { sameSite: 'auto' } })",
    'const saved: Promise<void> = req.session.save()',
    'const destroyed: Promise<void> = req.session.destroy()',
    'const reloaded: Promise<void> = req.session.reload()',
    'const regenerated: Promise<void> = req.session.regenerate()',
  ],
  sessile: [] as string[],
})
