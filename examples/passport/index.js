// Passport with a local strategy. It regenerates the session at login and logout by itself.
const { randomBytes } = require('node:crypto')
const express = require('express')
const passport = require('passport')
const { Strategy } = require('passport-local')
const session = require('sessile')

passport.use(
  new Strategy((name, password, done) => done(null, name === 'ada' && password === 'lovelace' ? { name } : false)),
)
passport.serializeUser((user, done) => done(null, user.name))
passport.deserializeUser((name, done) => done(null, { name }))

const app = express()
app.use(session(process.env.SESSION_SECRET ?? randomBytes(32)))
app.use(express.urlencoded({ extended: false }))
app.use(passport.session())

app.get('/', (req, res) => res.send(req.user ? `Hello ${req.user.name}` : 'Hello stranger'))
app.post('/login', passport.authenticate('local', { successRedirect: '/', failureRedirect: '/' }))
app.post('/logout', (req, res, next) => req.logout((error) => (error ? next(error) : res.redirect('/'))))

const server = app.listen(process.env.PORT ?? 3000, (error) => {
  if (error) throw error
  console.log(`http://localhost:${server.address().port}/`)
})
