// A stream of events that ends when its session does.
const { randomBytes } = require('node:crypto')
const { setTimeout } = require('node:timers/promises')
const express = require('express')
const session = require('sessile')

const app = express()
const sessions = session(process.env.SESSION_SECRET ?? randomBytes(32))
app.use(sessions)

app.get('/', (req, res) => {
  res.send(`<!doctype html>
<title>Events</title>
<button id="login">Log in</button> <button id="logout">Log out</button>
<pre></pre>
<script>
  const show = (text) => (document.querySelector('pre').textContent += text + '\\n')
  login.onclick = async () => {
    await fetch('/login', { method: 'POST' })
    const events = new EventSource('/events')
    events.onmessage = ({ data }) => show(data)
    events.addEventListener('end', ({ data }) => {
      show(data)
      events.close()
    })
  }
  logout.onclick = () => fetch('/logout', { method: 'POST' })
</script>
`)
})

app.post('/login', async (req, res) => {
  await sessions.login(req, { user: 'ada' })
  res.send('in')
})

app.post('/logout', async (req, res) => {
  await sessions.logout(req)
  res.send('out')
})

app.get('/events', async (req, res) => {
  const { sessionID } = req
  if (!req.session.user) return res.sendStatus(401)
  res.set({ 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' })
  for (let count = 1; !res.closed; count++) {
    // The session as it is now: the one of this request is as old as the request.
    const current = await sessions.get(sessionID)
    if (!current) return res.end('event: end\ndata: logged out\n\n')
    res.write(`data: ${current.user} ${count}\n\n`)
    await setTimeout(500)
  }
})

const server = app.listen(process.env.PORT ?? 3000, (error) => {
  if (error) throw error
  console.log(`http://localhost:${server.address().port}/`)
})
