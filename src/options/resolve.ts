import { warnOnce } from '../base/errors'
import { isRecordStore } from '../store/record-store'
import { checkOptions, nameOf } from './checks'
import type { SessionOptions } from './options'
import { optionsOfCall, STORE_TIMEOUT, type Given } from './recommended'
import { resolveSecrets, type Secret } from './secrets'

/** The options, checked, with the defaults filled in; one that has no default is `undefined`. */
export type ResolvedOptions = {
  readonly [Name in Exclude<keyof SessionOptions, 'secret' | 'key' | Optional>]: NonNullable<SessionOptions[Name]>
} & Readonly<Pick<SessionOptions, Optional>> & { readonly secrets: readonly Secret[] | undefined }

type Optional =
  'genid' | 'proxy' | 'store' | 'skip' | 'transport' | 'hashIds' | 'encryption' | 'user' | 'describe' | 'hints'

/** In ms. Node fires longer timers after 1 ms, so a longer timeout counts as none. */
const LONGEST_TIMER = 2 ** 31 - 1

/**
 * Checks what `session()` was called with, and fills in the defaults.
 * @throws OptionError that names the option which cannot be used
 */
export function resolveOptions(given: Given, deprecate: (message: string) => void): ResolvedOptions {
  const options = optionsOfCall(given)
  checkOptions(options)
  const { hashIds, resave, saveUninitialized, store, transport, unset } = options
  if (resave === undefined) deprecate('undefined resave option; provide resave option')
  if (saveUninitialized === undefined) {
    deprecate('undefined saveUninitialized option; provide saveUninitialized option')
  }
  const secrets = transport ? undefined : resolveSecrets(options.secret)
  if (!secrets && !transport) {
    deprecate('req.secret; provide secret option')
    if ('secret' in options) warnOfNoSecret()
  }
  const timeout = options.timeout ?? (store && !isRecordStore(store) ? 0 : STORE_TIMEOUT)

  return {
    secrets,
    name: nameOf(options),
    signName: options.signName ?? false,
    cookie: options.cookie || {},
    resave: resave === undefined || Boolean(resave),
    saveUninitialized: saveUninitialized === undefined || Boolean(saveUninitialized),
    rolling: Boolean(options.rolling),
    unset: unset || 'keep',
    genid: options.genid || undefined,
    proxy: typeof options.proxy === 'boolean' ? options.proxy : undefined,
    store: store || undefined,
    property: options.property ?? 'session',
    skip: options.skip ?? undefined,
    transport: transport ?? undefined,
    onSaveError: options.onSaveError ?? 'respond',
    onLoadError: options.onLoadError ?? 'error',
    onInvalidRecord: options.onInvalidRecord ?? 'error',
    conflict: options.conflict ?? 'merge',
    touchAfter: options.touchAfter ?? 0,
    timeout: timeout > LONGEST_TIMER ? 0 : timeout,
    idleTimeout: options.idleTimeout ?? 0,
    absoluteTimeout: options.absoluteTimeout ?? 0,
    renewalTimeout: options.renewalTimeout ?? 0,
    renewalGrace: options.renewalGrace ?? 10_000,
    onStaleId: options.onStaleId ?? 'ignore',
    hashIds: hashIds ?? undefined,
    encryption: options.encryption ?? undefined,
    user: options.user ?? undefined,
    describe: options.describe ?? undefined,
    maxSessionsPerUser: options.maxSessionsPerUser ?? 0,
    onSessionLimit: options.onSessionLimit ?? 'endOldest',
    hints: options.hints ?? undefined,
    clearCookie: options.clearCookie ?? false,
    noStore: options.noStore ?? false,
  }
}

/** No error, as cookie-parser may have one at `req.secret`; told in production, too, as every request fails otherwise. */
function warnOfNoSecret(): void {
  warnOnce(
    'SESSION_OPTION',
    'secret option is undefined or empty, and every request fails unless cookie-parser has a secret; is the environment ' +
      'variable set that it comes from?',
    'secret',
  )
}
