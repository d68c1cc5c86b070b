/**
 * Keeps a value on an object where no key, no symbol and no proxy shows it: in a private field, stamped onto an object
 * that was made elsewhere. Function constructors (which `Session.call(this)` needs) cannot declare private fields, a
 * property would show, and defining a hidden one or using a WeakMap costs ten times as much on every request.
 */
class Given {
  constructor(object: object) {
    return object
  }
}

/** Makes a private slot for values of one type. */
export function hiddenSlot<T>(): {
  set(object: object, value: T): void
  get(object: object): T | undefined
} {
  class Slot extends Given {
    #value: T

    constructor(object: object, value: T) {
      super(object)
      this.#value = value
    }

    static set(object: object, value: T): void {
      if (#value in object) object.#value = value
      else new Slot(object, value)
    }

    static get(object: object): T | undefined {
      return #value in object ? object.#value : undefined
    }
  }
  return Slot
}
