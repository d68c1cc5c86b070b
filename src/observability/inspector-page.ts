/** The page of the inspector. What it shows comes by events, and is put in as text: it may be what a client has sent. */
export function pageWith(nonce: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Sessions</title>
<link rel="icon" href="data:,">
<style nonce="${nonce}">${STYLE}</style>
<header>
  <h1>Sessions</h1>
  <p id="summary" role="status">Loading…</p>
  <label>Find <input id="find" type="search" placeholder="user, device, key"></label>
</header>
<main>
  <p id="failure" role="alert" hidden></p>
  <table id="live">
    <thead><tr><th>User<th>Device<th>Session<th>Created<th>Last seen<th>Ends<th>Size<th>Last decision<th><span class="unseen">End</span></thead>
    <tbody></tbody>
  </table>
  <p id="none" hidden>No sessions.</p>
  <section id="over" hidden>
    <h2>Ended while you were looking</h2>
    <table id="ended">
      <thead><tr><th>User<th>Device<th>Session<th>Ended<th>Why</thead>
      <tbody></tbody>
    </table>
  </section>
</main>
<script nonce="${nonce}">${SCRIPT}</script>
</html>
`
}

const STYLE = `
:root {
  --text: #1c2127; --soft: #56606b; --page: #f6f7f9; --card: #fff; --line: #dfe3e8; --accent: #0b62a8; --danger: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e6e9ed; --soft: #a3adb8; --page: #14171a; --card: #1d2125; --line: #343a41; --accent: #7cc0ff; --danger: #ff8a80;
  }
}
* { box-sizing: border-box }
[hidden] { display: none !important }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.45 system-ui, sans-serif }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .5rem 1.5rem; padding: 1rem 1.25rem }
h1 { margin: 0; font-size: 1.35rem }
h2 { margin: 2rem 0 .5rem; font-size: 1.05rem }
header p { margin: 0; flex: 1 1 16rem; color: var(--soft) }
input, button { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .3rem .6rem }
input { width: 14rem; max-width: 100% }
main { padding: 0 1.25rem 2rem }
#failure { border-left: 4px solid var(--danger); background: var(--card); margin: 0 0 1rem; padding: .5rem .75rem }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line); border-radius: 8px }
th, td { padding: .5rem .65rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
th { font-size: .8rem; font-weight: 600; color: var(--soft); white-space: nowrap }
tbody tr:last-child td { border-bottom: 0 }
td { overflow-wrap: anywhere }
td time, td .size, code, button { white-space: nowrap }
td small { display: block; color: var(--soft) }
td[data-label=User] { font-weight: 600 }
code { font: .9em ui-monospace, monospace }
button { cursor: pointer; color: var(--danger); border-color: currentColor }
button:hover { background: var(--danger); color: var(--card) }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
@media (max-width: 60rem) {
  header label, header input { width: 100% }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
  table, tbody, tr, td { display: block }
  table { background: none; border: 0 }
  tr { background: var(--card); border: 1px solid var(--line); border-radius: 8px; margin-bottom: .75rem; padding: .35rem .75rem }
  td { display: flex; gap: .75rem; padding: .25rem 0; border: 0 }
  td::before { content: attr(data-label); flex: 0 0 6.5rem; color: var(--soft); font-weight: 400 }
  td > div { min-width: 0 }
  td button { width: 100%; padding: .5rem }
}
`

const SCRIPT = `
const base = location.pathname.replace(/\\/$/, '')
const at = (id) => document.getElementById(id)
const texts = new Intl.RelativeTimeFormat('en', { numeric: 'auto', style: 'short' })
const UNITS = [['day', 864e5], ['hour', 36e5], ['minute', 6e4], ['second', 1e3]]
let snapshot

function since(ms) {
  const [unit, length] = UNITS.find(([, length]) => Math.abs(ms) >= length) ?? ['second', 1e3]
  return texts.format(Math.round(ms / length), unit)
}

function node(name, text = '') {
  return Object.assign(document.createElement(name), { textContent: text })
}

function time(ms) {
  if (ms === undefined) return node('span', '–')
  const date = new Date(ms)
  return Object.assign(node('time', since(ms - Date.now())), { dateTime: date.toISOString(), title: date.toLocaleString() })
}

/** What a browser calls itself, in two words; the whole of it is in the title. */
function device(about) {
  const agent = typeof about === 'string' ? about : about?.agent ?? about?.userAgent
  const [browser] = typeof agent === 'string' ? /Edg|OPR|Firefox|Chrome|Safari|curl/.exec(agent) ?? [] : []
  const [system] = typeof agent === 'string' ? /Android|iPhone|iPad|Windows|Mac OS X|Linux/.exec(agent) ?? [] : []
  const whole = about === undefined ? '' : typeof about === 'string' ? about : JSON.stringify(about)
  const names = { Edg: 'Edge', OPR: 'Opera', 'Mac OS X': 'macOS' }
  const short = browser ? [browser, system].filter(Boolean).map((name) => names[name] ?? name).join(' on ') : agent ?? whole
  const shown = Object.assign(node('span', short || '–'), { title: whole })
  return about?.address ? [shown, node('small', String(about.address))] : [shown]
}

function size(bytes) {
  return Object.assign(node('span', bytes < 1000 ? bytes + ' B' : (bytes / 1000).toFixed(1) + ' kB'), { className: 'size' })
}

const who = ({ user }) => user ?? 'nobody'
const said = (happening, ...rest) => happening ? [node('span', happening.what), node('small', happening.why), ...rest] : [node('span', '–')]

const COMMON = {
  User: (one) => [node('span', who(one))],
  Device: (one) => device(one.about),
  Session: (one) => [node('code', one.key), ...(one.data.length ? [node('small', one.data.join(', '))] : [])],
}
const LIVE = {
  ...COMMON,
  Created: (one) => [time(one.created)],
  'Last seen': (one) => [time(one.seen)],
  Ends: (one) => [time(one.ends)],
  Size: (one) => [size(one.bytes)],
  'Last decision': (one) => said(one.last),
}
const ENDED = { ...COMMON, Ended: (one) => [time(one.ended.at)], Why: (one) => said(one.ended) }

/** Rows stay the same elements, so that the focus stays where it is. */
function fill(body, sessions, columns, isLive) {
  const rows = new Map([...body.rows].map((row) => [row.dataset.handle, row]))
  sessions.forEach((one, n) => {
    const row = rows.get(one.handle) ?? made(one, columns, isLive)
    rows.delete(one.handle)
    Object.values(columns).forEach((cell, n) => {
      const next = node('div')
      next.append(...cell(one))
      const box = row.cells[n].firstChild
      if (box.innerHTML !== next.innerHTML) box.replaceWith(next)
    })
    if (isLive) row.querySelector('button').ariaLabel = 'End the session of ' + who(one) + ', ' + one.key
    if (body.rows[n] !== row) body.insertBefore(row, body.rows[n] ?? null)
  })
  for (const row of rows.values()) row.remove()
}

function made(one, columns, isLive) {
  const row = node('tr')
  row.dataset.handle = one.handle
  for (const label of [...Object.keys(columns), ...(isLive ? [''] : [])]) {
    const cell = row.insertCell()
    cell.dataset.label = label
    cell.append(node('div'))
  }
  if (isLive) {
    const button = node('button', 'End')
    button.onclick = () => end(one)
    row.lastChild.firstChild.append(button)
  }
  return row
}

async function end(one) {
  if (!confirm('End the session of ' + who(one) + '? Its client is logged out.')) return
  const answer = await fetch(base + '/end/' + one.handle, { method: 'POST' }).catch((error) => error)
  if (!answer.ok) tell(answer.status === 404 ? 'That session had ended already.' : 'It could not be ended: ' + (answer.statusText ?? answer))
}

function tell(text) {
  at('failure').textContent = text
  at('failure').hidden = !text
}

function show() {
  if (!snapshot) return
  const { live, ended, hasMore, isPartial } = snapshot
  const wanted = at('find').value.toLowerCase()
  const found = (one) => (who(one) + JSON.stringify(one.about ?? '') + one.key).toLowerCase().includes(wanted)
  fill(at('live').tBodies[0], live.filter(found), LIVE, true)
  fill(at('ended').tBodies[0], ended.filter(found), ENDED, false)
  const users = new Set(live.map(({ user }) => user).filter((user) => user !== undefined))
  at('summary').textContent = users.size + ' signed in, ' + live.length + (live.length === 1 ? ' session' : ' sessions') +
    (hasMore ? ' shown; there are more' : '') +
    (isPartial ? ' that this process has seen' : '')
  at('none').hidden = live.length > 0
  at('live').hidden = live.length === 0
  at('over').hidden = ended.length === 0
}

const events = new EventSource(base + '/events')
events.addEventListener('sessions', ({ data }) => {
  snapshot = JSON.parse(data)
  tell('')
  show()
})
events.addEventListener('failure', ({ data }) => tell('The store could not be read: ' + JSON.parse(data)))
events.onerror = () => tell('The connection was lost; what you see may be old.')
at('find').oninput = show
setInterval(show, 5000)
`
