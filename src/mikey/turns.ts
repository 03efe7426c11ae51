/** Runs steps one after the other in the order in which they were given, each with its own outcome. */
export type Turns = <T>(step: () => T | Promise<T>) => Promise<T>;

/**
 * Steps that wait for private keys must not overlap where they change the same state: the second would start from what the
 * first is about to replace.
 */
export function createTurns(): Turns {
  let last: Promise<unknown> = Promise.resolve();
  return (step) => {
    const turn = last.then(step);
    last = turn.catch(() => undefined);
    return turn;
  };
}
