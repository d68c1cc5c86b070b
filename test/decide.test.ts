import { describe, expect, test } from 'vitest'
import { decide, type Policy, type Situation } from '../src/request/decide'

/** A returning visitor whose session is in the store as it is. */
const RETURNING: Situation = {
  gone: false,
  unset: false,
  hasId: true,
  presented: true,
  changed: false,
  settingsChanged: false,
  saved: true,
  everSaved: true,
  oldSecret: false,
  renewed: false,
  expires: true,
}
const CHANGED = { ...RETURNING, changed: true, saved: false }
const NEW = { ...RETURNING, presented: false, saved: false, everSaved: false }
const NEW_AND_CHANGED = { ...NEW, changed: true }
const QUIET: Policy = { saveUninitialized: false, rolling: false, unset: 'keep' }

describe('what the end of a response does', () => {
  test.each<[string, Situation, Partial<Policy>, string, boolean]>([
    ['returning, unchanged', RETURNING, {}, 'touch', false],
    ['returning, unchanged, rolling', RETURNING, { rolling: true }, 'touch', true],
    ['returning, not stored as it is (resave)', { ...RETURNING, saved: false }, {}, 'save', false],
    ['returning, changed', CHANGED, {}, 'save', true],
    ['returning, changed, without an expiry', { ...CHANGED, expires: false }, {}, 'save', false],
    ['returning, changed and saved by hand', { ...CHANGED, saved: true }, {}, 'touch', true],
    ['returning, settings changed', { ...RETURNING, settingsChanged: true, saved: false }, {}, 'save', true],
    ['returning, signed by an older secret', { ...RETURNING, oldSecret: true }, {}, 'touch', true],
    ['returning, given a new token', { ...RETURNING, renewed: true }, {}, 'touch', true],
    ['destroyed by the request', { ...RETURNING, gone: true, unset: true }, { unset: 'destroy' }, 'nothing', false],
    ['shut out, and changed', { ...CHANGED, gone: true }, { rolling: true }, 'nothing', false],
    ['new, untouched', NEW, {}, 'nothing', false],
    ['new, untouched, saveUninitialized', NEW, { saveUninitialized: true }, 'save', true],
    ['new, untouched, rolling', NEW, { rolling: true }, 'nothing', false],
    ['new, changed', NEW_AND_CHANGED, {}, 'save', true],
    ['new, changed, without an expiry', { ...NEW_AND_CHANGED, expires: false }, {}, 'save', true],
    ['new, changed and saved by hand', { ...NEW_AND_CHANGED, saved: true, everSaved: true }, {}, 'nothing', true],
    ['an ID that is no string', { ...CHANGED, hasId: false }, { rolling: true }, 'nothing', false],
    ['unset, to keep', { ...RETURNING, unset: true }, {}, 'nothing', false],
    ['unset, to destroy', { ...RETURNING, unset: true }, { unset: 'destroy', rolling: true }, 'destroy', false],
  ])('%s', (_, situation, policy, action, setCookie) => {
    const decision = decide(situation, { ...QUIET, ...policy })
    expect(decision).toMatchObject({ action, setCookie })
    if (setCookie) expect(decision.reason).not.toBe('')
  })
})
