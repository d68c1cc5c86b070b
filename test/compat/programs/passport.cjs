// Passport with a local strategy, and messages with connect-flash.
const express = require('express')
const session = require('express-session')
const flash = require('connect-flash')
const passport = require('passport')
const { Strategy } = require('passport-local')

passport.use(
  new Strategy((username, password, done) =>
    password === 'right' ? done(null, { name: username }) : done(null, false, { message: 'wrong password' }),
  ),
)
passport.serializeUser((user, done) => done(null, user.name))
passport.deserializeUser((name, done) => done(null, { name }))

const app = express()
app.use(session({ secret: 'a secret for tests only, 3f9c2a7d51', resave: false, saveUninitialized: false }))
app.use(flash())
app.use(passport.session())
app.use((req, res, next) => {
  req.body = req.query
  next()
})
app.get(
  '/login',
  passport.authenticate('local', { failureRedirect: '/failed', failureFlash: true, successRedirect: '/me' }),
)
app.get('/login-keeping', passport.authenticate('local', { keepSessionInfo: true }), (req, res) =>
  res.send(req.user.name),
)
app.get('/failed', (req, res) => res.send(req.flash('error').join()))
app.get('/me', (req, res) => res.send(JSON.stringify({ user: req.user?.name, cart: req.session.cart })))
app.get('/cart', (req, res) => res.send(String((req.session.cart = req.query.put))))
app.get('/logout', (req, res, next) => req.logout((error) => (error ? next(error) : res.redirect('/me'))))
app.get('/logout-and-destroy', (req, res) => {
  req.logout((error) => res.send(error ? error.code : 'out'))
  req.session.destroy(() => undefined)
})

const server = app.listen(0, '127.0.0.1', () => {
  process.send({ port: server.address().port, sessions: require('express-session/package.json').name })
})
