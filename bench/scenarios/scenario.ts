// What a scenario is, and what each of its runs tells.

import { setTimeout as sleep } from 'node:timers/promises';
import { type Reader, type RunOrder, type Served, startReader, type Usage, usageOf } from '../loads/lead.ts';
import type { Answer, Percentiles } from '../loads/reader.ts';
import { start } from '../loads/servers.ts';

export interface Scenario {
  readonly name: string;
  /** What is the same for all that are compared. */
  readonly constant: string;
  readonly shows: string;
  /** Whether it can be given several numbers of connections; others take one. */
  readonly takesSeveral?: boolean | undefined;
  /** Servers that it can be run with; the first is ours. */
  readonly peers: readonly string[];
  /** Its peers are no servers, but measured side by side in one process: why one cannot be; `undefined` when it can. */
  missing?(peer: string): string | undefined;
  /** Calls `note` after every single run. Repetitions go round: every peer once, then every peer again. */
  run(settings: Settings, note: (run: Run) => void): Promise<void>;
}

export interface Settings {
  /** Those of the scenario's that were asked for, and are to be had. */
  readonly peers: readonly string[];
  /** How often each is repeated. */
  readonly runs: number;
  /** The repetition to begin with; default 0. Those before it were run already. */
  readonly first?: number | undefined;
  /** In place of the scenario's own. */
  readonly connections?: readonly number[] | undefined;
  readonly batches?: readonly number[] | undefined;
  /** Of each event's data. */
  readonly payloads?: readonly number[] | undefined;
  /** As short as can be: shows that all works, and no figure to believe. */
  readonly isQuick: boolean;
}

export interface Run {
  readonly scenario: string;
  readonly peer: string;
  /** What differs within a scenario: `connections`, `batch`, … */
  readonly parameters: Readonly<Record<string, string | number>>;
  /** From 0. The same repetition of two peers is a pair, run one after the other. */
  readonly repetition: number;
  /** By names of `figures`. Empty where it is invalid. */
  readonly figures: Readonly<Partial<Record<Figure, number>>>;
  /** Why its figures are none: nothing was published, something was lost, the reader was the limit, … */
  readonly invalid?: string | undefined;
  /** What happened meanwhile. */
  readonly series?: readonly Series[] | undefined;
}

export interface Series {
  readonly name: string;
  readonly unit: string;
  /** What it was followed over; default `seconds`. */
  readonly over?: string | undefined;
  readonly points: readonly (readonly [number, number])[];
}

export interface FigureKind {
  readonly label: string;
  readonly unit: string;
  readonly better: 'lower' | 'higher';
}

export type Figure =
  | 'cpuPerDelivery'
  | 'userPerDelivery'
  | 'systemPerDelivery'
  | 'deliveriesPerSecond'
  | 'p50'
  | 'p90'
  | 'p99'
  | 'p999'
  | 'max'
  | 'rssPerConnection'
  | 'rssGrowth'
  | 'cpuPercent'
  | 'cpuPerConnect'
  | 'connectsPerSecond'
  | 'bytesPerDelivery'
  | 'nanoseconds'
  | 'heapBytes'
  | 'megabytesPerSecond'
  | 'seconds'
  | 'evenness';

/** Every figure there is. */
export const figures: Readonly<Record<Figure, FigureKind>> = {
  cpuPerDelivery: { label: 'CPU of the server per delivery', unit: 'µs', better: 'lower' },
  userPerDelivery: { label: 'of it in user mode', unit: 'µs', better: 'lower' },
  systemPerDelivery: { label: 'of it in the kernel', unit: 'µs', better: 'lower' },
  deliveriesPerSecond: { label: 'deliveries', unit: '/s', better: 'higher' },
  p50: { label: 'latency, half', unit: 'ms', better: 'lower' },
  p90: { label: 'latency, 90 of 100', unit: 'ms', better: 'lower' },
  p99: { label: 'latency, 99 of 100', unit: 'ms', better: 'lower' },
  p999: { label: 'latency, 999 of 1,000', unit: 'ms', better: 'lower' },
  max: { label: 'latency, the longest', unit: 'ms', better: 'lower' },
  rssPerConnection: { label: 'memory (RSS) per connection', unit: 'B', better: 'lower' },
  rssGrowth: { label: 'memory (RSS) grown', unit: 'MB', better: 'lower' },
  cpuPercent: { label: 'CPU, of one core', unit: '%', better: 'lower' },
  cpuPerConnect: { label: 'CPU per connection opened', unit: 'µs', better: 'lower' },
  connectsPerSecond: { label: 'connections opened', unit: '/s', better: 'higher' },
  bytesPerDelivery: { label: 'bytes on the wire per delivery', unit: 'B', better: 'lower' },
  nanoseconds: { label: 'CPU per operation', unit: 'ns', better: 'lower' },
  heapBytes: { label: 'heap held by each', unit: 'B', better: 'lower' },
  megabytesPerSecond: { label: 'read', unit: 'MB/s', better: 'higher' },
  seconds: { label: 'it took', unit: 's', better: 'lower' },
  evenness: { label: 'fullest second, of an even share', unit: '×', better: 'lower' },
};

