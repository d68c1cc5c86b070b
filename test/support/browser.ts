import type { Express } from 'express'
import { settled } from './app'
import { exchange, type Received } from './exchange'
import { cookieHeader } from './set-cookie'

/** The cookies of one browser. */
export interface Jar {
  cookie?: string
}

/** Visits a page of an app with the cookies of a browser, which gets those of the answer. */
export async function visit(app: Express, url: string, jar: Jar): Promise<Received> {
  const answer = await exchange(app, { url, headers: jar.cookie ? { cookie: jar.cookie } : {} })
  if (answer.headers.some(([name]) => name === 'set-cookie')) {
    jar.cookie = cookieHeader(Object.fromEntries(answer.headers))
  }
  return answer
}

/** The same, and lets everything happen that the answer did not wait for. */
export async function visitAndSettle(app: Express, url: string, jar: Jar): Promise<Received> {
  const answer = await visit(app, url, jar)
  await settled()
  return answer
}

/** What an app has answered: of JSON, the value. */
export function contentOf({ body }: Received): unknown {
  try {
    return JSON.parse(body) as unknown
  } catch {
    return body
  }
}
