const express = require('express')
const session = require('sessile')

const app = express()
app.use(session({ secret: 'Shh, its a secret!', resave: false, saveUninitialized: true }))

app.get('/', (req, res) => {
  if (req.session.page_views) {
    req.session.page_views++
    res.send(`You visited this page ${req.session.page_views} times`)
  } else {
    req.session.page_views = 1
    res.send('Welcome to this page for the first time!')
  }
})

const server = app.listen(process.env.PORT ?? 3000, (error) => {
  if (error) throw error
  console.log(`http://localhost:${server.address().port}/`)
})
