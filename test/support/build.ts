import { execFileSync } from 'node:child_process'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

const timeOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0

/** Builds `dist` before the tests if it is not new: some run the library as it is published, in processes of their own. */
export default function build(): void {
  const sources = readdirSync('src', { recursive: true, encoding: 'utf8' }).map((file) => join('src', file))
  const changed = Math.max(...[...sources, 'package.json', 'tsconfig.json', 'tsconfig.build.json'].map(timeOf))
  if (timeOf('dist/index.js') <= changed) execFileSync('npm', ['run', '--silent', 'build'], { stdio: 'inherit' })
}
