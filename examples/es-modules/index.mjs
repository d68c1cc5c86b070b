// The view counter as an ES module.
import { randomBytes } from 'node:crypto'
import express from 'express'
import session, { MemoryStore } from 'sessile'

const app = express()
app.use(session(process.env.SESSION_SECRET ?? randomBytes(32), { store: new MemoryStore({ max: 100_000 }) }))

app.get('/', (req, res) => {
  req.session.views = (req.session.views ?? 0) + 1
  res.send(`views: ${req.session.views}`)
})

const server = app.listen(process.env.PORT ?? 3000, (error) => {
  if (error) throw error
  console.log(`http://localhost:${server.address().port}/`)
})
