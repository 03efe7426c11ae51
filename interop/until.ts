/** Waits for something that no event tells. @throws Error that says what did not happen */
export async function until(what: string, condition: () => boolean, milliseconds = 20_000): Promise<void> {
  const end = performance.now() + milliseconds;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`${what}: not in ${milliseconds} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
