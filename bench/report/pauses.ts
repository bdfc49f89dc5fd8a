// Sums up collections of garbage: how many pauses of each kind, how long, and how many too long.

import type { Collection, Delay } from '../loads/pausing.ts';
import type { Percentiles } from '../loads/reader.ts';
import { number } from './format.ts';
import type { Table } from './tables.ts';

/** Milliseconds. */
export interface Pauses {
  readonly kind: string;
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  /** How many were longer than the limit; `undefined` where this is not known. */
  readonly over: number | undefined;
}

/** The pauses of each kind, most frequent first, and then of all together. */
export function pausesOf(collections: readonly Collection[], limit: number): Pauses[] {
  const kinds = new Map<string, number[]>();
  for (const { kind, milliseconds } of collections) {
    kinds.set(kind, [...(kinds.get(kind) ?? []), milliseconds]);
  }
  const each = [...kinds].toSorted(([, some], [, others]) => others.length - some.length);
  const all = collections.map(({ milliseconds }) => milliseconds);
  return [...each, ['all', all] as const].map(([kind, times]) => summed(`gc, ${kind}`, times, limit));
}

function summed(kind: string, times: readonly number[], limit: number): Pauses {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)] ?? 0;
  const over = sorted.filter((time) => time > limit).length;
  return { kind, count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1), over };
}

export function delayOf(delay: Delay): Pauses {
  return { kind: 'delay of the event loop', ...delay };
}

export function latencyOf({ count, p50, p99, max }: Percentiles): Pauses {
  return { kind: 'latency of the live readers', count, p50, p99, max, over: undefined };
}

export function pausesTable(all: readonly Pauses[], limit: number): Table {
  const head = ['kind', 'count', 'p50 (ms)', 'p99 (ms)', 'max (ms)', `over ${limit} ms`];
  const rows = all.map(({ kind, count, p50, p99, max, over }) => ({
    cells: [
      kind,
      count.toLocaleString('en'),
      ...[p50, p99, max].map(number),
      over?.toLocaleString('en') ?? '–',
    ],
    isOurs: false,
  }));
  return { head, rows, names: 1 };
}
