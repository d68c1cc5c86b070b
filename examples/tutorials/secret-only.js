const express = require('express')
const session = require('sessile')

const app = express()
app.use(session({ secret: 'Shh, its a secret!' }))

app.get('/', (req, res) => {
  req.session.name ??= 'a new visitor'
  res.send(`Hello, ${req.session.name}`)
})

app.get('/name/:name', (req, res) => {
  req.session.name = req.params.name.replace(/\W/g, '')
  res.redirect('/')
})

const server = app.listen(process.env.PORT ?? 3000, (error) => {
  if (error) throw error
  console.log(`http://localhost:${server.address().port}/`)
})