/** A server with connections that were all seen to receive. */
export interface Stage {
  readonly server: Served;
  readonly reader: Reader;
  stop(): Promise<void>;
}

export interface StageOptions {
  readonly connections: number;
  readonly topics?: number | undefined;
  readonly bytes?: number | undefined;
  /** One connection in so many measures latency. */
  readonly sample?: number | undefined;
  readonly reader?: 'fastest' | 'node' | undefined;
  /** The reader looks once a millisecond, and is in no server's way: for CPU time, where latency is not asked for. */
  readonly isCalm?: boolean | undefined;
  /** As in `Opening`. */
  readonly path?: string | undefined;
  readonly isFirst?: boolean | undefined;
  /** For Node, where the server runs on that. */
  readonly flags?: readonly string[] | undefined;
}

/** Starts a server, opens the connections, and publishes until each of them has received. @throws when that fails. */
export async function stage(peer: string, options: StageOptions): Promise<Stage> {
  const empty = await emptyStage(peer, options.reader, options.flags);
  try {
    await fill(empty, options);
    return empty;
  } catch (error) {
    await empty.stop();
    throw error;
  }
}

/** A server, and nobody there yet. */
export async function emptyStage(
  peer: string,
  kind?: 'fastest' | 'node',
  flags?: readonly string[],
): Promise<Stage> {
  const [server, reader] = await Promise.all([start(peer, flags), startReader(kind)]);
  return { server, reader, stop: async () => void (await Promise.all([reader.stop(), server.stop()])) };
}

/** Opens connections and publishes until all that there are have received. @throws when they do not. */
export async function fill({ server, reader }: Stage, options: StageOptions): Promise<void> {
  const { connections: count, topics = 1, bytes = 100, sample = 16, isCalm = false, path, isFirst } = options;
  const { port } = server;
  await reader.ask({ do: 'calm', on: isCalm });
  const { open: before } = await reader.ask({ do: 'reset' });
  await reader.ask({ do: 'open', port, count, topics, bytes, sample, path, isFirst });
  await untilAnswered(reader, before + count, 200);
  for (let tries = 1; ; tries++) {
    await server.run({ topics, bytes });
    const { silent, open } = await reader.ask({ do: 'await', events: tries * (before + count) });
    if (open < before + count) throw new Error(`${open} of ${before + count} connections are open`);
    if (silent === 0) return;
    if (tries === 20) throw new Error(`${silent} of ${open} connections receive nothing`);
  }
}

/**
 * Waits until as many connections are answered, or none was for so many milliseconds: some servers answer only with
 * their first event.
 */
export async function untilAnswered(reader: Reader, connections: number, patience: number): Promise<Answer> {
  let seen = -1;
  for (let since = performance.now(); ; ) {
    const answer = await reader.ask({ do: 'lap' });
    if (answer.answered >= connections || performance.now() - since > patience) return answer;
    if (answer.answered > seen) since = performance.now();
    seen = answer.answered;
    await sleep(5);
  }
}

/** Stages, and stops in the end, whatever happens. */
export async function onStage(
  peer: string,
  options: StageOptions,
  play: (stage: Stage) => Promise<void>,
): Promise<void> {
  const set = await stage(peer, options);
  try {
    await play(set);
  } finally {
    await set.stop();
  }
}

