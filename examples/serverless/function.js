// An Express app as an AWS Lambda function. What is made once is kept between calls, and nothing runs when no call does.
const express = require('express')
const serverless = require('serverless-http')
const session = require('sessile')
const { DynamoDBStore } = require('sessile/dynamodb')

const WEEK = 7 * 24 * 60 * 60 * 1000

const store = new DynamoDBStore({ table: process.env.TABLE })
const app = express()
// A function is called by AWS, which says in X-Forwarded-Proto that its client has used HTTPS.
app.set('trust proxy', 1)
// A write costs five reads: a session that was renewed within the last hour is not renewed again.
app.use(session(process.env.SESSION_SECRET, { store, touchAfter: 3_600_000, cookie: { maxAge: WEEK } }))

app.get('/', (req, res) => {
  req.session.calls = (req.session.calls ?? 0) + 1
  res.send(`calls: ${req.session.calls}`)
})

app.post('/forget', async (req, res) => {
  await req.session.destroy()
  res.sendStatus(204)
})

module.exports = { app, handler: serverless(app) }
