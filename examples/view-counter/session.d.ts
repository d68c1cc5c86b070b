import 'sessile'

declare module 'sessile' {
  /** What this app keeps of a visitor. */
  interface SessionData {
    views: Record<string, number>
  }
}
