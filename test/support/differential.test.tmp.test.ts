import { test, expect } from 'vitest'
import express from 'express'
import { implementations, SECRET } from './app'
import { exchange } from './exchange'
test.each(Object.entries(implementations))('%s', async (_n, session) => {
  const app = express()
  app.use(session({ secret: SECRET, resave: false, saveUninitialized: true }))
  app.get('/', (req, res) => {
    ;(req.session as any).v = 1
    res.send('hello ' + req.sessionID.length)
  })
  console.log(await exchange(app, { headers: {} }))
  const t = Date.now()
  for (let i = 0; i < 2000; i++) await exchange(app, { headers: {} })
  console.log(Date.now() - t)
})
