/** The median of some numbers, and between which the middle half of them lies. */
export function summary(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b)
  const at = (part) => {
    const place = part * (sorted.length - 1)
    const below = Math.floor(place)
    return sorted[below] + (place - below) * ((sorted[below + 1] ?? sorted[below]) - sorted[below])
  }
  return { median: at(0.5), low: at(0.25), high: at(0.75) }
}

/** Three significant digits. */
export function short(number) {
  if (number === undefined || number === null || Number.isNaN(number)) return '–'
  if (Math.abs(number) >= 100) return Math.round(number).toLocaleString('en-US')
  return String(Number(number.toPrecision(3)))
}

/** `median (low – high)` of a summary. */
export function spread(value) {
  return value ? `${short(value.median)} (${short(value.low)} – ${short(value.high)})` : '–'
}

export function times(number) {
  if (number === Infinity) return 'beyond measure'
  return number === undefined ? '–' : `${short(number)}×`
}

/** A Markdown table; the first column is text, the others are numbers. */
export function table(header, rows) {
  const cells = [header, header.map((_, column) => (column ? '---:' : '---')), ...rows]
  return cells.map((row) => `| ${row.join(' | ')} |`).join('\n')
}
