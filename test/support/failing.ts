import type { ContractCase } from '../../src/testing'

/** Runs every case, and answers the names of those that fail. */
export async function failing(cases: ContractCase[]): Promise<string[]> {
  const outcomes = await Promise.all(
    cases.map(async ({ group, name, run }) => {
      try {
        await run()
        return undefined
      } catch {
        return `${group}: ${name}`
      }
    }),
  )
  return outcomes.filter((name) => name !== undefined)
}
