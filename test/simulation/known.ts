import type { Scenario } from './scenario'

/** Schedules that broke the rules once: those of version 1.20 by their names in its audit, then those that were found later. */
export const KNOWN: Readonly<Record<string, Scenario>> = {
  'F1: two steps of a login at once make no session that neither of them made': {
    requests: { A: { does: 'look a; set b' }, B: { does: 'set a; put b "b0"' } },
  },
  'F2: a logout stays one, though a command had failed while IDs were being hashed': {
    options: { hashIds: { migrate: true } },
    setup: 'plain',
    requests: { A: { does: 'look a' } },
    schedule: 'A A A A A!before',
  },
  'F7: a slow answer of another process does not undo a login': {
    options: { cookie: { maxAge: 86_400_000 } },
    requests: { A: { does: 'set a' }, B: { does: 'regenerate; set a', in: 2 } },
    schedule: 'A A B B B B B A A A',
  },
  'F8: a renewal that fails leaves no session that nobody can end': {
    options: { user: true, maxSessionsPerUser: 2, onSessionLimit: 'refuse' },
    setup: 'ada',
    requests: { A: { does: 'renew' } },
    schedule: 'A A A A A!before',
  },
  'F31: who brings a former cookie is not given the new one': { requests: { A: { does: 'renew' } } },

  'what a request has looked at before its save is still looked at after it': {
    requests: { A: { does: 'look b; set a' }, B: { does: 'look a; save; set b' } },
  },
  'what a request has looked at before its update is still looked at after it': {
    requests: { A: { does: 'look b; set a' }, B: { does: 'look a; update n; set b' } },
  },
  'the client is told its new token although what comes after the renewal cannot be stored': {
    requests: { A: { does: 'renew; set b' } },
    schedule: 'A A A A!before',
  },
  'so it is when an error page is sent in place of the answer': {
    options: { onSaveError: 'error' },
    requests: { A: { does: 'renew; set b' } },
    schedule: 'A A A A!before',
  },
  'a stream that begins after a renewal has the new token': { requests: { A: { does: 'renew; set b; stream' } } },
  'who logs out everywhere is told when the store does not answer': {
    options: { user: true },
    requests: { A: { does: 'endAll ada' } },
    schedule: 'A A A!lost',
  },
  'who asks for a session by its ID is told when the store does not answer': {
    requests: { A: { does: 'get' } },
    schedule: 'A A A!lost',
  },
  'of two who log in to one session at once, one that is overtaken takes the other out of no index': {
    options: { user: true },
    requests: { A: { does: 'login ada' }, B: { does: 'login ada' }, C: { does: 'set a' } },
    schedule: 'A B C A B C B C B A B A B B',
  },
  'a renewal that is overtaken and gives up leaves the session in the index of its user': {
    options: { user: true },
    requests: { A: { does: 'renew', from: 'phone' }, B: { does: 'renew', from: 'phone' } },
    schedule: 'A B A B B A A A!died',
  },
  'and asks the store for nothing': {
    options: { user: true },
    requests: { A: { does: 'renew', from: 'phone' }, B: { does: 'renew', from: 'phone' } },
    schedule: 'B A A B B A A A A!before',
  },
  'a stream whose cookie is confirmed, and whose session changes late, overwrites no other request': {
    options: { rolling: true },
    requests: { B: { does: 'put o {"x":0,"y":1}' }, C: { does: 'stream; set a' } },
  },
  'a request that has stored something sends no former cookie after a renewal': {
    options: { rolling: true },
    requests: { A: { does: 'update n; wait' }, B: { does: 'renew' } },
    schedule: 'A B A A A B B',
  },
  'nor one of a session that is gone': {
    options: { rolling: true },
    requests: { A: { does: 'update n; wait; update n' }, B: { does: 'renew', in: 2 } },
    schedule: 'A B A B A A',
  },
  'a new session that was stored is told to its client, although a later save fails': {
    requests: { A: { does: 'set a; save; set b', from: 'stranger' } },
    schedule: 'A A A!before',
  },
  'a login of which nobody knows whether it was stored stays in the index, however often it is tried': {
    options: { user: true, maxSessionsPerUser: 1 },
    split: true,
    requests: { A: { does: 'put o {"x":1,"y":0}' }, B: { does: 'login ada' } },
    schedule: 'B B A B B B2 A A A B B B2 B B2 B B B B B2 B B B2!after B B B B B!unheard',
  },
  'who gives a session to another user takes it out of no list in which it belongs again': {
    options: { user: true },
    requests: { A: { does: 'login bob', from: 'phone' }, B: { does: 'login ada', from: 'phone' } },
    schedule: 'A B A A A B B',
  },
  'a new session whose write is not answered is not stored over what its client has renewed meanwhile': {
    requests: { A: { does: 'renew', from: 'stranger' }, C: { does: 'set a; stream', from: 'stranger' } },
    schedule: 'C C2 C!lost',
  },
  'an answer that waits for a classic store sends no cookie that another has replaced meanwhile': {
    options: { rolling: true },
    store: 'classic',
    setup: 'flash',
    requests: { A: { does: 'renew' }, B: { does: 'take' } },
    schedule: 'B B',
  },
  'a login that gives up takes no entry away that another login of the session is about to need': {
    options: { user: true },
    requests: { B: { does: 'renew; login ada' }, C: { does: 'login ada' } },
    schedule: 'B C C C B B C C C B C C',
  },
  'who has gone on with a new session stays in it when the former one is ended': {
    options: { user: true },
    setup: 'ada',
    split: true,
    requests: { A: { does: 'regenerate; save' }, C: { does: 'endAll ada', from: 'stranger' } },
    schedule: 'A A A C C C C A A A',
  },
  'a save whose answer is lost, and that is tried again, loses no update of before': {
    options: { user: true },
    requests: { B: { does: 'update n' }, C: { does: 'login bob; save' } },
    schedule: 'C C C C!lost',
  },
}
