const cookieParser = require('cookie-parser')
const express = require('express')
const session = require('sessile')

const app = express()
app.use(cookieParser())
app.use(session({ secret: 'Shh, its a secret!', resave: true, saveUninitialized: true }))

app.get('/', (req, res) => {
  req.session.visits = (req.session.visits || 0) + 1
  res.send(`visits: ${req.session.visits}, cookies: ${Object.keys(req.cookies).length}`)
})

const server = app.listen(process.env.PORT ?? 3000, (error) => {
  if (error) throw error
  console.log(`http://localhost:${server.address().port}/`)
})
