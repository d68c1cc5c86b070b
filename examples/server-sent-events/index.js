// A stream of events that ends when its session does.
const { setTimeout } = require('node:timers/promises')
const express = require('express')
const session = require('sessile')

const app = express()
const sessions = session(process.env.SESSION_SECRET ?? 'set SESSION_SECRET to the output of: openssl rand -base64 32')
app.use(sessions)

app.post('/login', (req, res) => {
  req.session.user = 'ada'
  res.send('in')
})

app.post('/logout', async (req, res) => {
  await req.session.destroy()
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

const server = app.listen(process.env.PORT ?? 3000, () => console.log(`http://localhost:${server.address().port}/`))
