const express = require('express')
const parseurl = require('parseurl')
const session = require('sessile')

const app = express()
app.use(session({ secret: 'keyboard cat', resave: false, saveUninitialized: true }))

app.use((req, res, next) => {
  if (!req.session.views) req.session.views = {}
  const { pathname } = parseurl(req)
  req.session.views[pathname] = (req.session.views[pathname] || 0) + 1
  next()
})

app.get('/foo', (req, res) => res.send(`you viewed this page ${req.session.views['/foo']} times`))
app.get('/bar', (req, res) => res.send(`you viewed this page ${req.session.views['/bar']} times`))

const server = app.listen(process.env.PORT ?? 3000, (error) => {
  if (error) throw error
  console.log(`http://localhost:${server.address().port}/`)
})
