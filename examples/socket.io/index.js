// socket.io on the session of the page: what a socket stores, the next request finds.
const { randomBytes } = require('node:crypto')
const { createServer } = require('node:http')
const express = require('express')
const session = require('sessile')
const { Server } = require('socket.io')

const app = express()
const sessions = session(process.env.SESSION_SECRET ?? randomBytes(32))
app.use(sessions)

app.get('/', (req, res) => {
  req.session.visits = (req.session.visits ?? 0) + 1
  res.send(page(`visits: ${req.session.visits}, messages: ${req.session.messages ?? 0}`))
})

function page(text) {
  return `<!doctype html>
<title>socket.io</title>
<p>${text}</p><button>Send a message</button>
<script src="/socket.io/socket.io.js"></script>
<script>
  const socket = io()
  document.querySelector('button').onclick = async () => {
    document.querySelector('p').textContent = await socket.emitWithAck('message', 'hello')
  }
</script>
`
}

const server = createServer(app)
const io = new Server(server)
io.engine.use(sessions)

io.on('connection', (socket) => {
  socket.on('message', async (text, answer) => {
    // Exact, even if messages come in at the same time as requests.
    await sessions.update(socket.request, (data) => {
      data.messages = (data.messages ?? 0) + 1
    })
    answer(`${text}: ${socket.request.session.messages} messages`)
  })
})

server.listen(process.env.PORT ?? 3000, () => console.log(`http://localhost:${server.address().port}/`))
