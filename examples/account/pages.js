// @ts-check
/** @typedef {{ message?: unknown, error?: string, name?: string }} LoginPage */
/** @typedef {{ user: string, message?: unknown, devices: import('sessile').UserSession[] }} AccountPage */

/** @param {LoginPage} page */
function loginPage({ message, error, name = '' }) {
  return layout(
    'Log in',
    `<main class="narrow">
      <h1>Log in</h1>
      ${notice(message)}${error ? `<p class="notice error" role="alert">${escape(error)}</p>` : ''}
      <form method="post" action="/login" class="card stack">
        <label>Name <input name="name" value="${escape(name)}" autocomplete="username" required autofocus></label>
        <label>Password <input name="password" type="password" autocomplete="current-password" required></label>
        <button class="primary">Log in</button>
      </form>
      <p class="hint">Try <code>ada</code> with <code>lovelace</code>, or <code>grace</code> with <code>hopper</code>, in two
      browsers at once.</p>
    </main>`,
  )
}

/** @param {AccountPage} page */
function accountPage({ user, message, devices }) {
  const others = devices.filter(({ current }) => !current)
  return layout(
    'Where you’re logged in',
    `<header>
      <span class="avatar" aria-hidden="true">${escape(user.slice(0, 1).toUpperCase())}</span>
      <span class="who">${escape(user)}</span>
      <form method="post" action="/logout"><button>Log out</button></form>
    </header>
    <main>
      <h1>Where you’re logged in</h1>
      <p class="hint">If you don’t know one of these devices, log it out and change your password.</p>
      ${notice(message)}
      <ul class="devices">${devices.map(device).join('')}</ul>
      ${
        others.length > 0
          ? `<form method="post" action="/devices/logout-others"><button class="danger">Log out all other devices</button></form>`
          : `<p class="hint">This is the only device that is logged in.</p>`
      }
    </main>`,
  )
}

/** @param {import('sessile').UserSession} session */
function device({ handle, created, lastSeen, about, current }) {
  const { agent = '', address = '' } = /** @type {{ agent?: string, address?: string }} */ (about ?? {})
  const { name, icon } = describeAgent(agent)
  return `<li class="card device${current ? ' current' : ''}">
    <span class="icon" aria-hidden="true">${icon}</span>
    <div class="facts">
      <h2>${escape(name)}${current ? ' <span class="badge">This device</span>' : ''}</h2>
      <p>${escape(address)} · ${current ? 'active now' : `active ${ago(lastSeen)}`}</p>
      <p class="hint">Logged in <time datetime="${created.toISOString()}">${ago(created)}</time></p>
    </div>
    ${
      current
        ? ''
        : `<form method="post" action="/devices/${encodeURIComponent(handle)}/logout">
      <button aria-label="Log out ${escape(name)}">Log out</button>
    </form>`
    }
  </li>`
}

const BROWSERS = /** @type {const} */ ([
  ['Edg/', 'Edge'],
  ['OPR/', 'Opera'],
  ['Firefox/', 'Firefox'],
  ['Chrome/', 'Chrome'],
  ['Safari/', 'Safari'],
  ['curl/', 'curl'],
])
const SYSTEMS = /** @type {const} */ ([
  ['iPhone', 'iPhone', true],
  ['iPad', 'iPad', true],
  ['Android', 'Android', true],
  ['Windows', 'Windows', false],
  ['Mac OS X', 'macOS', false],
  ['Linux', 'Linux', false],
])

/** What people call their device, as well as a user agent tells. @param {string} agent */
function describeAgent(agent) {
  const [, browser = 'An unknown browser'] = BROWSERS.find(([mark]) => agent.includes(mark)) ?? []
  const [, system, mobile] = SYSTEMS.find(([mark]) => agent.includes(mark)) ?? []
  return { name: system ? `${browser} on ${system}` : browser, icon: mobile ? PHONE : LAPTOP }
}

const LAPTOP = icon('<rect x="4" y="5" width="16" height="10" rx="1.5"/><path d="M2 19h20"/>')
const PHONE = icon('<rect x="7" y="3" width="10" height="18" rx="2"/><path d="M11 17.5h2"/>')

/** @param {string} shapes */
function icon(shapes) {
  const pen = 'fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round"'
  return `<svg viewBox="0 0 24 24" width="28" height="28" ${pen}>${shapes}</svg>`
}

const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' })
/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const UNITS = [
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
]

/** @param {Date} date */
function ago(date) {
  const ms = Date.now() - date.getTime()
  const [unit, length] = UNITS.find(([, each]) => ms >= each) ?? []
  return unit && length ? relative.format(-Math.floor(ms / length), unit) : 'just now'
}

/** @param {unknown} message */
function notice(message) {
  return message ? `<p class="notice" role="status">${escape(message)}</p>` : ''
}

/** @param {string} title @param {string} body */
function layout(title, body) {
  return `<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>${title}</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/style.css">
</head>
<body>${body}</body>
</html>`
}

/** @param {unknown} text */
function escape(text) {
  return String(text).replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`)
}

module.exports = { accountPage, loginPage }
