/** Calls per second over about `milliseconds`, after a warm-up of a fifth of that. @param batch calls between two looks at the clock */
export async function rate(milliseconds: number, call: () => unknown, batch = 16): Promise<number> {
  const run = async (duration: number): Promise<number> => {
    const start = performance.now();
    let calls = 0;
    while (performance.now() - start < duration) {
      for (let i = 0; i < batch; i++) await call();
      calls += batch;
    }
    return (calls * 1000) / (performance.now() - start);
  };
  await run(milliseconds / 5);
  return run(milliseconds);
}
