// What a process has in use, for tests that run one with `--expose-gc`.

/**
 * Bytes of the heap and of buffers that are in use. Collects garbage twice: V8 frees dead buffers in the
 * background, and counts them as in use until the next collection. After one collection, 2 to 9 MB of pages
 * that had been written long before were still counted.
 */
export async function usedBytes(): Promise<number> {
  globalThis.gc!();
  await new Promise((resolve) => setImmediate(resolve));
  globalThis.gc!();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
