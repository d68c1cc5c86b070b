import { execFileSync } from 'node:child_process'

/** Builds `dist` once before the tests, for those that run the library as it is published: in processes of their own. */
export default function build(): void {
  execFileSync('npm', ['run', '--silent', 'build'], { stdio: 'inherit' })
}
