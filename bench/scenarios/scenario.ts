// Defines scenarios, their settings, their runs, and the figures that runs have.

import type { Commit } from '../loads/commit.ts';

export interface Scenario {
  readonly name: string;
  /** What is the same for all servers that are compared. */
  readonly constant: string;
  readonly shows: string;
  /** What stands for the scenario where a report says what came out; default the first of most servers. */
  readonly headlines?: readonly Headline[] | undefined;
  /** Whether `--connections` may be several numbers. */
  readonly takesSeveral?: boolean | undefined;
  /** Whether all peers are up at the same time and measured in turns, and not one after the other. */
  readonly isTogether?: boolean | undefined;
  /** The servers that it can run with; the first is ours. */
  readonly peers: readonly string[];
  /** `micro`: what `--bench` can name. */
  readonly benches?: readonly string[] | undefined;
  /** Where its peers are no servers: why one cannot run; `undefined` when it can. */
  missing?(peer: string): string | undefined;
  /** Calls `note` after every single run. Repetitions go round: every peer once, then every peer again. */
  run(settings: Settings, note: (run: Run) => void): Promise<void>;
}

export interface Headline {
  /** Parameters of the runs; others of a run may be anything. */
  readonly where: Run['parameters'];
  /** Default the most important one. */
  readonly figure?: Figure | undefined;
}

export interface Settings {
  /** Those of the scenario's peers that were chosen and can run. */
  readonly peers: readonly string[];
  /** Repetitions of each peer. */
  readonly runs: number;
  /** The repetition to begin with; default 0. */
  readonly first?: number | undefined;
  /** Replaces the scenario's own. */
  readonly connections?: readonly number[] | undefined;
  readonly batches?: readonly number[] | undefined;
  /** Bytes of each event's data. */
  readonly payloads?: readonly number[] | undefined;
  /** Benches of single modules; default all. */
  readonly benches?: readonly string[] | undefined;
  /** As short as possible: checks that everything works; the figures mean nothing. */
  readonly isQuick: boolean;
  /** The other commit from which some peers are: `sluice@35312b5`. */
  readonly against?: Commit | undefined;
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
  /** Why it has no figures: nothing was published, an event was lost, the reader was the limit, … */
  readonly invalid?: string | undefined;
  /** Values over the time of the run. */
  readonly series?: readonly Series[] | undefined;
}

export interface Series {
  readonly name: string;
  readonly unit: string;
  /** The unit of the first coordinate; default `seconds`. */
  readonly over?: string | undefined;
  /** Default `lower`. */
  readonly better?: 'lower' | 'higher' | undefined;
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
  | 'heldPerConnection'
  | 'rssGrowth'
  | 'cpuPercent'
  | 'cpuPerConnect'
  | 'cpuPerMissed'
  | 'connectsPerSecond'
  | 'eventsPerSecond'
  | 'cpuPerEvent'
  | 'redisCpuPerEvent'
  | 'redisBytes'
  | 'bytesPerDelivery'
  | 'nanoseconds'
  | 'heapBytes'
  | 'heldBytes'
  | 'megabytesPerSecond'
  | 'seconds'
  | 'evenness';

/** Every figure, in the order of the tables. */
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
  heldPerConnection: { label: 'of it held: heap and external memory', unit: 'B', better: 'lower' },
  rssGrowth: { label: 'memory (RSS) grown', unit: 'MB', better: 'lower' },
  cpuPercent: { label: 'CPU, of one core', unit: '%', better: 'lower' },
  cpuPerMissed: { label: 'CPU beyond connecting, per missed event', unit: 'ns', better: 'lower' },
  cpuPerConnect: { label: 'CPU per connection opened', unit: 'µs', better: 'lower' },
  connectsPerSecond: { label: 'connections opened', unit: '/s', better: 'higher' },
  eventsPerSecond: { label: 'events', unit: '/s', better: 'higher' },
  cpuPerEvent: { label: 'CPU of the process per event', unit: 'µs', better: 'lower' },
  redisCpuPerEvent: { label: 'CPU of Redis per event', unit: 'µs', better: 'lower' },
  redisBytes: { label: 'memory of Redis for each', unit: 'B', better: 'lower' },
  bytesPerDelivery: { label: 'bytes on the wire per delivery', unit: 'B', better: 'lower' },
  nanoseconds: { label: 'CPU per operation', unit: 'ns', better: 'lower' },
  heapBytes: { label: 'heap held by each', unit: 'B', better: 'lower' },
  heldBytes: { label: 'heap and external memory held by each', unit: 'B', better: 'lower' },
  megabytesPerSecond: { label: 'read', unit: 'MB/s', better: 'higher' },
  seconds: { label: 'it took', unit: 's', better: 'lower' },
  evenness: { label: 'fullest second, of an even share', unit: '×', better: 'lower' },
};

/** Our servers: `sluice`, the hub on `node:http`, and `server`, the reference server. */
export const OURS = 'sluice';
export function isOurs(peer: string): boolean {
  return peer === OURS || peer === 'server';
}

/** The name of one of ours as it was at another commit: `sluice@35312b5`. */
export function peerAt(peer: string, commit: string): string {
  return `${peer}@${commit}`;
}

/** The name without the commit. Scenarios treat one of our servers alike at any commit. */
export function kindOf(peer: string): string {
  return peer.split('@', 1)[0]!;
}

/**
 * Caps the repetitions of a scenario that takes long or hardly varies. Beside another commit there is no cap:
 * an interval from three pairs finds one figure in eight worse by chance, one from five pairs finds one in
 * thirty.
 */
export function atMost(runs: number, settings: Settings): Settings {
  return settings.against === undefined ? { ...settings, runs: Math.min(runs, settings.runs) } : settings;
}

/**
 * Runs every peer once, then every peer again, so that a change of the machine's speed affects all of them.
 */
export async function repeat(
  settings: Settings,
  run: (peer: string, repetition: number) => Promise<void>,
): Promise<void> {
  await repeatAll(settings, async (repetition) => {
    for (const peer of settings.peers) await run(peer, repetition);
  });
}

/** Runs all peers together, once per repetition. */
export async function repeatAll(
  { runs, first = 0 }: Settings,
  run: (repetition: number) => Promise<void>,
): Promise<void> {
  for (let repetition = first; repetition < runs; repetition++) await run(repetition);
}
