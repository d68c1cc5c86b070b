// @ts-check
// A login with a form: a new session at the login, stored before the redirect, and none left after the logout.
const { scrypt, randomBytes, timingSafeEqual } = require('node:crypto')
const { promisify } = require('node:util')
const express = require('express')
const session = require('sessile')

const hash = promisify(scrypt)

/** One user, `ada` with the password `lovelace`: an application has them in its database. */
const salt = randomBytes(16)
const users = new Map([['ada', hash('lovelace', salt, 32)]])

/** @param {string} name @param {string} password */
async function isUser(name, password) {
  const known = /** @type {Buffer | undefined} */ (await users.get(name))
  const given = /** @type {Buffer} */ (await hash(password, salt, 32))
  return known !== undefined && timingSafeEqual(known, given)
}

/** @param {unknown} text */
function escape(text) {
  return String(text).replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)
}

const app = express()
const sessions = session(process.env.SESSION_SECRET ?? randomBytes(32), {
  cookie: { maxAge: 7 * 24 * 60 * 60 * 1000, sameSite: 'lax', secure: 'auto' },
})
app.use(sessions.sameOrigin())
app.use(sessions)
app.use(express.urlencoded({ extended: false }))

app.get('/', (req, res) => {
  const { user } = req.session
  res.send(
    user
      ? `<!doctype html><title>Login</title><p>Hello ${escape(user)}</p><form method="post" action="/logout"><button>Log out</button></form>`
      : `<!doctype html><title>Login</title><form method="post" action="/login">
           <label>Name <input name="name"></label>
           <label>Password <input name="password" type="password"></label>
           <button>Log in</button>
         </form>`,
  )
})

app.post('/login', async (req, res, next) => {
  try {
    const { name = '', password = '' } = req.body ?? {}
    if (!(await isUser(name, password))) return void res.status(401).send('<p>Wrong name or password</p>')
    // A new session, against fixation: whoever knew the ID of the session before, does not know this one.
    await sessions.login(req, { user: name })
    res.redirect('/')
  } catch (error) {
    next(error)
  }
})

app.post('/logout', async (req, res, next) => {
  try {
    await sessions.logout(req)
    res.redirect('/')
  } catch (error) {
    next(error)
  }
})

const server = app.listen(Number(process.env.PORT ?? 3000), (error) => {
  if (error) throw error
  const address = server.address()
  console.log(`http://localhost:${typeof address === 'object' ? address?.port : address}/`)
})
