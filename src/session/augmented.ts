import type session = require('../index')

/**
 * What applications may add to: the data of a session, and options. They declare it on the public face (`declare module
 * 'sessile'`), so this is the one place below that looks up there, and only for the types.
 */
export type SessionData = session.SessionData
export type SessionOptions = session.SessionOptions
export type CookieOptions = session.CookieOptions
