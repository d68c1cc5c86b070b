import { SECRET } from '../support/app'
import { exchange } from '../support/exchange'
import { setCookies, signedCookie } from '../support/set-cookie'
import { appWith, classicStore, fault, record } from './fault'

const known = (): Map<string, string> => new Map([['known', record({ user: 'ada' })]])

/** The attributes of the session cookies that were sent. */
function sent(headers: [string, string][]): string[] {
  return setCookies(Object.fromEntries(headers)).map((line) => line.slice(line.indexOf(';') + 2))
}

fault(7, 'a planted cookie of the same name, standing first, logs the user out', {
  async scenario(session) {
    const app = appWith(session, { store: classicStore(session, known()) }, (req, res) => {
      res.send(`user ${req.session.user}`)
    })
    const planted = [
      'connect.sid=s:planted.bad',
      'connect.sid=rubbish',
      signedCookie('known', 'the secret of somebody else'),
    ]
    const answers = planted.map((first) =>
      exchange(app as never, { headers: { cookie: `${first}; ${signedCookie('known', SECRET)}` } }),
    )
    return (await Promise.all(answers)).map(({ body }) => body)
  },
  original: ['user undefined', 'user undefined', 'user undefined'],
  sessile: ['user ada', 'user ada', 'user ada'],
})

fault(14, "secure: 'auto' and sameSite: 'auto' are ignored when cookie is a function", {
  async scenario(session) {
    const app = appWith(
      session,
      { saveUninitialized: true, proxy: true, cookie: () => ({ secure: 'auto', sameSite: 'auto' }) },
      (_req, res) => res.send('hello'),
    )
    const plain = await exchange(app as never)
    const secure = await exchange(app as never, { headers: { 'x-forwarded-proto': 'https' } })
    return { plain: sent(plain.headers), secure: sent(secure.headers) }
  },
  original: { plain: [], secure: [] },
  sessile: { plain: ['Path=/; HttpOnly; SameSite=Lax'], secure: ['Path=/; HttpOnly; Secure; SameSite=None'] },
})

fault(16, 'a handler that changes only the settings of the cookie has no cookie sent', {
  async scenario(session) {
    const app = appWith(session, { store: classicStore(session, known()) }, (req, res) => {
      req.session.cookie.maxAge = 30 * 24 * 3600 * 1000
      res.send('remembered')
    })
    const { headers } = await exchange(app as never, { headers: { cookie: signedCookie('known', SECRET) } })
    return sent(headers).map((line) => line.replace(/Expires=[^;]+/, 'Expires=…'))
  },
  original: [] as string[],
  sessile: ['Path=/; Expires=…; HttpOnly'],
})

fault(17, 'a cookie path of /admin matches /administrator', {
  async scenario(session) {
    const app = appWith(session, { cookie: { path: '/admin' } }, (req, res) => res.send(typeof req.session))
    const answers = ['/admin', '/admin/', '/admin/users', '/admin?page=2', '/administrator', '/'].map(async (url) => [
      url,
      (await exchange(app as never, { url })).body,
    ])
    return Object.fromEntries(await Promise.all(answers)) as Record<string, string>
  },
  original: {
    '/admin': 'object',
    '/admin/': 'object',
    '/admin/users': 'object',
    '/admin?page=2': 'object',
    '/administrator': 'object',
    '/': 'undefined',
  },
  sessile: {
    '/admin': 'object',
    '/admin/': 'object',
    '/admin/users': 'object',
    '/admin?page=2': 'object',
    '/administrator': 'undefined',
    '/': 'undefined',
  },
})

fault(21, 'a cookie signed by an older secret is accepted for ever and never signed anew', {
  async scenario(session) {
    const store = classicStore(session, known())
    const app = appWith(session, { store, secret: ['a newer secret', SECRET] }, (_req, res) => {
      res.send('hello')
    })
    const { headers } = await exchange(app as never, { headers: { cookie: signedCookie('known', SECRET) } })
    const lines = setCookies(Object.fromEntries(headers)).map((line) => line.split(';', 1)[0])
    return lines.map((line) => line === signedCookie('known', 'a newer secret'))
  },
  original: [] as boolean[],
  sessile: [true],
})
