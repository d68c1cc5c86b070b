// socket.io on the sessions of an Express app, as its documentation has it.
const express = require('express')
const { createServer } = require('node:http')
const session = require('express-session')
const { Server } = require('socket.io')

const app = express()
const sessions = session({ secret: 'a secret for tests only, 3f9c2a7d51', resave: false, saveUninitialized: true })
app.use(sessions)
app.get('/login', (req, res) => res.send((req.session.user = req.query.user)))
app.get('/me', (req, res) => res.send(`${req.session.user} ${req.session.messages}`))

const server = createServer(app)
const io = new Server(server, {
  allowRequest: (req, callback) => callback(null, !req.url.includes('refuse')),
})
io.engine.use(sessions)
io.on('connection', (socket) => {
  const { request } = socket
  socket.on('whoami', (answer) => answer(request.session.user))
  socket.on('count', (answer) =>
    request.session.reload((error) => {
      if (error) return answer(error.message)
      request.session.messages = (request.session.messages ?? 0) + 1
      request.session.save(() => answer(request.session.messages))
    }),
  )
})

server.listen(0, '127.0.0.1', () => {
  process.send({ port: server.address().port, sessions: require('express-session/package.json').name })
})
