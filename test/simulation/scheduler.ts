import { FAULTS, stepsOf, type Fault } from './scenario'
import type { Choice, Waiting } from './world'

export type Choose = (waiting: readonly Waiting[]) => Choice | undefined

/** By a text, as it was printed. A step that its request does not wait for is left out; after the last, as it comes. */
export function byText(schedule: string): Choose {
  const steps = stepsOf(schedule)
  return (waiting) => {
    for (let step = steps.shift(); step; step = steps.shift()) {
      const { actor, fault, place } = step
      const own = waiting.filter((one) => one.actor === actor)
      const one = own[Math.min(place, own.length - 1)]
      if (one) return { at: waiting.indexOf(one), fault }
    }
    return { at: 0 }
  }
}

/** Every order in which things can happen, one after the other. */
export class EveryOrder {
  #path: { at: number; of: number }[] = []
  #depth = 0

  readonly choose: Choose = (waiting) => {
    const step = (this.#path[this.#depth++] ??= { at: 0, of: 0 })
    step.of = waiting.length
    return { at: Math.min(step.at, waiting.length - 1) }
  }

  /** Leads to the next order; false when that was the last one. */
  next(): boolean {
    this.#path.length = this.#depth
    this.#depth = 0
    for (let last = this.#path.pop(); last; last = this.#path.pop()) {
      if (last.at + 1 >= last.of) continue
      this.#path.push({ at: last.at + 1, of: last.of })
      return true
    }
    return false
  }
}

const KINDS = Object.keys(FAULTS) as Fault[]

/** By chance; a store call goes wrong as often as `rate` says, and no more than twice. */
export function byChance(random: () => number, rate: number): Choose {
  let faults = 0
  return (waiting) => {
    const at = Math.floor(random() * waiting.length)
    const goesWrong = random() < rate && waiting[at]?.kind === 'call' && faults < 2
    if (!goesWrong) return { at }
    faults++
    return { at, fault: KINDS[Math.floor(random() * KINDS.length)] }
  }
}
