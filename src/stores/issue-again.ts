/** For all connections of a pool, and of a few processes, that want the same row at once. */
const MAX_TRIES = 12
const LONGEST_PAUSE = 100

/**
 * Issues a statement again that the server rolled back in favour of another one, as servers ask for, after pauses of
 * random length, for those who collided not to do so anew.
 * @param rolledBack the error codes by which the server says so
 * @param aborted the code of what then fails in a transaction of the application's own, which is told the cause instead
 */
export async function issueAgain<T>(
  issue: () => Promise<T>,
  rolledBack: readonly string[],
  aborted?: string,
): Promise<T> {
  let cause: unknown
  for (let tries = 1; ; tries++) {
    try {
      return await issue()
    } catch (error) {
      const { code = '' } = error as { code?: string }
      if (cause && code === aborted) throw cause
      if (tries === MAX_TRIES || !rolledBack.includes(code)) throw error
      cause = error
    }
    await new Promise((resolve) => setTimeout(resolve, Math.random() * Math.min(2 ** tries, LONGEST_PAUSE)))
  }
}
