/**
 * Calls per second over about `milliseconds`.
 * @param batch calls between two looks at the clock
 * @param warmUp milliseconds that do not count: a fifth will do for what is compiled already
 */
export async function rate(
  milliseconds: number,
  call: () => unknown,
  batch = 16,
  warmUp: number = milliseconds / 5,
): Promise<number> {
  const run = async (duration: number): Promise<number> => {
    const start = performance.now();
    let calls = 0;
    while (performance.now() - start < duration) {
      for (let i = 0; i < batch; i++) await call();
      calls += batch;
    }
    return (calls * 1000) / (performance.now() - start);
  };
  await run(warmUp);
  return run(milliseconds);
}
