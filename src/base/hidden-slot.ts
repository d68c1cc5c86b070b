/** A base class whose "new" object is the one it is given, so that a subclass adds its private fields to that one. */
class Given {
  constructor(object: object) {
    return object
  }
}

/**
 * Makes a slot that keeps a value on an object where no key, no symbol and no proxy shows it: in a private field, added to
 * an object that was made elsewhere. Function constructors (which `Session.call(this)` needs) cannot declare private fields,
 * a property would show, and defining a hidden one or using a WeakMap costs ten times as much on every request. See
 * docs/decisions/hidden-state.md.
 */
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
