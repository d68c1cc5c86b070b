import { times } from './numbers.mjs'

const SCENARIOS = [
  'returning, reads, 200 B',
  'returning, writes, 200 B',
  'returning, reads, 4.4 KB',
  'returning, writes, 4.4 KB',
  'returning, never looked at, 4.4 KB',
  'new visitor, untouched',
  'new visitor, logs in',
  'login (regenerate)',
  'logout (destroy)',
]

const LABELS = 240
const BARS = 420
const WIDTH = LABELS + BARS + 120
const ROW = 34
const TOP = 62

/** Added time of sessile per request where express-session's is 100 %, as an SVG for light and dark pages. */
export function plot(results) {
  const rows = SCENARIOS.map((name, index) => row(name, results[name], TOP + index * ROW))
  const height = TOP + SCENARIOS.length * ROW + 8
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-labelledby="title">
  <title id="title">CPU time that sessions add to a request: sessile beside express-session, which is 100 %</title>
  <style>
    text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #24292f }
    .heading { font-weight: 600; font-size: 15px }
    .quiet { fill: #6e7781 }
    .original { fill: #d0d7de }
    .sessile { fill: #0969da }
    .floor { stroke: #cf222e; stroke-width: 2 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .quiet { fill: #8d96a0 }
      .original { fill: #373e47 }
      .sessile { fill: #4493f8 }
      .floor { stroke: #ff7b72 }
    }
  </style>
  <text class="heading" x="0" y="18">CPU time that sessions add to a request (shorter is better)</text>
  <rect class="original" x="0" y="32" width="12" height="12"/><text class="quiet" x="18" y="43">express-session 1.19 = 100 %</text>
  <rect class="sessile" x="225" y="32" width="12" height="12"/><text class="quiet" x="243" y="43">sessile</text>
  <line class="floor" x1="312" y1="31" x2="312" y2="45"/><text class="quiet" x="320" y="43">written into the app by hand</text>
${rows.join('\n')}
</svg>
`
}

function row(name, { added, timesLess }, y) {
  const share = 1 / timesLess.median
  const width = (part) => (Math.min(part, 1.1) * BARS).toFixed(1)
  const floorAt = added.floor && (LABELS + (added.floor.median / added['express-session'].median) * BARS).toFixed(1)
  return [
    `  <text x="0" y="${y + 16}">${name}</text>`,
    `  <rect class="original" x="${LABELS}" y="${y}" width="${BARS}" height="22" rx="2"/>`,
    `  <rect class="sessile" x="${LABELS}" y="${y}" width="${width(share)}" height="22" rx="2"/>`,
    floorAt && `  <line class="floor" x1="${floorAt}" y1="${y - 2}" x2="${floorAt}" y2="${y + 24}"/>`,
    `  <text x="${LABELS + BARS + 8}" y="${y + 16}">${times(timesLess.median)}</text>`,
  ]
    .filter(Boolean)
    .join('\n')
}
