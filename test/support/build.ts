import { execFileSync } from 'node:child_process'

/** Builds `dist` before the tests if it is not new: some run the library as it is published, in processes of their own. */
export default function build(): void {
  execFileSync(process.execPath, ['scripts/build.mjs', '--if-changed'], { stdio: 'inherit' })
}