/** As `measure` orders it, but not measured: compiled before it counts. */
export async function warm({ server, reader }: Stage, order: RunOrder, connections: number): Promise<void> {
  await reader.ask({ do: 'reset' });
  const { turns } = await server.run(order);
  await reader.ask({ do: 'await', events: turns * (order.batch ?? 1) * connections });
}

export interface Measured {
  readonly figures: Partial<Record<Figure, number>>;
  readonly invalid: string | undefined;
}

/**
 * Publishes as ordered, and tells what a delivery cost. Every event of every connection is checked: a run in which
 * one was lost, doubled or out of order has no figures, nor has one in which the reader was the limit.
 */
export async function measure(
  { server, reader }: Stage,
  order: RunOrder,
  connections: number,
): Promise<Measured> {
  await reader.ask({ do: 'reset' });
  const before = usageOf(server.pids());
  const { turns, elapsed } = await server.run(order);
  const stopped = performance.now();
  const expected = turns * (order.batch ?? 1) * connections;
  const answer = await reader.ask({ do: 'await', events: expected });
  const late = (performance.now() - stopped) * 1000;
  const after = usageOf(server.pids());
  const { events, latency } = answer;
  const invalid =
    complaint(answer, expected) ?? (late > elapsed / 10 + 50_000 ? 'the reader was the limit' : undefined);
  if (invalid !== undefined) return { figures: {}, invalid };
  return {
    figures: {
      ...costOf(before, after, events),
      deliveriesPerSecond: events / (elapsed / 1e6),
      bytesPerDelivery: answer.bytes / events,
      ...(latency.count > 0 ? latencyOf(latency) : {}),
    },
    invalid: undefined,
  };
}

export function costOf(
  before: Usage,
  after: Usage,
  deliveries: number,
): Record<'cpuPerDelivery' | 'userPerDelivery' | 'systemPerDelivery', number> {
  // The kernel divides its exact sum by ticks of 10 ms: what it says of a part may shrink.
  const user = Math.max(0, after.user - before.user);
  const total = after.user + after.system - before.user - before.system;
  return {
    cpuPerDelivery: total / deliveries,
    userPerDelivery: user / deliveries,
    systemPerDelivery: (total - user) / deliveries,
  };
}

export function latencyOf(latency: Percentiles): Record<'p50' | 'p90' | 'p99' | 'p999' | 'max', number> {
  const { p50, p90, p99, p999, max } = latency;
  return { p50, p90, p99, p999, max };
}

/** Of one core, while so many milliseconds passed. */
export function percentOf(before: Usage, after: Usage, elapsed: number): number {
  return (after.user - before.user + after.system - before.system) / elapsed / 10;
}

/** Frees what can be freed, and tells what is left in memory, in bytes. */
export async function settled(server: Served, milliseconds: number): Promise<number> {
  await server.gc();
  await sleep(milliseconds);
  await server.gc();
  return usageOf(server.pids()).rss;
}

/** For what takes long or hardly varies: no more repetitions than these. */
export function atMost(runs: number, settings: Settings): Settings {
  return { ...settings, runs: Math.min(runs, settings.runs) };
}

/** What is wrong with what was read, if anything. */
export function complaint(
  answer: { events: number; disorder: number; negative: number; lost: number },
  expected: number,
): string | undefined {
  if (expected === 0) return 'nothing was published';
  if (answer.events === 0) return 'nothing was delivered';
  if (answer.lost > 0) return `${answer.lost} connections were lost`;
  if (answer.events < expected) return `${expected - answer.events} of ${expected} events were not delivered`;
  if (answer.events > expected) return `${answer.events - expected} events too many were delivered`;
  if (answer.disorder > 0) return `${answer.disorder} events were lost, doubled or out of order`;
  if (answer.negative > 0) return `${answer.negative} events arrived before they were due`;
  return undefined;
}

/** Runs every peer once, then every peer again: what the machine does meanwhile befalls all alike. */
export async function repeat(
  { peers, runs, first = 0 }: Settings,
  run: (peer: string, repetition: number) => Promise<void>,
): Promise<void> {
  for (let repetition = first; repetition < runs; repetition++) {
    for (const peer of peers) await run(peer, repetition);
  }
}
