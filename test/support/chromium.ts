import { chromium, type Browser } from 'playwright-core'
import { describeWithProgram } from './servers'

const CHROMIUM = '/usr/bin/chromium'

/** `describe` for tests in a browser. */
export function describeInChromium(name: string, body: () => void): void {
  describeWithProgram(CHROMIUM, 'chromium', name, body)
}

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
