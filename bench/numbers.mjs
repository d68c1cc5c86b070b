/** The median, the least and the greatest of some numbers. */
export function summary(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const median = sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  return { median, min: sorted[0], max: sorted.at(-1) }
}

/** Three significant digits. */
export function short(number) {
  if (number === undefined || number === null || Number.isNaN(number)) return '–'
  if (Math.abs(number) >= 100) return Math.round(number).toLocaleString('en-US')
  return String(Number(number.toPrecision(3)))
}

/** `median (min – max)` of a summary. */
export function spread(value) {
  return value ? `${short(value.median)} (${short(value.min)} – ${short(value.max)})` : '–'
}

export function times(number) {
  return number === undefined ? '–' : `${short(number)}×`
}

/** A Markdown table; the first column is text, the others are numbers. */
export function table(header, rows) {
  const cells = [header, header.map((_, column) => (column ? '---:' : '---')), ...rows]
  return cells.map((row) => `| ${row.join(' | ')} |`).join('\n')
}
