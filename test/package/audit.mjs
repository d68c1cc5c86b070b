// npm run audit: fails when a package that users get along with the library has a known vulnerability.
import { spawnSync } from 'node:child_process'

const { stdout } = spawnSync('npm', ['audit', '--omit=dev', '--json'], {
  encoding: 'utf8',
  shell: process.platform === 'win32',
})
const { metadata, message, statusCode, vulnerabilities } = JSON.parse(stdout)

if (metadata) {
  for (const { name, range, severity, via } of Object.values(vulnerabilities)) {
    const why = via.map((cause) => (typeof cause === 'string' ? cause : `${cause.title}, ${cause.url}`)).join('; ')
    console.error(`${name} ${range}: ${severity}: ${why}`)
  }
  // The library itself is among them.
  console.log(`${metadata.vulnerabilities.total} known vulnerabilities in ${metadata.dependencies.prod - 1} packages`)
  process.exitCode = metadata.vulnerabilities.total > 0 ? 1 : 0
} else if (statusCode === 404 || statusCode === 405) {
  console.warn(`NOT AUDITED: this npm registry does not audit (${message}). Run it again with one that does`)
} else {
  throw new Error(`npm audit failed: ${message}`)
}
