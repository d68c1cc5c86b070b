// @ts-check
// Counts how often each visitor has seen each page.
const express = require('express')
const session = require('sessile')

/** @typedef {{ views?: Record<string, number> }} Data */

const app = express()

app.use(session(process.env.SESSION_SECRET ?? 'set SESSION_SECRET to the output of: openssl rand -base64 32'))

app.use((req, res) => {
  const data = /** @type {Data} */ (/** @type {unknown} */ (req.session))
  data.views ??= {}
  data.views[req.path] = (data.views[req.path] ?? 0) + 1
  res.type('text').send(`You have seen ${req.path} ${data.views[req.path]} times\n`)
})

const server = app.listen(Number(process.env.PORT ?? 3000), () => {
  const address = server.address()
  console.log(`http://localhost:${typeof address === 'object' ? address?.port : address}/`)
})
