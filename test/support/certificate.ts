import { execFileSync } from 'node:child_process'
import path from 'node:path'

/** Makes a certificate that nobody has signed for these hosts, in a folder: `key.pem` and `cert.pem`. */
export function makeCertificate(folder: string, ...hosts: string[]): { key: string; cert: string } {
  const names = hosts.map((host) => `DNS:${host}`).join()
  const subject = ['-subj', `/CN=${hosts[0]}`, '-addext', `subjectAltName=${names}`]
  const files = { key: path.join(folder, 'key.pem'), cert: path.join(folder, 'cert.pem') }
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-days',
      '1',
      '-keyout',
      files.key,
      '-out',
      files.cert,
      ...subject,
    ],
    { stdio: 'ignore' },
  )
  return files
}
