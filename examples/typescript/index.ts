// The view counter in TypeScript: compile it with `tsc`, or run it with a loader of your choice.
import { randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import express from 'express'
import session from 'sessile'

declare module 'sessile' {
  interface SessionData {
    views: number
  }
}

const app = express()
app.use(session(process.env['SESSION_SECRET'] ?? randomBytes(32)))

app.get('/', (req, res) => {
  req.session.views = (req.session.views ?? 0) + 1
  res.send(`views: ${req.session.views}`)
})

const server = app.listen(process.env['PORT'] ?? 3000, (error) => {
  if (error) throw error
  console.log(`http://localhost:${(server.address() as AddressInfo).port}/`)
})
