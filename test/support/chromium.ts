import { existsSync } from 'node:fs'
import { chromium, type Browser } from 'playwright-core'

const CHROMIUM = '/usr/bin/chromium'

/** Whether the browser tests run; where there is no Chromium it is said what to install, and in CI that is a failure. */
export const hasChromium = existsSync(CHROMIUM) || Boolean(process.env['CI'])
if (!hasChromium) console.warn(`skipped: the browser tests, as there is no ${CHROMIUM}; apt-get install chromium`)

/** Every host below `.test` is this machine. */
export function launchChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--disable-background-networking',
      '--disable-component-update',
      '--host-resolver-rules=MAP *.test 127.0.0.1',
    ],
  })
}
