import 'sessile'

declare module 'sessile' {
  interface SessionData {
    /** Who is logged in. */
    user: string
  }
}
