import { IncomingMessage, type ServerResponse } from 'node:http'

/** Node 24 and later have a V8 that shares the hidden classes of such objects. */
const sharesHiddenClasses = Number.parseInt(process.versions.v8, 10) >= 13

/**
 * Express gives each request and response the prototypes of its application. Before version 13, V8 then makes a hidden
 * class anew for every property that anybody adds to one of them, and no inline cache hits again: most of what any
 * middleware costs. An object that had a property deleted is kept as a dictionary instead and costs none of that; so
 * one that Node sets is deleted and set again. See docs/decisions/hidden-classes.md.
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
