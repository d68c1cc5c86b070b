import { IncomingMessage, type ServerResponse } from 'node:http'

/** The V8 of Node 24 and later remembers the hidden classes of objects whose prototype was replaced. */
const sharesHiddenClasses = Number.parseInt(process.versions.v8, 10) >= 13

/**
 * Express gives each request and response the prototypes of its application. V8 before version 13 then makes a new hidden
 * class for every property that is added to one of them, and inline caches never hit: most of what any middleware costs.
 * V8 keeps an object that had a property deleted as a dictionary instead, which has none of that cost; so a property that
 * Node sets is deleted and set again. See docs/decisions/hidden-classes.md.
 */
export const leaveHiddenClasses: (req: IncomingMessage, res: ServerResponse) => void = sharesHiddenClasses
  ? () => undefined
  : (req, res) => {
      if (Object.getPrototypeOf(req) === IncomingMessage.prototype) return
      setAgain(req, 'complete')
      setAgain(res, 'sendDate')
    }

function setAgain<T extends object, K extends keyof T>(object: T, key: K): void {
  if (!Object.hasOwn(object, key)) return
  const value = object[key]
  Reflect.deleteProperty(object, key)
  object[key] = value
}
