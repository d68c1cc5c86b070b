import type session = require('../index')

/**
 * The data of a session, with what applications have declared to be in it. They declare it on the public face (`declare
 * module 'sessile'`), so this is the one place below that looks up there, and only for the type.
 */
export type SessionData = session.SessionData
