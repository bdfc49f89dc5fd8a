// Times a piece of work in rounds, beside the least that could do the same, and prints medians.

/**
 * Nanoseconds of CPU time per operation: the median of `rounds`, each of at least 40 ms, after one to warm up.
 * CPU time and not that of the clock, because the machine may have other things to do.
 */
export function measure(work: () => number, rounds = 7): number {
  const results: number[] = [];
  for (let round = -1; round < rounds; round++) {
    let operations = 0;
    let elapsed = 0;
    const start = process.cpuUsage();
    while (elapsed < ROUND) {
      operations += work();
      const { user, system } = process.cpuUsage(start);
      elapsed = (user + system) * 1000;
    }
    if (round >= 0) results.push(elapsed / operations);
  }
  return median(results);
}

const ROUND = 40e6;

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

/** Heap bytes that are still held after `make` has run, for each of `count`. Run with `--expose-gc`, or it is rough. */
export function heldBytes(count: number, make: () => unknown): number {
  const before = heapUsed();
  const held = make();
  const after = heapUsed();
  return held === undefined ? 0 : (after - before) / count;
}

function heapUsed(): number {
  globalThis.gc?.();
  globalThis.gc?.();
  return process.memoryUsage().heapUsed;
}

/** One line: what was measured, how much, and how that compares to a floor. */
export function print(name: string, value: number, unit: string, floor?: number): void {
  const shown = value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(3);
  const ratio = floor === undefined ? '' : `${(value / floor).toFixed(2)} × floor`.padStart(16);
  console.log(`${name.padEnd(58)} ${shown.padStart(10)} ${unit.padEnd(10)}${ratio}`);
}
