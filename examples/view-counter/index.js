// @ts-check
// Counts how often each visitor has seen each page.
const { randomBytes } = require('node:crypto')
const express = require('express')
const session = require('sessile')

const app = express()

// An app keeps its secret from one start to the next: otherwise all visitors are new then.
app.use(session(process.env.SESSION_SECRET ?? randomBytes(32)))

app.use((req, res) => {
  const views = (req.session.views ??= {})
  views[req.path] = (views[req.path] ?? 0) + 1
  res.type('text').send(`You have seen ${req.path} ${views[req.path]} times\n`)
})

const server = app.listen(Number(process.env.PORT ?? 3000), (error) => {
  if (error) throw error
  const address = server.address()
  console.log(`http://localhost:${typeof address === 'object' ? address?.port : address}/`)
})
