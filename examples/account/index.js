// @ts-check
// "Where you're logged in": the devices of an account, logging out one of them or all others.
const { randomBytes } = require('node:crypto')
const path = require('node:path')
const express = require('express')
const session = require('sessile')
const { accountPage, loginPage } = require('./pages')
const { openStore } = require('./store')
const { findUser } = require('./users')

const MINUTE = 60_000
const DAY = 24 * 60 * MINUTE

/** @param {import('sessile').Store} store */
function createApp(store) {
  const app = express()
  const sessions = session(process.env.SESSION_SECRET ?? randomBytes(32), {
    store,
    name: 'account',
    cookie: { sameSite: 'lax', secure: 'auto', maxAge: 30 * DAY },
    idleTimeout: 7 * DAY,
    absoluteTimeout: 30 * DAY,
    renewalTimeout: 60 * MINUTE,
    hashIds: true,
    user: (data) => data.user,
    describe: (req) => ({ agent: req.get('user-agent'), address: req.ip?.replace('::ffff:', '') }),
    maxSessionsPerUser: 10,
  })

  app.disable('x-powered-by')
  app.use(express.static(path.join(__dirname, 'public')))
  app.use(express.urlencoded({ extended: false }))
  app.use(sessions.sameOrigin())
  app.use(sessions)

  app.get('/', async (req, res) => {
    const { user } = req.session
    const [message] = await sessions.flash(req).take('info')
    res.set('Cache-Control', 'no-store')
    if (user === undefined) return void res.send(loginPage({ message }))
    res.send(accountPage({ user, message, devices: await sessions.users.list(user, req) }))
  })

  app.post('/login', async (req, res) => {
    const { name = '', password = '' } = req.body ?? {}
    const user = await findUser(String(name), String(password))
    if (!user) return void res.status(401).send(loginPage({ name: String(name), error: 'Wrong name or password.' }))
    // A new session, against fixation: whoever knew the ID of the session before, does not know this one.
    await sessions.login(req, { user })
    res.redirect('/')
  })

  app.post('/logout', async (req, res) => {
    await sessions.logout(req)
    res.redirect('/')
  })

  app.post('/devices/:handle/logout', loggedIn, async (req, res) => {
    const { user = '' } = req.session
    const ended = await sessions.users.end(user, String(req.params['handle']))
    await sessions.flash(req).add('info', ended ? 'That device is logged out.' : 'That device was logged out already.')
    res.redirect('/')
  })

  app.post('/devices/logout-others', loggedIn, async (req, res) => {
    const ended = await sessions.users.endOthers(req)
    const devices = ended === 1 ? 'One other device is' : `${ended || 'No'} other devices are`
    await sessions.flash(req).add('info', `${devices} logged out.`)
    res.redirect('/')
  })

  app.use(explain)
  return app
}

/** @type {express.RequestHandler} */
function loggedIn(req, res, next) {
  if (req.session.user === undefined) return res.redirect('/')
  next()
}

/** @type {express.ErrorRequestHandler} */
function explain(error, _req, res, next) {
  if (error.code !== 'ERR_SESSION_CROSS_ORIGIN') return next(error)
  res.status(403).send('This form was sent from another site.')
}

async function main() {
  const server = createApp(await openStore()).listen(Number(process.env.PORT ?? 3000), (error) => {
    if (error) throw error
    const address = server.address()
    console.log(`http://localhost:${typeof address === 'object' ? address?.port : address}/`)
  })
}

main()
