// Times work in one process, beside the least code that could do the same.
//
//   npx tsx bench/encode.bench.ts [--rounds 7] [--round 40]

import { realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Figure, figures } from './scenarios/scenario.ts';

/** How many rounds work is timed, and the least milliseconds of CPU time of each. */
export interface Effort {
  readonly rounds: number;
  readonly round: number;
}

/** One measured value: the case, the peer and the figure. */
export interface Measurement {
  readonly case: string;
  /** `sluice`, another library, or the floor. */
  readonly peer: string;
  readonly figure: Figure;
  readonly value: number;
  /** Parameters that distinguish it from other measurements of the case. */
  readonly with?: Readonly<Record<string, string | number>> | undefined;
}

/** What each `*.bench.ts` exports as `bench`, for the scenario `micro`. */
export type Bench = (effort: Effort) => Measurement[] | Promise<Measurement[]>;

/**
 * Nanoseconds of CPU time per operation: the median of all rounds, after one to warm up. CPU time and not
 * wall time, because other processes may run.
 */
export function measure(work: () => number, { rounds, round }: Effort): number {
  const results = [];
  for (let i = -1; i < rounds; i++) {
    const result = timeOf(work, round);
    if (i >= 0) results.push(result);
  }
  return median(results);
}

/** Measures several works in turns, so that a change of the machine's speed affects all of them. */
export function measureInTurns(works: readonly (() => number)[], { rounds, round }: Effort): number[] {
  const results = works.map((): number[] => []);
  for (let i = -1; i < rounds; i++) {
    for (const [at, work] of works.entries()) {
      const result = timeOf(work, round);
      if (i >= 0) results[at]!.push(result);
    }
  }
  return results.map(median);
}

function timeOf(work: () => number, round: number): number {
  const start = process.cpuUsage();
  let operations = 0;
  let elapsed = 0;
  while (elapsed < round * 1e6) {
    operations += work();
    const { user, system } = process.cpuUsage(start);
    elapsed = (user + system) * 1000;
  }
  return elapsed / operations;
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

/** Heap bytes that the result of `make` holds, divided by `count`. Imprecise without `--expose-gc`. */
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

/** Imports a package of `bench/package.json`, never one from the root. @throws when it is not installed. */
export async function load<T>(name: string): Promise<T> {
  const path = installed(name);
  if (path === undefined) throw new Error(`${name} is not installed: npm ci --prefix bench`);
  return (await import(path)) as T;
}

/** The file of a package in `bench/node_modules`, which may be a link to the folder of another checkout. */
export function installed(name: string): string | undefined {
  const here = dirname(fileURLToPath(import.meta.url));
  try {
    const path = createRequire(import.meta.url).resolve(name);
    return path.startsWith(realpathSync(join(here, 'node_modules'))) ? path : undefined;
  } catch {
    return undefined;
  }
}

/** Runs a bench and prints its measurements, if its file is the program that Node runs. */
export async function runAlone(url: string, bench: Bench): Promise<void> {
  if (process.argv[1] === undefined || realpathSync(process.argv[1]) !== fileURLToPath(url)) return;
  const number = { type: 'string' } as const;
  const { values } = parseArgs({ options: { rounds: number, round: number } });
  print(await bench({ rounds: Number(values.rounds ?? 7), round: Number(values.round ?? 40) }));
}

/** Prints a line for each measurement, with the ratio of sluice to the other peers. */
function print(measurements: readonly Measurement[]): void {
  for (const one of measurements) {
    const { unit, better } = figures[one.figure];
    const ours = measurements.find((other) => other.peer === 'sluice' && isBeside(one, other));
    const worth = better === 'lower' ? (ours?.value ?? 0) / one.value : one.value / (ours?.value ?? 0);
    const ratio = one.peer === 'sluice' || ours === undefined ? '' : `sluice: ${worth.toFixed(2)} ×`;
    const name = [one.case, ...Object.entries(one.with ?? {}).map((pair) => pair.join(' '))].join(', ');
    console.log(
      `${name.padEnd(64)} ${one.peer.padEnd(20)} ${shown(one.value).padStart(11)} ${unit.padEnd(6)} ${ratio}`,
    );
  }
}

function isBeside(one: Measurement, other: Measurement): boolean {
  const nameOf = (it: Measurement) => JSON.stringify([it.case, it.figure, it.with]);
  return nameOf(one) === nameOf(other);
}

function shown(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en') : value.toPrecision(3);
}
