import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const signature = require('cookie-signature')
const uid = require('uid-safe')

export const SECRET = 'a secret of the benchmark, long enough for HMAC-SHA-256'
export const DAY = 86_400_000
export const COOKIE_NAME = 'connect.sid'

/** What both libraries are given, so that they do the same. */
export const OPTIONS = { secret: SECRET, resave: false, saveUninitialized: false, cookie: { maxAge: DAY } }

/** The data of a session whose JSON is `size` bytes long without its cookie: a user, a counter, a cart, a filler. */
export function sessionData(size) {
  const data = {
    user: { id: 4711, name: 'Ada Lovelace', email: 'ada@example.com', roles: ['user', 'editor'] },
    views: 1_000_000,
    cart: [],
    note: '',
  }
  const item = (number) => ({
    sku: `A-${100_000 + number}`,
    title: 'Cotton shirt, blue',
    quantity: 2,
    price: 2490,
    options: { size: 'M', gift: false },
  })
  const left = size - JSON.stringify(data).length
  const items = Math.floor(left / (JSON.stringify(item(0)).length + 1))
  for (let number = 0; number < items; number++) data.cart.push(item(number))
  data.note = 'x'.repeat(size - JSON.stringify(data).length)
  return data
}

/** The same data as a store is handed it: with its cookie. */
export function storedSession(size) {
  return {
    cookie: { originalMaxAge: DAY, expires: new Date(Date.now() + DAY), httpOnly: true, path: '/' },
    ...sessionData(size),
  }
}

export function sessionIds(count) {
  return Array.from({ length: count }, () => uid.sync(24))
}

/** The Cookie header of a browser that holds this session's cookie, among others. */
export function cookieHeader(id) {
  const value = encodeURIComponent(`s:${signature.sign(id, SECRET)}`)
  return `_ga=GA1.1.1843512207.1718020000; ${COOKIE_NAME}=${value}; theme=dark`
}

/** The ID in a Set-Cookie header. */
export function idOf(setCookie) {
  const [pair] = setCookie.split(';')
  const value = decodeURIComponent(pair.slice(pair.indexOf('=') + 1))
  return signature.unsign(value.slice(2), SECRET)
}

/** Calls a store's method and waits for its callback. */
export function ask(store, method, ...args) {
  return new Promise((resolve, reject) => {
    store[method](...args, (error, value) => (error ? reject(error) : resolve(value)))
  })
}
