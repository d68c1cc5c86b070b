/** Enough for all connections of a few processes' pools that want the same row at once. */
const MAX_TRIES = 12
/** In ms. */
const LONGEST_PAUSE = 100

/**
 * Issues a statement again that the server rolled back in favour of another one, as servers ask clients to do. Pauses of
 * random length keep those that collided from doing so again.
 * @param rolledBack the error codes by which the server says so
 * @param aborted the error code of a transaction of the application's own that was rolled back: the cause is thrown instead
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

/** Asks once more when the connection was cut: a mere read may be repeated. */
export async function repeatOnce<T>(read: () => Promise<T>, isCut: (error: unknown) => boolean): Promise<T> {
  try {
    return await read()
  } catch (error) {
    if (!isCut(error)) throw error
    return read()
  }
}
